// Sets of requests against the matcher of single requests.
#include "verifier/request_language.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "ir/l7_match.h"
#include "tests/ir/world_gen.h"

namespace policyc {
namespace {

using testing::Choice;

std::vector<ir::HttpRule> random_rules(const Choice& pick) {
  std::vector<ir::HttpRule> out;
  for (int i = 0; i < pick(4); ++i) {
    ir::HttpRule r;
    r.method =
        pick.of<std::string>({"", "GET", "POST", "GET|HEAD", "P.*", "GET|M-SEARCH", "OPTIONS"});
    r.path = pick.of<std::string>(
        {"", "/.*", "/a", "/a/.*", "/a/[0-9]+", "/(a|b)/x", "/b?", R"(\*)", "/[!-~]*"});
    r.host = pick.of<std::string>({"", "", "a[.]example", ".*[.]example"});
    if (pick(5) == 0) r.headers.push_back({"x-env", "prod"});
    out.push_back(std::move(r));
  }
  return out;
}

bool matches(const std::vector<ir::HttpRule>& rules, const ir::HttpRequest& request) {
  return std::any_of(rules.begin(), rules.end(),
                     [&](const ir::HttpRule& r) { return ir::http_matches(r, request); });
}

ir::HttpRequest nearby_request(const Choice& pick) {
  ir::HttpRequest out;
  out.method = pick.of<std::string>({"GET", "POST", "PUT", "HEAD", "M-SEARCH", "OPTIONS"});
  out.path =
      pick.of<std::string>({"/", "/a", "/a/", "/a/7", "/a/x", "/b/x", "/b", "/c", "/\xC3\xA9"});
  if (out.method == "OPTIONS" && pick(2) == 0) out.path = "*";
  out.host = pick.of<std::string>({"a.example", "b.example", "other"});
  if (pick(3) == 0) out.headers.emplace_back("x-env", "prod");
  return out;
}

RC_GTEST_PROP(RequestLanguage, DifferencesAreWhatSingleRequestsSay, ()) {
  const Choice pick;
  const auto a = random_rules(pick);
  const auto b = random_rules(pick);
  const auto language_a = RequestLanguage::of(a);
  const auto language_b = RequestLanguage::of(b);
  RC_ASSERT(bool(language_a));
  RC_ASSERT(bool(language_b));
  const auto both = language_a->intersect(*language_b);
  const auto only_a = language_a->subtract(*language_b);
  RC_ASSERT(bool(both));
  RC_ASSERT(bool(only_a));
  if (const auto w = both->witness()) {
    RC_ASSERT(matches(a, *w));
    RC_ASSERT(matches(b, *w));
  }
  if (const auto w = only_a->witness()) {
    RC_ASSERT(matches(a, *w));
    RC_ASSERT(!matches(b, *w));
  }
  for (int i = 0; i < 20; ++i) {
    const ir::HttpRequest r = nearby_request(pick);
    if (both->empty()) RC_ASSERT(!(matches(a, r) && matches(b, r)));
    // Without headers: what a piece does not require it does not send.
    if (only_a->empty() && r.headers.empty()) RC_ASSERT(!matches(a, r) || matches(b, r));
  }
  RC_CLASSIFY(only_a->empty(), "nothing left");
  RC_CLASSIFY(both->empty(), "disjoint");
}

// What RFC 9110 and proxies know beside words of letters and ASCII: each is a request that the
// rule leaves.
TEST(RequestLanguage, EveryRequestIsMoreThanLettersAndSlashes) {
  const auto left = [](const std::string& method, const std::string& path) {
    const auto rest =
        RequestLanguage::everything().subtract(*RequestLanguage::matching(method, path, ""));
    return rest ? rest->witness() : std::nullopt;
  };
  const auto dash = left("[A-Za-z]+", "");
  ASSERT_TRUE(dash);
  EXPECT_TRUE(ir::regex_matches("[^A-Za-z]+", dash->method)) << dash->method;
  const auto server = left("", "/.*");
  ASSERT_TRUE(server);
  EXPECT_EQ(server->method, "OPTIONS");
  EXPECT_EQ(server->path, "*");
  const auto high = left("", R"(/[!-~]*|\*)");
  ASSERT_TRUE(high);
  EXPECT_TRUE(ir::regex_matches(R"(/[^\x00-\x7f]+)", high->path)) << high->path;
  EXPECT_FALSE(left("", R"(/.*|\*)"));
  // No other method is about the server.
  EXPECT_TRUE(RequestLanguage::matching("GET|M-SEARCH", R"(\*)", "")->empty());
  for (const char* method : {"M-SEARCH", "VERSION-CONTROL"}) {
    EXPECT_FALSE(RequestLanguage::matching(method, "/upnp", "")->empty()) << method;
  }
}

TEST(RequestLanguage, WitnessesReadWell) {
  ir::HttpRule r;
  r.method = "POST|PUT";
  r.path = "/orders/[0-9]{3}";
  const auto all = RequestLanguage::of({r});
  ASSERT_TRUE(all);
  const auto w = all->witness();
  ASSERT_TRUE(w);
  EXPECT_EQ(w->method, "POST");
  EXPECT_EQ(w->path.substr(0, 8), "/orders/");
  EXPECT_TRUE(ir::http_matches(r, *w));
  r.path = "no-slash";
  EXPECT_TRUE(RequestLanguage::of({r})->empty());
  r.symbol = "${PATH}";
  EXPECT_FALSE(RequestLanguage::of({r}));
}

}  // namespace
}  // namespace policyc
