// Whole commands, run in this process.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/command.h"
#include "ir/base/diagnostic.h"
#include "ir/base/file.h"
#include "tests/input/temp_tree.h"

namespace policyc::cli {
namespace {

constexpr const char* kBroken =
    "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: a\n";
constexpr const char* kOldVersion =
    "apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nmetadata: {name: a, namespace: x}\n"
    "spec: {podSelector: {}}\n";

class RunTest : public ::testing::Test {
 protected:
  int run(std::vector<std::string> arguments, const std::string& input = "") {
    std::istringstream in(input);
    std::ostringstream out, err;
    Env env{in, out, err, false, false};
    const int code = run_policyc(arguments, env);
    out_ = out.str();
    err_ = err.str();
    return code;
  }
  bool printed(const std::string& text) const {
    return (out_ + err_).find(text) != std::string::npos;
  }

  test::TempTree tree_;
  std::string out_, err_;
};

TEST_F(RunTest, UsageErrorsExit2AndSuggest) {
  EXPECT_EQ(run({}), kUsage);
  EXPECT_EQ(run({"lnit"}), kUsage);
  EXPECT_TRUE(printed("did you mean `lint`?"));
  EXPECT_EQ(run({"lint", "--fromat", "json"}), kUsage);
  EXPECT_TRUE(printed("did you mean `--format`?"));
  EXPECT_EQ(run({"lint"}), kUsage);
  EXPECT_EQ(run({"lint", tree_.path("nope")}), kUsage);
  EXPECT_TRUE(printed("no such file or directory"));
  EXPECT_EQ(run({"lint", "--enforcement", "maybe", tree_.root()}), kUsage);
  EXPECT_EQ(run({"lint", "--level", "POL9999=off", tree_.root()}), kUsage);
  EXPECT_EQ(run({"lint", "--world", tree_.root(), tree_.root()}), kUsage);
}

TEST_F(RunTest, EveryCommandHasHelpWithExamples) {
  Cli cli;
  add_all_commands(cli);
  for (const std::string& name : cli.command_names()) {
    EXPECT_EQ(run({name, "--help"}), kOk) << name;
    EXPECT_NE(out_.find("Examples:"), std::string::npos) << name;
    EXPECT_EQ(run({"help", name}), kOk) << name;
  }
}

TEST_F(RunTest, FindingsExit1) {
  EXPECT_EQ(run({"lint", "-"}, kBroken), kFindings);
  EXPECT_TRUE(printed("<stdin>:"));
  EXPECT_TRUE(printed("1 error"));
}

TEST_F(RunTest, NoPoliciesIsANote) {
  EXPECT_EQ(run({"lint", "-"}, "a: 1\n"), kOk);
  EXPECT_TRUE(printed("note[POL0169]"));
}

TEST_F(RunTest, LevelsDecideTheExitCode) {
  EXPECT_EQ(run({"lint", "-"}, kOldVersion), kFindings);
  EXPECT_EQ(run({"lint", "--level", "POL0138=warning", "-"}, kOldVersion), kOk);
  EXPECT_EQ(run({"lint", "--level", "138=warning", "--deny-warnings", "-"}, kOldVersion),
            kFindings);
  EXPECT_EQ(run({"lint", "--level", "WrongApiVersion=off", "-"}, kOldVersion), kOk);
  EXPECT_FALSE(printed("POL0138"));
}

TEST_F(RunTest, JsonIsTheWholeOutput) {
  run({"lint", "--format", "json", "-"}, kOldVersion);
  const auto j = nlohmann::json::parse(out_, nullptr, false);
  ASSERT_TRUE(j.is_object());
  EXPECT_EQ(j["diagnostics"][0]["code"], "POL0138");
  EXPECT_EQ(j["diagnostics"][0]["layer"], "schema");
  EXPECT_EQ(j["summary"]["policies"], 1);
}

TEST_F(RunTest, FixRepairsTheFile) {
  tree_.write("a.yaml",
              "apiVersion: networking.k8s.io/v1\nkind: NetworkPolcy  # mind the gap\n"
              "metadata: {name: a, namespace: x}\nspec: {podSelector: {}}\n");
  EXPECT_EQ(run({"lint", tree_.root()}), kFindings);
  EXPECT_EQ(run({"lint", "--fix", tree_.root()}), kOk);
  EXPECT_TRUE(printed("1 fixed"));
  EXPECT_NE(tree_.read("a.yaml").find("kind: NetworkPolicy  # mind the gap"), std::string::npos);
  EXPECT_EQ(run({"lint", tree_.root()}), kOk);
  EXPECT_TRUE(printed("checked 1 policy in 1 file"));
}

TEST_F(RunTest, BaselineHidesOldFindings) {
  tree_.write("a.yaml", kOldVersion);
  const std::string file = tree_.path("baseline");
  EXPECT_EQ(run({"lint", "--write-baseline", file, tree_.root()}), kOk);
  EXPECT_EQ(run({"lint", "--baseline", file, tree_.root()}), kOk);
  EXPECT_TRUE(printed("1 silenced"));
  tree_.write("b.yaml", kOldVersion);
  EXPECT_EQ(run({"lint", "--baseline", file, tree_.root()}), kFindings);
  EXPECT_EQ(run({"lint", "--baseline", tree_.path("missing"), tree_.root()}), kUsage);
}

TEST_F(RunTest, ConfigurationFile) {
  const std::string config = tree_.path("config.yaml");
  tree_.write("config.yaml", "levels: {POL0138: off}\nnamespace: shop\nprofile: 1.17\n");
  EXPECT_EQ(run({"lint", "--config", config, "-"}, kOldVersion), kOk);
  tree_.write("config.yaml", "enforcment: always\n");
  EXPECT_EQ(run({"lint", "--config", config, "-"}, kOldVersion), kUsage);
  EXPECT_TRUE(printed("did you mean `enforcement`?"));
  tree_.write("config.yaml", "levels: {POL0138: loud}\n");
  EXPECT_EQ(run({"lint", "--config", config, "-"}, kOldVersion), kUsage);
}

TEST_F(RunTest, OtherCommandsStopAtUnreadableInput) {
  EXPECT_EQ(run({"dump", "ast", "-"}, kBroken), kUsage);
  EXPECT_EQ(run({"dump", "ast", "--keep-going", "-"}, kBroken), kOk);
}

TEST_F(RunTest, DumpAst) {
  EXPECT_EQ(run({"dump", "ast", "-"}, kOldVersion), kOk);
  EXPECT_TRUE(printed("kind: \"NetworkPolicy\""));
  EXPECT_TRUE(printed("accepted: false"));
}

TEST_F(RunTest, VerboseListsWhatWasSkipped) {
  run({"lint", "-v", "-"}, "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n");
  EXPECT_TRUE(printed("skipped <stdin>:1:1: kind `Secret` is not used"));
}

TEST_F(RunTest, TimingGoesToTheErrorStream) {
  run({"lint", "--timing", "-"}, kOldVersion);
  EXPECT_NE(err_.find("total"), std::string::npos);
  EXPECT_EQ(out_.find("total"), std::string::npos);
}

TEST_F(RunTest, ExplainKnowsEveryCode) {
  for (const DiagInfo& info : all_diagnostics()) {
    EXPECT_EQ(run({"explain", diag_name(info.code)}), kOk);
    EXPECT_TRUE(printed(std::string(info.title)));
    EXPECT_TRUE(printed("Remedy:")) << diag_name(info.code);
    EXPECT_FALSE(info.remedy.empty()) << diag_name(info.code);
    EXPECT_FALSE(info.meaning.empty()) << diag_name(info.code);
  }
  EXPECT_EQ(run({"explain", "POL9999"}), kUsage);
  EXPECT_EQ(run({"explain", "--list"}), kOk);
}

TEST_F(RunTest, CompletionNamesEveryCommand) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    EXPECT_EQ(run({"completion", shell}), kOk);
    EXPECT_TRUE(printed("lint"));
    EXPECT_TRUE(printed("explain"));
  }
  EXPECT_EQ(run({"completion", "tcsh"}), kUsage);
}

TEST(File, WritesWholeFilesOnly) {
  const test::TempTree tree;
  tree.write("a", "old");
  std::filesystem::permissions(
      tree.path("a"), std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  std::filesystem::create_symlink(tree.path("a"), tree.path("link"));
  EXPECT_FALSE(write_file_atomic(tree.path("link"), "new"));
  EXPECT_EQ(tree.read("a"), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(tree.path("link")));
  EXPECT_EQ(std::filesystem::status(tree.path("a")).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  EXPECT_TRUE(write_file_atomic(tree.path("no/such/folder"), "x"));
  EXPECT_FALSE(read_file(tree.root()));
  EXPECT_EQ(*read_file(tree.path("a")), "new");
  EXPECT_FALSE(read_file(tree.path("a"), 2));
}

}  // namespace
}  // namespace policyc::cli
