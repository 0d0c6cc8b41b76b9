// The automaton of a rule list against the rules themselves.
#include "ir/automata/http_head.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "ir/l7_match.h"
#include "tests/ir/http_gen.h"

namespace policyc::ir {
namespace {

HeadVerdict verdict(const Dfa& automaton, std::string_view bytes) {
  return static_cast<HeadVerdict>(automaton.label_of(bytes));
}

bool allowed(const std::vector<HttpRule>& rules, const HttpRequest& request) {
  return std::any_of(rules.begin(), rules.end(),
                     [&](const HttpRule& r) { return http_matches(r, request); });
}

RC_GTEST_PROP(HttpHead, PlainHeadsAreDecidedAsTheRulesSay, ()) {
  const auto rules = testing::some_rules();
  const auto automaton = http_head_automaton(rules);
  if (!automaton) RC_FAIL(automaton.error());
  for (int i = 0; i < 8; ++i) {
    const HttpRequest request = testing::some_request();
    const std::string head = testing::head_of(request);
    const HeadVerdict said = verdict(*automaton, head);
    if (said != (allowed(rules, request) ? HeadVerdict::Allow : HeadVerdict::Deny)) {
      RC_FAIL(head + "label " + std::to_string(static_cast<int>(said)));
    }
    // Neither a part of it nor more than it is decided.
    RC_ASSERT(verdict(*automaton, head.substr(0, head.size() - 1)) == HeadVerdict::Undecided);
    RC_ASSERT(verdict(*automaton, head + "x") == HeadVerdict::Undecided);
    RC_ASSERT(verdict(*automaton, head + head) == HeadVerdict::Undecided);
  }
}

RC_GTEST_PROP(HttpHead, MoreRulesAllowMore, ()) {
  std::vector<HttpRule> rules = testing::some_rules();
  const auto automaton = http_head_automaton(rules);
  if (!automaton) RC_FAIL(automaton.error());
  rules.emplace_back();
  const auto all = http_head_automaton(rules);
  RC_ASSERT(bool{all});
  // With a rule that matches everything, every head that is decided is allowed.
  const auto worse = Dfa::combine(*automaton, *all, [](std::uint32_t some, std::uint32_t every) {
    return some != 0 && every != static_cast<std::uint32_t>(HeadVerdict::Allow) ? 1U : 0U;
  });
  if (!worse) RC_FAIL(worse.error());
  RC_ASSERT(worse->witness() == std::nullopt);
}

TEST(HttpHead, LeavesOddHeadsToTheProxy) {
  const auto automaton = http_head_automaton({HttpRule{}});
  ASSERT_TRUE(automaton);
  EXPECT_EQ(verdict(*automaton, "GET / HTTP/1.1\r\nHost: b\r\n\r\n"), HeadVerdict::Allow);
  EXPECT_EQ(verdict(*automaton, "POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 10\r\n\r\n"),
            HeadVerdict::Allow);
  for (const std::string_view odd : {
           "",
           "GET / HTTP/1.1\r\n\r\n",                                     // no host
           "GET / HTTP/1.1\r\nHost: b\r\nHost: b\r\n\r\n",               // two
           "GET / HTTP/1.1\r\nHost: b c\r\n\r\n",                        // odd one
           "GET / HTTP/1.1\r\nHost:\r\n\r\n",                            //
           "GET / HTTP/2.0\r\nHost: b\r\n\r\n",                          //
           "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",                           // HTTP/2
           "\x16\x03\x01\x02",                                           // TLS
           "get / HTTP/1.1\r\nHost: b\r\n\r\n",                          //
           "GET http://b/ HTTP/1.1\r\nHost: b\r\n\r\n",                  // absolute form
           "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n",                      //
           "CONNECT b:80 HTTP/1.1\r\nHost: b\r\n\r\n",                   //
           "GET //a HTTP/1.1\r\nHost: b\r\n\r\n",                        // not normal
           "GET /a/../b HTTP/1.1\r\nHost: b\r\n\r\n",                    //
           "GET /a/.. HTTP/1.1\r\nHost: b\r\n\r\n",                      //
           "GET /./b HTTP/1.1\r\nHost: b\r\n\r\n",                       //
           "GET /a%2Fb HTTP/1.1\r\nHost: b\r\n\r\n",                     //
           "GET /a\\b HTTP/1.1\r\nHost: b\r\n\r\n",                      //
           "GET /a#b HTTP/1.1\r\nHost: b\r\n\r\n",                       //
           "GET  / HTTP/1.1\r\nHost: b\r\n\r\n",                         // two blanks
           "GET / HTTP/1.1\nHost: b\n\n",                                // bare line feeds
           "GET / HTTP/1.1\r\nHost: b\r\n folded\r\n\r\n",               //
           "GET / HTTP/1.1\r\nHost : b\r\n\r\n",                         //
           "GET / HTTP/1.1\r\nHost: b\r\nX: a\rb\r\n\r\n",               //
           "GET / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: x\r\n\r\n",  //
           "GET / HTTP/1.1\r\nHost: b\r\nContent-Length: -1\r\n\r\n",    //
           "GET / HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\n\r\nx",    // a body
           "GET / HTTP/1.1\r\nHost: b\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n",
       }) {
    EXPECT_EQ(verdict(*automaton, odd), HeadVerdict::Undecided) << odd;
  }
}

TEST(HttpHead, SaysWhyARuleCannotBeHeld) {
  const auto reason = [](const HttpRule& rule) {
    const auto automaton = http_head_automaton({rule});
    return automaton ? "" : automaton.error();
  };
  HttpRule rule;
  rule.path = "/\\pL+";
  EXPECT_EQ(reason(rule),
            "regular expression `/\\pL+`: Unicode properties are not supported at offset 1");
  rule = {};
  rule.headers = {{"x-forwarded-for", "1"}};
  EXPECT_EQ(reason(rule), "header `x-forwarded-for`: the proxy changes it before it judges");
  rule.headers = {{"x-key", "1", false, HeaderAction::Add}};
  EXPECT_EQ(reason(rule), "header `x-key`: only a proxy can log or change it");
  rule = {};
  rule.path = "/.*a.{12}";
  rule.method = "GET";
  EXPECT_EQ(reason(rule), "regular expression `/.*a.{12}`: too large: more than 20000 states");
  const auto small = http_head_automaton({HttpRule{}}, 50);
  ASSERT_FALSE(small);
  EXPECT_EQ(small.error(), "too large: more than 50 states");
}

TEST(HttpHead, StaysSmall) {
  HttpRule rule;
  rule.method = "GET";
  rule.path = "/api/v1/.*";
  const auto one = http_head_automaton({rule});
  ASSERT_TRUE(one);
  EXPECT_LT(one->states(), 256U);
  std::vector<HttpRule> many;
  for (int i = 0; i < 100; ++i) {
    rule.path = "/service-" + std::to_string(i) + "/v[0-9]+/.*";
    many.push_back(rule);
  }
  const auto hundred = http_head_automaton(many);
  ASSERT_TRUE(hundred);
  EXPECT_LT(hundred->states(), 1000U);
}

}  // namespace
}  // namespace policyc::ir
