// Our automata against RE2: the same texts match in full.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "ir/automata/dfa.h"
#include "ir/l7_match.h"

namespace policyc::ir {
namespace {

Dfa dfa(std::string_view regex) {
  auto out = Dfa::from_regex(regex);
  EXPECT_TRUE(out) << regex << ": " << (out ? "" : out.error());
  return out ? *out : Dfa();
}

// ---- random expressions and texts

rc::Gen<std::string> piece() {
  return rc::gen::element<std::string>(
      "a", "b", "ab", "/", "0", "k", "S", "\\.", ".", "[a-c]", "[^a]", "[^/]", "\\d", "\\w", "\\s",
      "\\S", "\\W", "[[:alpha:]]", "[[:^digit:]]", "[\\d/-]", "[a-]", "[]a]", "[^]a]", "\xC3\xA9",
      "[\xC3\xA0-\xC3\xBF]", "[\\x{80}-\\x{10FFFF}]", "[\\x{7F0}-\\x{FFFF}]", "\\x41", "\\x{20AC}",
      "\\pN", "\\n", "\\Qa.b\\E", "\\101", "\\C", "^", "$", "\\A", "\\z", "\\b", "\\B", "(?i)",
      "(?s)", "(?m)", "(?-i)", "{", "a{,2}", "_", "-", "(?:)");
}

rc::Gen<std::string> expression(int depth) {
  if (depth == 0) return piece();
  return rc::gen::exec([depth]() -> std::string {
    const auto inner = [&] { return *expression(depth - 1); };
    switch (*rc::gen::inRange(0, 9)) {
      case 0:
        return inner() + "|" + inner();
      case 1:
      case 2:
        return inner() + inner();
      case 3:
        return "(" + inner() + ")*";
      case 4:
        return "(?:" + inner() + ")" + *rc::gen::element<std::string>("+", "?", "*?", "+?");
      case 5:
        return "(?P<n>" + inner() + ")" +
               *rc::gen::element<std::string>("{2}", "{0,2}", "{1,}", "{0}", "{1,3}?");
      case 6:
        return "(" + *rc::gen::element<std::string>("?i:", "?s:", "?m:", "?i-s:", "") + inner() +
               ")" + inner();
      case 7:
        return inner() + "." + *rc::gen::element<std::string>("*", "+") + inner();
      default:
        return *piece();
    }
  });
}

rc::Gen<std::string> text() {
  return rc::gen::map(rc::gen::container<std::vector<std::string>>(rc::gen::element<std::string>(
                          "a", "b", "c", "/", "0", "7", "k", "K", "s", "S", ".", "A", "_", "-", " ",
                          "\n", "\xC3\xA9", "\xE2\x84\xAA", "\xC5\xBF", "\xE2\x82\xAC", "\x80",
                          "\xC3", "\xED\xA0\x80", "\xF4\x90\x80\x80", "{", "ab", "a.b")),
                      [](const std::vector<std::string>& parts) {
                        std::string out;
                        for (std::size_t i = 0; i < parts.size() && i < 12; ++i) out += parts[i];
                        return out;
                      });
}

std::string mutated(std::string base) {
  const auto at = *rc::gen::inRange<std::size_t>(0, base.size() + 1);
  const std::string bit = *text();
  switch (*rc::gen::inRange(0, 4)) {
    case 0:
      return base.insert(at, bit);
    case 1:
      return at < base.size() ? base.erase(at, 1) : base;
    case 2:
      return base + base;
    default:
      if (at < base.size()) base[at] = static_cast<char>(*rc::gen::inRange(0, 256));
      return base;
  }
}

// Texts near the border of the language.
std::vector<std::string> border_texts(const Dfa& d) {
  std::vector<std::string> out = {"", *text(), *text(), *text()};
  for (const auto& w : {d.witness(), d.complement().witness()}) {
    if (!w) continue;
    out.push_back(*w);
    for (int i = 0; i < 4; ++i) out.push_back(mutated(*w));
  }
  return out;
}

RC_GTEST_PROP(Automata, MatchesWhatRe2Matches, ()) {
  // Three expressions a case: with the default 500 cases that is 1,500.
  for (int i = 0; i < 3; ++i) {
    const std::string regex = *expression(*rc::gen::inRange(0, 4));
    const auto d = Dfa::from_regex(regex);
    if (!d) continue;
    std::string error;
    if (!valid_regex(regex, &error)) RC_FAIL("RE2 refuses " + regex + ": " + error);
    for (const std::string& t : border_texts(*d)) {
      if (d->matches(t) != regex_matches(regex, t)) RC_FAIL(regex + " on '" + t + "'");
    }
  }
}

RC_GTEST_PROP(Automata, FewExpressionsAreRefused, ()) {
  int refused = 0;
  for (int i = 0; i < 20; ++i) {
    const std::string regex = *expression(2);
    if (!valid_regex(regex, nullptr)) continue;
    const auto r = parse_regex(regex);
    if (r) continue;
    ++refused;
    const bool named = r.error().find("Unicode properties") != std::string::npos ||
                       r.error().find("beyond ASCII") != std::string::npos ||
                       r.error().find("nothing to repeat") != std::string::npos;
    if (!named) RC_FAIL(regex + ": " + r.error());
  }
  RC_ASSERT(refused < 20);
}

RC_GTEST_PROP(Automata, OperationsAreThoseOfSets, ()) {
  const std::string left = *expression(2), right = *expression(2);
  const auto a = Dfa::from_regex(left), b = Dfa::from_regex(right);
  RC_PRE(bool{a} && bool{b});
  const auto both = Dfa::intersect(*a, *b), any = Dfa::unite(*a, *b), only = Dfa::subtract(*a, *b);
  RC_ASSERT(both && any && only);
  std::vector<std::string> texts = border_texts(*a);
  for (const std::string& t : border_texts(*b)) texts.push_back(t);
  for (const auto& w : {both->witness(), any->witness(), only->witness()}) {
    if (w) texts.push_back(*w);
  }
  for (const std::string& t : texts) {
    const bool in_a = regex_matches(left, t), in_b = regex_matches(right, t);
    RC_ASSERT(both->matches(t) == (in_a && in_b));
    RC_ASSERT(any->matches(t) == (in_a || in_b));
    RC_ASSERT(only->matches(t) == (in_a && !in_b));
    RC_ASSERT(a->complement().matches(t) == !in_a);
  }
  RC_ASSERT(includes(*b, *a) == only->empty());
  RC_ASSERT(disjoint(*a, *b) == both->empty());
  RC_ASSERT(counterexample(*a, *b) == only->witness());
  // One language, one value.
  RC_ASSERT((*a == *b) == (includes(*a, *b) && includes(*b, *a)));
  RC_ASSERT(*Dfa::unite(*only, *both) == *a);
}

TEST(Automata, MinimalFormsHaveTheKnownSizes) {
  EXPECT_EQ(dfa("").states(), 2U);
  EXPECT_EQ(dfa("a*").states(), 2U);
  EXPECT_EQ(dfa("(a|b)*abb").states(), 5U);  // the textbook's four, and the dead state
  EXPECT_EQ(dfa("(a|b)*abb").classes(), 3U);
  EXPECT_EQ(dfa("(?s)\\C*").states(), 1U);
  EXPECT_EQ(dfa("[^\\x00-\\x{10FFFF}]"), Dfa::nothing());
  EXPECT_EQ(dfa("a{3,5}|a{4,7}"), dfa("a{3,7}"));
  EXPECT_EQ(dfa("(?i)get"), dfa("[Gg][Ee][Tt]"));
  EXPECT_EQ(dfa("a\\bb"), Dfa::nothing());
  EXPECT_EQ(dfa("(?:/.*)?"), dfa("|/.*"));
}

TEST(Automata, AnswersQuestionsAboutPaths) {
  EXPECT_TRUE(includes(dfa("/api/.*"), dfa("/api/v1/users")));
  EXPECT_FALSE(includes(dfa("/api/v[0-9]/.*"), dfa("/api/.*")));
  EXPECT_EQ(counterexample(dfa("/api/.*"), dfa("/api/v[0-9]/.*")), "/api/");
  EXPECT_EQ(counterexample(dfa("/items/[a-z]+"), dfa("/items/a+")), "/items/b");
  EXPECT_TRUE(disjoint(dfa("/a.*"), dfa("/b.*")));
  EXPECT_EQ(dfa("GET|HEAD").witness(), "GET");
  EXPECT_EQ(dfa("[^/]{3}").witness(), "aaa");
  EXPECT_EQ(dfa("^a$b").witness(), std::nullopt);
}

TEST(Automata, RefusalsSayWhatAndWhere) {
  const auto reason = [](std::string_view regex) {
    const auto r = parse_regex(regex);
    return r ? "" : r.error();
  };
  EXPECT_EQ(reason("/a\\pL"), "Unicode properties are not supported at offset 2");
  EXPECT_EQ(reason("(?i)\xC3\xA9"),
            "characters beyond ASCII under (?i) are not supported at offset 6");
  EXPECT_EQ(reason("a(?=b)"), "unsupported group (? at offset 3");
  EXPECT_EQ(reason("(a)\\1"), "back references are not regular at offset 5");
  EXPECT_EQ(reason("a{2,1}"), "invalid repetition count at offset 6");
  EXPECT_EQ(reason("(a"), "missing ) at offset 2");
  EXPECT_EQ(reason(""), "");
}

TEST(Automata, GivesUpAtTheBudget) {
  // The n-th letter from the end needs 2^n states.
  const auto big = Dfa::from_regex("(a|b)*a(a|b){14}", 1000);
  ASSERT_FALSE(big);
  EXPECT_EQ(big.error(), "too large: more than 1000 states");
  EXPECT_FALSE(Dfa::from_regex("((a{1000}){1000}){1000}"));
  ASSERT_TRUE(Dfa::from_regex("(a|b)*a(a|b){7}", 1000));
}

// Every expression of the project's policies, taken from the text of the files.
std::set<std::string> policy_regexes() {
  std::set<std::string> out;
  for (const char* folder :
       {"/testdata", "/examples", "/../shared/conformance", "/../../shared/conformance"}) {
    const std::filesystem::path root = std::string(POLICYC_SOURCE_DIR) + folder;
    if (!std::filesystem::exists(root)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
      if (entry.path().extension() != ".yaml") continue;
      std::ifstream in(entry.path());
      for (std::string line; std::getline(in, line);) {
        for (const std::string_view key : {"path:", "method:", "host:"}) {
          const std::size_t at = line.find(key);
          if (at == std::string::npos) continue;
          std::string value = line.substr(at + key.size());
          const std::size_t first = value.find_first_not_of(" \"'");
          const std::size_t last = value.find_last_not_of(" \"'\r}");
          if (first != std::string::npos) out.insert(value.substr(first, last - first + 1));
        }
      }
    }
  }
  return out;
}

TEST(Automata, PoliciesRegexesMatchAsInRe2) {
  const std::set<std::string> all = policy_regexes();
  ASSERT_GT(all.size(), 5U);
  std::size_t judged = 0, valid = 0;
  for (const std::string& regex : all) {
    if (!valid_regex(regex, nullptr)) continue;
    ++valid;
    const auto d = Dfa::from_regex(regex);
    if (!d) continue;
    ++judged;
    for (const auto& w : {d->witness(), d->complement().witness()}) {
      if (!w) continue;
      for (std::size_t i = 0; i <= w->size(); ++i) {
        for (const char* bit : {"", "a", "/", "0", "?"}) {
          const std::string t =
              w->substr(0, i) + bit + w->substr(std::min(w->size(), i + (bit[0] == 'a')));
          ASSERT_EQ(d->matches(t), regex_matches(regex, t)) << regex << " on " << t;
        }
      }
    }
  }
  EXPECT_EQ(judged, valid);
}

}  // namespace
}  // namespace policyc::ir
