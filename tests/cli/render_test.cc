#include "cli/render.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "ir/base/diag_code.h"

namespace policyc::cli {
namespace {

class RenderTest : public ::testing::Test {
 protected:
  RenderTest() {
    file_ = sources_.add("dir/a b.yaml",
                         "kind: X\nname: \"\xE6\x97\xA5"
                         "b\" # c\n\tz: 1\n");
  }

  Diagnostic& add(std::uint32_t begin, std::uint32_t end,
                  const std::string& message = "wrong `x`") {
    Diagnostic d;
    d.code = DiagCode::YamlSyntax;
    d.severity = Severity::Error;
    d.message = message;
    d.range = {file_, begin, end};
    list_.push_back(d);
    return list_.back();
  }
  std::string out(Format format) {
    std::ostringstream stream;
    render({sources_, list_, {1, 2, 3, 0, 0}}, format, {}, stream);
    return stream.str();
  }

  SourceMap sources_;
  FileId file_ = 0;
  std::vector<Diagnostic> list_;
};

TEST_F(RenderTest, TextPointsAtTheRange) {
  Diagnostic& d = add(6, 7);
  d.policy = PolicyRef{"NetworkPolicy", "x", "n"};
  d.rule = "spec.ingress[0]";
  d.labels.push_back({{file_, 0, 4}, "the key"});
  d.notes = {"more"};
  d.help = "write Y";
  EXPECT_EQ(out(Format::Text),
            "dir/a b.yaml:1:7: error[POL0101]: wrong `x`\n"
            "    1 | kind: X\n"
            "      |       ^\n"
            "    1 | kind: X\n"
            "      | ---- the key\n"
            "  = in: NetworkPolicy/x/n, spec.ingress[0]\n"
            "  = note: more\n"
            "  = help: write Y\n");
}

TEST_F(RenderTest, MarksCountCellsNotBytes) {
  add(15, 18);  // the wide character
  EXPECT_EQ(out(Format::Text).substr(out(Format::Text).rfind('|')), "|        ^^\n");
}

TEST_F(RenderTest, TabsTakeFourCells) {
  add(26, 27);
  const std::string text = out(Format::Text);
  EXPECT_NE(text.find("    3 |     z: 1\n      |     ^\n"), std::string::npos) << text;
}

TEST_F(RenderTest, RangesOutsideTheFileDoNoHarm) {
  add(500, 600);
  add(7, 7);
  list_.push_back({});
  list_.back().code = DiagCode::NoPolicies;
  list_.back().message = "none";
  for (Format f :
       {Format::Text, Format::Json, Format::Sarif, Format::Github, Format::Gitlab, Format::Junit}) {
    EXPECT_FALSE(out(f).empty());
  }
}

TEST_F(RenderTest, LongLinesAreCut) {
  file_ = sources_.add("long.json", std::string(5000, 'x') + "HERE" + std::string(5000, 'y'));
  add(5000, 5004);
  const std::string text = out(Format::Text);
  EXPECT_LT(text.size(), 700U);
  EXPECT_NE(text.find("HERE"), std::string::npos);
  EXPECT_NE(text.find("^^^^"), std::string::npos);
}

TEST_F(RenderTest, NothingEscapesToTheTerminal) {
  add(0, 4, "bad \x1b[31m \xE2\x80\xAE and \xFF");
  EXPECT_EQ(out(Format::Text).find('\x1b'), std::string::npos);
  EXPECT_NE(out(Format::Text).find("\\u{1b}"), std::string::npos);
  EXPECT_NE(out(Format::Text).find("\\u{202e}"), std::string::npos);
}

TEST_F(RenderTest, Json) {
  Diagnostic& d = add(8, 12);
  d.layer = Layer::Schema;
  d.policy = PolicyRef{"NetworkPolicy", "x", "n"};
  d.fix = Fix{"rename", {{{file_, 8, 12}, "title"}}};
  d.witness = R"({"from":"a"})";
  const auto j = nlohmann::json::parse(out(Format::Json));
  EXPECT_EQ(j["version"], 1);
  const auto& first = j["diagnostics"][0];
  EXPECT_EQ(first["code"], "POL0101");
  EXPECT_EQ(first["layer"], "schema");
  EXPECT_EQ(first["line"], 2);
  EXPECT_EQ(first["column"], 1);
  EXPECT_EQ(first["end_column"], 5);
  EXPECT_EQ(first["policy"]["namespace"], "x");
  EXPECT_EQ(first["fix"]["edits"][0]["text"], "title");
  EXPECT_EQ(first["witness"]["from"], "a");
  EXPECT_TRUE(first["proof"].is_null());
  EXPECT_EQ(j["summary"]["errors"], 1);
  EXPECT_EQ(j["summary"]["policies"], 1);
  EXPECT_EQ(j["summary"]["files"], 3);
}

TEST_F(RenderTest, Sarif) {
  add(8, 12).fix = Fix{"rename", {{{file_, 8, 12}, "title"}}};
  add(8, 12);
  const auto j = nlohmann::json::parse(out(Format::Sarif));
  EXPECT_EQ(j["version"], "2.1.0");
  const auto& run = j["runs"][0];
  EXPECT_EQ(run["tool"]["driver"]["rules"].size(), 1U);
  EXPECT_EQ(run["columnKind"], "unicodeCodePoints");
  const auto& result = run["results"][0];
  EXPECT_EQ(result["ruleId"], "POL0101");
  EXPECT_EQ(result["level"], "error");
  EXPECT_EQ(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
            "dir/a%20b.yaml");
  EXPECT_EQ(result["fixes"][0]["artifactChanges"][0]["replacements"][0]["insertedContent"]["text"],
            "title");
  EXPECT_NE(result["partialFingerprints"], run["results"][1]["partialFingerprints"]);
}

TEST_F(RenderTest, GithubEscapes) {
  add(8, 12, "50% of\nlines").notes = {"n"};
  EXPECT_EQ(out(Format::Github),
            "::error file=dir/a b.yaml,line=2,endLine=2,col=1,endColumn=5,title=POL0101::"
            "50%25 of%0Alines%0Anote: n\n");
}

TEST_F(RenderTest, Gitlab) {
  add(8, 12).severity = Severity::Warning;
  const auto j = nlohmann::json::parse(out(Format::Gitlab));
  EXPECT_EQ(j[0]["severity"], "minor");
  EXPECT_EQ(j[0]["location"]["lines"]["begin"], 2);
  EXPECT_EQ(j[0]["fingerprint"].get<std::string>().size(), 32U);
}

TEST_F(RenderTest, Junit) {
  EXPECT_NE(out(Format::Junit).find("tests=\"1\" failures=\"0\""), std::string::npos);
  add(8, 12, "a < b & \"c\"");
  EXPECT_NE(out(Format::Junit).find("message=\"a &lt; b &amp; &quot;c&quot;\""), std::string::npos);
}

TEST_F(RenderTest, FingerprintsSurviveMovedLines) {
  const Diagnostic a = add(0, 4);
  const Diagnostic b = add(8, 12);
  const Report report{sources_, list_, {}};
  EXPECT_EQ(fingerprint(report, a, 0), fingerprint(report, b, 0));
  EXPECT_NE(fingerprint(report, a, 0), fingerprint(report, a, 1));
}

TEST_F(RenderTest, Summary) {
  std::ostringstream stream;
  add(0, 1);
  render_summary({sources_, list_, {2, 2, 1, 3, 4}}, stream);
  EXPECT_EQ(stream.str(), "checked 2 policies in 1 file: 1 error, 3 fixed, 4 silenced\n");
}

}  // namespace
}  // namespace policyc::cli
