#include "verifier/selector_logic.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "ir/identity.h"
#include "tests/ir/world_gen.h"

namespace policyc {
namespace {

using ir::Operator;
using testing::Choice;
using testing::label_requirement;

ir::Selector selector(std::vector<ir::Requirement> requirements) {
  return {std::move(requirements), {}};
}

ir::LabelSet random_pod(const Choice& pick) {
  std::vector<ir::Label> labels;
  for (const char* key : {"app", "tier"}) {
    if (pick.flip()) labels.push_back({"k8s", key, pick.of<std::string>({"a", "b", "c"})});
  }
  labels.push_back({"k8s", std::string(ir::kNamespaceKey), pick.of<std::string>({"n", "m"})});
  return ir::LabelSet(std::move(labels));
}

RC_GTEST_PROP(SelectorLogic, CoverAndDisjointHoldForEveryPod, ()) {
  const Choice pick;
  const ir::Selector a = testing::random_selector(pick), b = testing::random_selector(pick);
  const ir::LabelSet pod = random_pod(pick);
  if (selector_covers(a, b, {})) RC_ASSERT(!b.matches(pod) || a.matches(pod));
  if (selectors_disjoint(a, b)) RC_ASSERT(!a.matches(pod) || !b.matches(pod));
  RC_ASSERT(selector_covers(a, a, {}));
}

TEST(SelectorLogic, NamespacesMakePods) {
  const auto ns =
      selector({label_requirement("k8s", std::string(ir::kNamespaceKey), Operator::In, {"n"})});
  const auto cluster =
      selector({label_requirement("k8s", std::string(ir::kClusterKey), Operator::In, {"default"})});
  const auto other =
      selector({label_requirement("k8s", std::string(ir::kClusterKey), Operator::In, {"other"})});
  EXPECT_TRUE(selector_covers(cluster, ns, {}));
  EXPECT_FALSE(selector_covers(other, ns, {}));
  EXPECT_FALSE(selector_covers(ns, cluster, {}));
  const auto by_label = selector({label_requirement(
      "k8s", std::string(ir::kNamespaceLabelsPrefix) + "kubernetes.io/metadata.name", Operator::In,
      {"n"})});
  EXPECT_TRUE(selector_covers(ns, by_label, {}));
  EXPECT_TRUE(selector_covers(by_label, ns, {}));
}

TEST(SelectorLogic, PrefixesAreWorld) {
  const auto prefix = [](const char* text) {
    ir::Requirement r = label_requirement("cidr", text, Operator::Exists, {});
    r.cidr = ir::parse_prefix(text);
    return selector({r});
  };
  const auto reserved = [](const char* name) {
    return selector({label_requirement("reserved", name, Operator::Exists, {})});
  };
  EXPECT_TRUE(selector_covers(prefix("10.0.0.0/8"), prefix("10.1.0.0/16"), {}));
  EXPECT_FALSE(selector_covers(prefix("10.1.0.0/16"), prefix("10.0.0.0/8"), {}));
  EXPECT_TRUE(selector_covers(reserved("world-ipv4"), prefix("10.0.0.0/8"), {}));
  EXPECT_FALSE(selector_covers(reserved("world-ipv6"), prefix("10.0.0.0/8"), {}));
  ir::Settings nodes;
  nodes.cidr_match_nodes = true;
  EXPECT_FALSE(selector_covers(reserved("world-ipv4"), prefix("10.0.0.0/8"), nodes));
}

TEST(SelectorLogic, UnknownValuesProveNothing) {
  ir::Requirement a = label_requirement("any", "app", Operator::In, {"${A}"});
  a.symbol = "${A} at a.yaml:1:1";
  ir::Requirement b = label_requirement("any", "app", Operator::In, {"${B}"});
  b.symbol = "${B} at a.yaml:2:1";
  EXPECT_FALSE(selector_covers(selector({a}), selector({b}), {}));
  EXPECT_FALSE(selectors_disjoint(selector({a}), selector({b})));
  EXPECT_TRUE(selector_covers(selector({a}), selector({a}), {}));
}

TEST(SelectorLogic, Ports) {
  const auto port = [](std::uint16_t number, std::uint16_t end = 0) {
    ir::Port p;
    p.number = number;
    p.end = end;
    p.text = std::to_string(number);
    return p;
  };
  EXPECT_TRUE(port_covers(port(0), port(80)));
  EXPECT_TRUE(port_covers(port(80, 90), port(85, 90)));
  EXPECT_FALSE(port_covers(port(80, 90), port(85, 91)));
  EXPECT_FALSE(port_covers(port(80), port(0)));
  ir::Port udp = port(80), named = port(0);
  udp.protocol = ir::kProtoUdp;
  named.name = named.text = "http";
  EXPECT_FALSE(port_covers(udp, port(80)));
  EXPECT_FALSE(port_covers(port(80), named));
  EXPECT_FALSE(port_covers(named, port(80)));
  EXPECT_TRUE(port_covers(port(0), named));
}

TEST(SelectorLogic, NamePatterns) {
  EXPECT_TRUE(patterns_intersect("*.example.com", "API.example.com."));
  EXPECT_TRUE(patterns_intersect("*", "a.b.c"));
  EXPECT_TRUE(patterns_intersect("a*.example.com", "*b.example.com"));
  EXPECT_TRUE(patterns_intersect("**.example.com", "a.b.example.com"));
  EXPECT_FALSE(patterns_intersect("*.example.com", "example.com"));
  EXPECT_FALSE(patterns_intersect("*.example.com", "a.b.example.com"));
  EXPECT_FALSE(patterns_intersect("*.example.com", "*.storage.googleapis.com"));
  EXPECT_FALSE(patterns_intersect("api.github.com", "github.com"));
}

// What the evaluator's own matcher accepts lies in the intersection.
RC_GTEST_PROP(SelectorLogic, PatternsMeetWhereANameMatchesBoth, ()) {
  const Choice pick;
  const auto text = [&](bool stars) {
    std::string out;
    for (int i = 0; i < 1 + pick(5); ++i) {
      out += stars ? pick.of({'a', 'b', '.', '*'}) : pick.of({'a', 'b', '.'});
    }
    return out + "c";
  };
  const std::string a = text(true), b = text(true), name = text(false);
  if (ir::dns_pattern_matches(a, name) && ir::dns_pattern_matches(b, name)) {
    RC_ASSERT(patterns_intersect(a, b));
  }
  RC_ASSERT(patterns_intersect(a, b) == patterns_intersect(b, a));
}

}  // namespace
}  // namespace policyc
