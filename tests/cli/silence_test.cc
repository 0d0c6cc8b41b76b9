#include "cli/silence.h"

#include <gtest/gtest.h>

#include "cli/fix.h"
#include "cli/suggest.h"
#include "ir/base/diag_code.h"
#include "tests/input/temp_tree.h"

namespace policyc::cli {
namespace {

class SilenceTest : public ::testing::Test {
 protected:
  void text(const std::string& text) { file_ = sources_.add("a.yaml", text); }
  // A finding at the first occurrence of `word`.
  void finding(const std::string& word, DiagCode code = DiagCode::YamlSyntax) {
    const auto begin = static_cast<std::uint32_t>(sources_.text(file_).find(word));
    sink_.report(code, {file_, begin, begin + 1}, "wrong");
  }
  std::size_t left(DiagCode code) const {
    std::size_t n = 0;
    for (const Diagnostic& d : sink_.all()) n += d.code == code ? 1U : 0U;
    return n;
  }

  SourceMap sources_;
  FileId file_ = 0;
  DiagnosticSink sink_;
};

TEST_F(SilenceTest, CommentAtTheEndOfTheLine) {
  text("a: 1\nb: 2  # policyc: allow(POL0101) known\nc: 3\n");
  finding("b: 2");
  finding("c: 3");
  EXPECT_EQ(apply_allow_comments(sources_, sink_), 1U);
  EXPECT_EQ(left(DiagCode::YamlSyntax), 1U);
  EXPECT_EQ(left(DiagCode::UnusedAllow), 0U);
}

TEST_F(SilenceTest, CommentAboveTheLine) {
  text("a: 1\n# policyc: allow(YamlSyntax)\n# more words\nb: 2\nc: 3\n");
  finding("b: 2");
  finding("c: 3");
  EXPECT_EQ(apply_allow_comments(sources_, sink_), 1U);
}

TEST_F(SilenceTest, CommentAboveTheDocumentCoversIt) {
  text("---\n# policyc: allow(pol101)\n\na: 1\nb: 2\n---\nc: 3\n");
  finding("a: 1");
  finding("b: 2");
  finding("c: 3");
  EXPECT_EQ(apply_allow_comments(sources_, sink_), 2U);
  EXPECT_EQ(left(DiagCode::YamlSyntax), 1U);
}

TEST_F(SilenceTest, SeparatorCanCarryIt) {
  text("a: 1\n--- # policyc: allow(POL0101)\nb: 2\n");
  finding("b: 2");
  EXPECT_EQ(apply_allow_comments(sources_, sink_), 1U);
}

TEST_F(SilenceTest, EachUselessCodeIsReported) {
  text("a: 1 # policyc: allow(POL0101, POL0160)\n");
  finding("a");
  EXPECT_EQ(apply_allow_comments(sources_, sink_), 1U);
  ASSERT_EQ(left(DiagCode::UnusedAllow), 1U);
  EXPECT_NE(sink_.all().back().message.find("POL0160"), std::string::npos);
}

TEST_F(SilenceTest, CommentsThatAreNotUnderstood) {
  text(
      "a: 1 # policyc: allow(POL9999)\nb: 1 # policyc: ignore\nc: 1 # policyc: allow()\n"
      "d: 1 # policyc: allow(POL0101\ne: \"x#policyc: y\"\n");
  apply_allow_comments(sources_, sink_);
  EXPECT_EQ(left(DiagCode::BadAllow), 4U);
}

TEST_F(SilenceTest, BaselineHidesWhatItKnowsAsOftenAsItKnowsIt) {
  text("a: 1\n");
  finding("a");
  finding("a");
  const std::string baseline = write_baseline(sources_, sink_.all());
  finding("a");
  const auto taken = apply_baseline(baseline, sources_, sink_);
  ASSERT_TRUE(taken);
  EXPECT_EQ(*taken, 2U);
  EXPECT_EQ(sink_.all().size(), 1U);
}

TEST_F(SilenceTest, BaselineMustBeOne) {
  for (const char* bad : {"", "[]", "{}", R"({"findings": 3})", R"({"findings": [3]})"}) {
    EXPECT_FALSE(apply_baseline(bad, sources_, sink_)) << bad;
  }
}

class FixTest : public ::testing::Test {
 protected:
  void file(const std::string& text) {
    tree_.write("a.yaml", text);
    file_ = sources_.add(tree_.path("a.yaml"), text);
  }
  void fix(std::vector<Edit> edits) {
    sink_.report(DiagCode::YamlSyntax, {file_, 0, 1}, "wrong").fix = Fix{"f", std::move(edits)};
  }
  Edit edit(std::uint32_t begin, std::uint32_t end, const std::string& text) const {
    return {{file_, begin, end}, text};
  }

  test::TempTree tree_;
  SourceMap sources_;
  FileId file_ = 0;
  DiagnosticSink sink_;
};

TEST_F(FixTest, EditsAreAppliedByPlace) {
  file("abc def ghi\n");
  fix({edit(8, 11, "G")});
  fix({edit(0, 3, "A"), edit(3, 3, "!")});
  fix({edit(0, 3, "A")});  // the same edit again
  const FixResult result = apply_fixes(sources_, sink_);
  EXPECT_EQ(result.fixed, 3U);
  EXPECT_TRUE(sink_.all().empty());
  EXPECT_EQ(tree_.read("a.yaml"), "A! def G\n");
}

TEST_F(FixTest, AnOverlappingFixWaits) {
  file("abcdef\n");
  fix({edit(0, 3, "X")});
  fix({edit(4, 5, "E"), edit(2, 4, "Y")});
  EXPECT_EQ(apply_fixes(sources_, sink_).fixed, 1U);
  EXPECT_EQ(sink_.all().size(), 1U);
  EXPECT_EQ(tree_.read("a.yaml"), "Xdef\n");
}

TEST_F(FixTest, ImpossibleEditsAreLeftAlone) {
  file("abc\n");
  fix({edit(2, 900, "X")});
  fix({{SourceRange{}, "X"}});
  EXPECT_EQ(apply_fixes(sources_, sink_).fixed, 0U);
  EXPECT_EQ(tree_.read("a.yaml"), "abc\n");
}

TEST_F(FixTest, AFileThatWouldReadWorseIsLeft) {
  file("{\"a\": 1}\n");
  fix({edit(1, 4, "b")});  // YAML still, JSON no longer
  const FixResult result = apply_fixes(sources_, sink_);
  EXPECT_EQ(result.fixed, 0U);
  ASSERT_EQ(result.problems.size(), 1U);
  EXPECT_NE(result.problems[0].find("left as it was"), std::string::npos);
  EXPECT_EQ(sink_.all().size(), 1U);
  EXPECT_EQ(tree_.read("a.yaml"), "{\"a\": 1}\n");
}

TEST_F(FixTest, NorIsYamlBroken) {
  file("a: [b]\n");
  fix({edit(5, 6, "")});
  EXPECT_EQ(apply_fixes(sources_, sink_).problems.size(), 1U);
  EXPECT_EQ(tree_.read("a.yaml"), "a: [b]\n");
}

TEST(Suggest, NearestName) {
  EXPECT_EQ(edit_distance("lnit", "lint"), 1U);
  EXPECT_EQ(nearest_name("lnit", {"lint", "diff"}), "lint");
  EXPECT_EQ(nearest_name("compile", {"lint", "diff"}), "");
}

}  // namespace
}  // namespace policyc::cli
