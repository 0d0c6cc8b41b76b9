// Every diagnostic is shown by a golden case, or has a test of its own that is named here.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "ir/base/diag_code.h"
#include "ir/base/diagnostic.h"

namespace policyc::house {
namespace {

namespace fs = std::filesystem;

// What no golden case can show on every machine, and the test that stands for it.
struct Elsewhere {
  const char* file;  // below tests/
  const char* test;  // "Suite, Name", as the source has it
};
const std::map<DiagCode, Elsewhere>& elsewhere() {
  static const std::map<DiagCode, Elsewhere> table = {
      // Millions of decisions: nothing for a folder of small files.
      {DiagCode::PolicyTooLarge, {"backend-bpf/image_test.cc", "Image, PolicyTooLargeIsRefused"}},
      // A file that was tampered with, run in the kernel.
      {DiagCode::ArtefactChanged,
       {"backend-bpf/replay_test.cc", "Replay, AFlippedDecisionIsAMismatch"}},
      // Authentication lent across proxy ranks, in worlds too large for a golden case.
      {DiagCode::NotInMapLayout,
       {"backend-bpf/two_bodies_test.cc", "TwoBodies, AgreeOnAMillionQuestions"}},
      // Needs the clang module.
      {DiagCode::HttpLeftToProxy,
       {"backend-bpf/http_test.cc", "HttpPlan, NamesWhatStaysWithTheProxy"}},
  };
  return table;
}

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// The codes of findings in a command's output, as text ("error[POL0120]:") or as JSON.
std::set<std::string> findings_in(const std::string& output) {
  static const std::regex form(R"((?:(?:error|warning|note)\[|"code": ")(POL\d{4}))");
  std::set<std::string> codes;
  for (std::sregex_iterator it(output.begin(), output.end(), form), end; it != end; ++it) {
    codes.insert((*it)[1]);
  }
  return codes;
}

std::set<std::string> shown_codes() {
  std::set<std::string> codes;
  const fs::path golden = fs::path(POLICYC_SOURCE_DIR) / "testdata" / "golden";
  for (const auto& entry : fs::recursive_directory_iterator(golden)) {
    const std::string name = entry.path().filename().string();
    if (name != "stdout" && name != "stderr") continue;
    codes.merge(findings_in(read(entry.path())));
  }
  return codes;
}

TEST(Gallery, EveryDiagnosticHasAGoldenCase) {
  const std::set<std::string> shown = shown_codes();
  for (const DiagInfo& info : all_diagnostics()) {
    const bool named = elsewhere().count(info.code) != 0;
    const bool golden = shown.count(diag_name(info.code)) != 0;
    EXPECT_TRUE(named || golden) << diag_name(info.code) << " (" << info.name
                                 << ") is in no stdout of testdata/golden";
    EXPECT_FALSE(named && golden) << diag_name(info.code)
                                  << " has a golden case now: take it off the list";
  }
}

TEST(Gallery, GoldenCasesShowOnlyCodesThatExist) {
  for (const std::string& code : shown_codes()) {
    EXPECT_TRUE(parse_diag_code(code)) << code;
  }
}

TEST(Gallery, NamedTestsExist) {
  for (const auto& [code, where] : elsewhere()) {
    const std::string text = read(fs::path(POLICYC_SOURCE_DIR) / "tests" / where.file);
    const std::regex form(fmt::format(R"(TEST(_F|_P)?\({}\))", where.test));
    EXPECT_TRUE(std::regex_search(text, form))
        << diag_name(code) << ": no TEST(" << where.test << ") in tests/" << where.file;
  }
}

TEST(GalleryChecker, ReadsBothForms) {
  EXPECT_EQ(
      findings_in("a.yaml:1:1: error[POL0101]: x\n  \"code\": \"POL0332\",\nPOL0144 null a\n"),
      (std::set<std::string>{"POL0101", "POL0332"}));
}

}  // namespace
}  // namespace policyc::house
