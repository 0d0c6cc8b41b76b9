// Findings about HTTP rules against the matcher of single requests.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "ir/base/diag_code.h"
#include "ir/l7_match.h"
#include "tests/ir/world_gen.h"
#include "verifier/checks.h"
#include "verifier/request_language.h"

namespace policyc {
namespace {

using testing::Choice;

std::vector<ir::HttpRule> random_rules(const Choice& pick) {
  std::vector<ir::HttpRule> out;
  for (int i = 0; i < 1 + pick(6); ++i) {
    ir::HttpRule r;
    r.method = pick.of<std::string>(
        {"", "GET", "POST", "GET|HEAD", "P.*", "HEAD", "GET|M-SEARCH", "OPTIONS", "[A-Z]+"});
    r.path =
        pick.of<std::string>({"", "/.*", "/a", "/a/.*", "/a/[0-9]+", "/(a|b)/x", "/b?", "/(a|b)",
                              "/b/.*", "/[^/]*", R"((?s:/.*|\*))", "/[!-~]*", "/\xC3\xA9"});
    r.host = pick.of<std::string>({"", "", "", "a[.]example", ".*[.]example"});
    if (pick(5) == 0) r.headers.push_back({"x-env", "prod"});
    if (pick(8) == 0) r.headers.push_back({"x-id", std::nullopt});
    if (pick(10) == 0) {  // about the server itself: by OPTIONS alone
      r.method = pick.of<std::string>({"", "OPTIONS", "GET|OPTIONS"});
      r.path = R"(\*)";
    }
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
  out.path = pick.of<std::string>(
      {"/", "/a", "/a/", "/a/7", "/a/x", "/b/x", "/b/y", "/b", "/c", "/a/7/8", "/\xC3\xA9"});
  if (out.method == "OPTIONS" && pick(2) == 0) out.path = "*";
  out.host = pick.of<std::string>({"a.example", "b.example", "other"});
  if (pick(3) == 0) out.headers.emplace_back("x-env", pick.of<std::string>({"prod", "test"}));
  if (pick(3) == 0) out.headers.emplace_back("x-id", "1");
  return out;
}

// One policy with the rules on port 80; each rule has a place of its own in the text.
constexpr std::uint32_t kWidth = 10;
ir::World world_of(std::vector<ir::HttpRule> rules, FileId file) {
  ir::World world;
  ir::Policy policy;
  policy.ref = {"CiliumNetworkPolicy", "shop", "a"};
  world.policies.policies.push_back(policy);
  ir::Rule rule;
  rule.ns = "shop";
  rule.has_ingress = true;
  ir::RuleItem item;
  item.any_peer = true;
  item.all_l4 = false;
  ir::PortRule ports;
  ir::Port port;
  port.text = "80";
  port.number = 80;
  ports.ports.push_back(port);
  ports.l7.parser = ir::Parser::Http;
  std::uint32_t at = 0;
  for (ir::HttpRule& r : rules) {
    r.range = {file, at, at + kWidth - 1};
    at += kWidth;
  }
  ports.l7.http = std::move(rules);
  item.ports.push_back(std::move(ports));
  rule.items.push_back(std::move(item));
  world.policies.rules.push_back(std::move(rule));
  return world;
}

// What is called needless can go without changing what passes; of what is left no rule can.
RC_GTEST_PROP(HttpFindings, NeedlessRulesAreThoseThatCanGo, ()) {
  const Choice pick;
  const std::vector<ir::HttpRule> rules = random_rules(pick);
  SourceMap sources;
  const FileId file = sources.add("a.yaml", std::string(kWidth * rules.size(), ' '));
  DiagnosticSink sink;
  run_checks(world_of(rules, file), sources, sink);
  std::set<std::size_t> needless;
  for (const Diagnostic& d : sink.all()) {
    if (d.code == DiagCode::HttpRuleCovered) needless.insert(d.range.begin / kWidth);
  }
  std::vector<ir::HttpRule> left;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (needless.count(i) == 0) left.push_back(rules[i]);
  }
  RC_TAG(needless.empty() ? "none" : "some");
  for (int i = 0; i < 50; ++i) {
    const ir::HttpRequest request = nearby_request(pick);
    RC_ASSERT(matches(rules, request) == matches(left, request));
  }
  for (std::size_t i = 0; i < left.size(); ++i) {
    std::vector<ir::HttpRule> others = left;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
    const auto own = RequestLanguage::of({left[i]});
    const auto rest = RequestLanguage::of(others);
    RC_ASSERT(own && rest);
    const auto missing = own->subtract(*rest);
    RC_ASSERT(missing && !missing->empty());
    const ir::HttpRequest request = *missing->witness();
    RC_ASSERT(matches(left, request) && !matches(others, request));
  }
}

// A rule that is said to match nothing matches none of many requests.
RC_GTEST_PROP(HttpFindings, WhatNeverMatchesMatchesNoRequest, ()) {
  const Choice pick;
  ir::HttpRule rule;
  rule.method = pick.of<std::string>({"", "get", "GET", "Post", "get|POST", "[a-z]+", "GET, POST"});
  rule.path = pick.of<std::string>({"", "a/.*", "/a$/b", ".*/a", "^b", "(a|/b)", "/a#b", "/.*"});
  rule.host =
      pick.of<std::string>({"", "a.example/", "a.example:80/.*", "*.example", "[A-Z]+", ".*"});
  SourceMap sources;
  const FileId file = sources.add("a.yaml", std::string(kWidth, ' '));
  DiagnosticSink sink;
  run_checks(world_of({rule}, file), sources, sink);
  const bool never = std::any_of(sink.all().begin(), sink.all().end(), [](const Diagnostic& d) {
    return d.code == DiagCode::HttpNeverMatches;
  });
  RC_TAG(never ? "never" : "may");
  bool matched = false;
  for (const char* method : {"GET", "POST", "PUT"}) {
    for (const char* path : {"/", "/a", "/b", "/a/b", "/x/a", "/a?b=1"}) {
      for (const char* host : {"a.example", "b.example:80", "other"}) {
        matched = matched || ir::http_matches(rule, {method, path, host, {}});
      }
    }
  }
  if (never) RC_ASSERT(!matched);
  // These requests reach every rule of this test that some request reaches, but for capitals.
  if (!never && rule.host != "[A-Z]+") RC_ASSERT(matched);
}

}  // namespace
}  // namespace policyc
