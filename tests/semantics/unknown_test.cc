// Unknowns are symbols: the answer is `depends` only where it hangs on them.
#include <gtest/gtest.h>

#include "ir/resolve.h"
#include "tests/semantics/world_text.h"

namespace policyc {
namespace {

using testing::kPods;
using testing::TextWorld;
using testing::world_of;

const char* kHead =
    "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: "
    "red}\nspec:\n"
    "  endpointSelector: {matchLabels: {app: b}}\n";

std::string policy(const std::string& rules) {
  return std::string(kPods) + kHead + rules;
}

TEST(Unknown, PlaceholderPrefixDecidesForOutsideAddressesOnly) {
  const auto w = world_of(policy("  ingress: [{fromCIDR: [\"${LAN}\"]}]\n"));
  EXPECT_EQ(w->verdict(TextWorld::ip("203.0.113.7"), w->pod("red/b"), ir::kProtoTcp, 80),
            "depends");
  const ir::FlowVerdict v =
      w->ask(TextWorld::ip("203.0.113.7"), w->pod("red/b"), ir::kProtoTcp, 80);
  ASSERT_EQ(v.ingress->depends_on.size(), 1U);
  EXPECT_NE(v.ingress->depends_on[0].find("${LAN}"), std::string::npos);
}

TEST(Unknown, DoesNotMatterWhereAnotherRuleDecides) {
  const auto w = world_of(policy("  ingress: [{fromCIDR: [\"${LAN}\"]}, {fromEntities: [all]}]\n"));
  EXPECT_EQ(w->verdict(TextWorld::ip("203.0.113.7"), w->pod("red/b"), ir::kProtoTcp, 80), "allow");
}

TEST(Unknown, PlaceholderPort) {
  const auto w =
      world_of(policy("  ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: \"${PORT}\", "
                      "protocol: TCP}]}]}]\n"));
  EXPECT_EQ(w->verdict(w->pod("red/a"), w->pod("red/b"), ir::kProtoTcp, 80), "depends");
  EXPECT_EQ(w->verdict(w->pod("blue/c"), w->pod("red/b"), ir::kProtoTcp, 80), "deny");
  EXPECT_EQ(w->verdict(w->pod("red/a"), w->pod("red/b"), ir::kProtoUdp, 80), "deny");
}

TEST(Unknown, NamesWithoutDnsCache) {
  const auto w = world_of(policy("  egress: [{toFQDNs: [{matchName: api.example.com}]}]\n"));
  EXPECT_EQ(w->verdict(w->pod("red/b"), TextWorld::ip("203.0.113.7"), ir::kProtoTcp, 443),
            "depends");
  EXPECT_EQ(w->verdict(w->pod("red/b"), ir::NameParty{"api.example.com"}, ir::kProtoTcp, 443),
            "allow");
  EXPECT_EQ(w->verdict(w->pod("red/b"), ir::NameParty{"other.example.com"}, ir::kProtoTcp, 443),
            "deny");
  EXPECT_EQ(w->verdict(w->pod("red/b"), w->pod("red/a"), ir::kProtoTcp, 443), "deny");
}

// A placeholder anywhere in a rule is a symbol: no verdict rests on its text.
TEST(Unknown, PlaceholdersInEveryKindOfValue) {
  const std::string http = "toPorts: [{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{";
  const std::vector<std::string> items = {
      http + "path: \"${P}\"}]}}]",
      http + "method: \"${M}\"}]}}]",
      http + "headers: [\"X-Env: ${E}\"]}]}}]",
      http + "headerMatches: [{name: X-Env, value: \"${E}\"}]}]}}]",
      "fromEndpoints: [{matchLabels: {app: \"${A}\"}}]",
      "fromEndpoints: [{matchExpressions: [{key: app, operator: In, values: [\"${A}\"]}]}]",
      "fromEndpoints: [{matchExpressions: [{key: nosuch, operator: \"${OP}\"}]}]",
  };
  for (const std::string& item : items) {
    const auto w = world_of(policy("  ingress: [{" + item + "}]\n"));
    EXPECT_EQ(w->verdict(w->pod("red/a"), w->pod("red/b"), ir::kProtoTcp, 80,
                         ir::HttpRequest{"GET", "/x", "b", {}}),
              "depends")
        << item;
  }
}

TEST(Unknown, PlaceholderNamespace) {
  const auto w = world_of(
      std::string(kPods) +
      "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: "
      "\"${NS}\"}\nspec: {endpointSelector: {matchLabels: {app: b}}, ingress: [{fromEndpoints: "
      "[{matchLabels: {app: a}}]}]}\n");
  EXPECT_EQ(w->verdict(w->pod("blue/c"), w->pod("red/b"), ir::kProtoTcp, 80), "depends");
  // Whether or not the policy is in force there, this passes.
  EXPECT_EQ(w->verdict(w->pod("red/a"), w->pod("red/b"), ir::kProtoTcp, 80), "allow");
  EXPECT_EQ(w->verdict(w->pod("red/b"), w->pod("red/a"), ir::kProtoTcp, 80), "allow");
}

TEST(Unknown, CompileSeesWhatEndpointsHangOn) {
  const auto w = world_of(policy("  ingress: [{fromCIDR: [\"${LAN}\"]}]\n"));
  const ir::Resolved resolved = ir::resolve(w->world);
  int hanging = 0;
  for (const ir::ResolvedEndpoint& ep : resolved.views.at(0).endpoints) {
    if (!ep.depends_on.empty()) ++hanging;
  }
  EXPECT_EQ(hanging, 1);
}

// --semantics kubernetes (policy-semantics §9.2).
std::string netpol(const std::string& spec) {
  return std::string(kPods) +
         "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: "
         "red}\nspec: {podSelector: {matchLabels: {app: b}}, " +
         spec + "}\n";
}

TEST(Kubernetes, PolicyTypesAreTakenAsWritten) {
  const std::string text =
      netpol("policyTypes: [Egress], ingress: [{from: [{podSelector: {matchLabels: {app: x}}}]}]");
  ir::Settings settings;
  EXPECT_EQ(
      world_of(text, settings)
          ->verdict(TextWorld::ip("203.0.113.7"), world_of(text)->pod("red/b"), ir::kProtoTcp, 80),
      "deny");
  settings.kubernetes_semantics = true;
  const auto w = world_of(text, settings);
  EXPECT_EQ(w->verdict(TextWorld::ip("203.0.113.7"), w->pod("red/b"), ir::kProtoTcp, 80), "allow");
  EXPECT_EQ(w->verdict(w->pod("red/b"), TextWorld::ip("203.0.113.7"), ir::kProtoTcp, 80), "deny");
}

TEST(Kubernetes, AddressBlocksAgainstPodsAreUnspecified) {
  ir::Settings settings;
  settings.kubernetes_semantics = true;
  const auto w = world_of(netpol("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]"), settings);
  EXPECT_EQ(w->verdict(w->pod("red/a"), w->pod("red/b"), ir::kProtoTcp, 80), "depends");
  EXPECT_EQ(w->verdict(TextWorld::ip("10.9.9.9"), w->pod("red/b"), ir::kProtoTcp, 80), "allow");
  EXPECT_EQ(w->verdict(TextWorld::ip("11.9.9.9"), w->pod("red/b"), ir::kProtoTcp, 80), "deny");
}

TEST(Kubernetes, IcmpIsUnspecifiedUnderIsolation) {
  ir::Settings settings;
  settings.kubernetes_semantics = true;
  const auto w = world_of(netpol("ingress: [{ports: [{port: 80}]}]"), settings);
  EXPECT_EQ(w->verdict(w->pod("red/a"), w->pod("red/b"), ir::kProtoIcmp, 8), "depends");
  EXPECT_EQ(w->verdict(w->pod("red/a"), w->pod("red/b"), ir::kProtoTcp, 80), "allow");
}

TEST(Kubernetes, NegativeNamespaceSelectorsSelectPodsOnly) {
  const std::string text = netpol(
      "ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: "
      "DoesNotExist}]}}]}]");
  ir::Settings settings;
  EXPECT_EQ(world_of(text)->verdict(TextWorld::ip("203.0.113.7"), world_of(text)->pod("red/b"),
                                    ir::kProtoTcp, 80),
            "allow");  // Cilium 1.18 over-selects (§15.3)
  settings.kubernetes_semantics = true;
  const auto w = world_of(text, settings);
  EXPECT_EQ(w->verdict(TextWorld::ip("203.0.113.7"), w->pod("red/b"), ir::kProtoTcp, 80), "deny");
  EXPECT_EQ(w->verdict(w->pod("blue/c"), w->pod("red/b"), ir::kProtoTcp, 80), "allow");
}

// Releases differ by rows of one table (policy-semantics §8, §12).
TEST(Profiles, DoubleStarSpansLabelsSince119) {
  const std::string text = policy("  egress: [{toFQDNs: [{matchPattern: \"**.example.com\"}]}]\n");
  for (const auto& [profile, deep] : std::vector<std::pair<const char*, const char*>>{
           {"cilium-1.18", "deny"}, {"cilium-1.19", "allow"}}) {
    ir::Settings settings;
    settings.profile = profile;
    const auto w = world_of(text, settings);
    EXPECT_EQ(w->verdict(w->pod("red/b"), ir::NameParty{"a.b.example.com"}, ir::kProtoTcp, 443),
              deep)
        << profile;
    EXPECT_EQ(w->verdict(w->pod("red/b"), ir::NameParty{"a.example.com"}, ir::kProtoTcp, 443),
              "allow");
    EXPECT_EQ(w->verdict(w->pod("red/b"), ir::NameParty{"example.com"}, ir::kProtoTcp, 443),
              "deny");
  }
}

TEST(Profiles, NegativeNamespacePeersStopSelectingWorldIn120) {
  const std::string text = policy(
      "  ingress: [{fromEndpoints: [{matchExpressions: [{key: io.kubernetes.pod.namespace, "
      "operator: "
      "NotIn, values: [blue]}]}]}]\n");
  for (const auto& [profile, want] : std::vector<std::pair<const char*, const char*>>{
           {"cilium-1.18", "allow"}, {"cilium-1.20", "deny"}}) {
    ir::Settings settings;
    settings.profile = profile;
    const auto w = world_of(text, settings);
    EXPECT_EQ(w->verdict(TextWorld::ip("203.0.113.7"), w->pod("red/b"), ir::kProtoTcp, 80), want)
        << profile;
  }
}

// A listener that cannot be found is an error of the endpoint, not of the object (policy-semantics
// §5.4).
TEST(Listener, ClusterwidePoliciesNeedTheClusterwideKind) {
  for (const auto& [kind, want] : std::vector<std::pair<const char*, const char*>>{
           {"CiliumEnvoyConfig", "error"}, {"CiliumClusterwideEnvoyConfig", "redirect"}}) {
    const auto w = world_of(
        std::string(kPods) +
        "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: "
        "p}\nspec: "
        "{endpointSelector: {matchLabels: {app: b}}, egress: [{toEndpoints: [{matchLabels: {app: "
        "a}}], toPorts: [{ports: [{port: \"80\", protocol: TCP}], listener: {name: l, envoyConfig: "
        "{name: e, kind: " +
        kind + "}}}]}]}\n");
    EXPECT_EQ(w->verdict(w->pod("red/b"), w->pod("red/a"), ir::kProtoTcp, 80), want) << kind;
  }
}

TEST(NearMiss, NamesTheOneUnmetCondition) {
  const auto w =
      world_of(policy("  ingress:\n"
                      "  - fromEndpoints: [{matchLabels: {app: a}}]\n"
                      "    toPorts: [{ports: [{port: \"443\", protocol: TCP}]}]\n"
                      "  - fromEndpoints: [{matchLabels: {app: z}}]\n"));
  const auto misses =
      ir::near_misses(w->world, {"t", w->pod("red/a"), w->pod("red/b"), ir::kProtoTcp, 80, {}},
                      ir::Direction::Ingress);
  ASSERT_EQ(misses.size(), 2U);
  EXPECT_EQ(misses[0].condition, "the port: it allows TCP/443");
  EXPECT_EQ(misses[1].condition, "the peer's label `app=z`: it has app=a");
}

}  // namespace
}  // namespace policyc
