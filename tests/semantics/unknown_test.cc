// Unknowns are symbols: the answer is `depends` only where it hangs on them.
#include <gtest/gtest.h>

#include "ir/connectivity.h"
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

TEST(Unknown, AuthenticationIsJudgedForEachMode) {
  const auto w = world_of(
      policy("  ingress: [{fromEndpoints: [{matchLabels: {app: a}}], authentication: {mode: "
             "\"${MODE}\"}}]\n"));
  const ir::FlowVerdict open = w->ask(w->pod("red/a"), w->pod("red/b"), ir::kProtoTcp, 80);
  ASSERT_TRUE(open.ingress);
  EXPECT_EQ(open.ingress->verdict, ir::VerdictKind::Depends);
  ASSERT_FALSE(open.ingress->depends_on.empty());
  EXPECT_NE(open.ingress->depends_on[0].find("${MODE}"), std::string::npos);
  // Whoever the rule does not select is refused in every mode.
  EXPECT_EQ(w->verdict(w->pod("blue/c"), w->pod("red/b"), ir::kProtoTcp, 80), "deny");
}

TEST(Unknown, ServerNamesKafkaServicesAndFamiliesAreAskedOneByOne) {
  const std::string sni =
      "  egress: [{toEndpoints: [{matchLabels: {app: a}}], toPorts: [{ports: [{port: \"443\", "
      "protocol: TCP}], serverNames: [known.example.com, \"${NAME}\"]}]}]\n";
  auto w = world_of(policy(sni));
  const auto tls = [&](const char* name) {
    return w->verdict(w->pod("red/b"), w->pod("red/a"), ir::kProtoTcp, 443, ir::TlsHello{name});
  };
  EXPECT_EQ(tls("known.example.com"), "allow");
  EXPECT_EQ(tls("other.example.com"), "depends");

  w = world_of(
      policy("  ingress: [{toPorts: [{ports: [{port: \"9092\", protocol: TCP}], rules: {kafka: "
             "[{apiKey: fetch, topic: logs}, {apiKey: produce, topic: \"${T}\"}]}}]}]\n"));
  const auto kafka = [&](const char* key, const char* topic) {
    return w->verdict(w->pod("red/a"), w->pod("red/b"), ir::kProtoTcp, 9092,
                      ir::KafkaRequest{key, 0, "", topic});
  };
  EXPECT_EQ(kafka("fetch", "logs"), "allow");
  EXPECT_EQ(kafka("produce", "orders"), "depends");

  w = world_of(
      policy("  egress: [{toServices: [{k8sService: {serviceName: \"${SVC}\", namespace: red}}]}, "
             "{toEndpoints: [{matchLabels: {app: a}}]}]\n"));
  EXPECT_EQ(w->verdict(w->pod("red/b"), w->pod("red/a"), ir::kProtoTcp, 80), "allow");
  EXPECT_EQ(w->verdict(w->pod("red/b"), w->pod("blue/c"), ir::kProtoTcp, 80), "depends");

  w = world_of(policy("  ingress: [{icmps: [{fields: [{family: \"${F}\", type: 8}]}]}]\n"));
  EXPECT_EQ(w->verdict(w->pod("red/a"), w->pod("red/b"), ir::kProtoIcmp, 8), "depends");
  EXPECT_EQ(w->verdict(w->pod("red/a"), w->pod("red/b"), ir::kProtoTcp, 8), "deny");
}

TEST(Unknown, WhatAQuestionLeavesOutOfARequestIsUnknownWhereRulesLook) {
  const auto w = world_of(
      policy("  ingress: [{toPorts: [{ports: [{port: \"80\", protocol: TCP}], rules: {http: "
             "[{method: GET, path: \"/public/.*\"}, {method: PUT, host: \"b[.]example\"}, "
             "{method: HEAD, path: \"/.*\"}]}}]}]\n"));
  const auto ask = [&](const char* method) {
    ir::HttpRequest request;
    request.method = method;
    request.any_path = request.any_host = true;
    return w->verdict(w->pod("red/a"), w->pod("red/b"), ir::kProtoTcp, 80, request);
  };
  EXPECT_EQ(ask("GET"), "depends");
  EXPECT_EQ(ask("PUT"), "depends");
  EXPECT_EQ(ask("HEAD"), "allow");
  EXPECT_EQ(ask("POST"), "deny");
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

// What --semantics kubernetes leaves open.
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

TEST(Kubernetes, APodReachesItself) {
  ir::Settings settings;
  const std::string text = netpol("ingress: [{ports: [{port: 81}]}]");
  const auto cilium = world_of(text, settings);
  EXPECT_EQ(cilium->verdict(cilium->pod("red/b"), cilium->pod("red/b"), ir::kProtoTcp, 80), "deny");
  settings.kubernetes_semantics = true;
  const auto w = world_of(text, settings);
  EXPECT_EQ(w->verdict(w->pod("red/b"), w->pod("red/b"), ir::kProtoTcp, 80), "allow");
  EXPECT_EQ(w->verdict(w->pod("red/a"), w->pod("red/b"), ir::kProtoTcp, 80), "deny");
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
            "allow");  // Cilium 1.18 over-selects
  settings.kubernetes_semantics = true;
  const auto w = world_of(text, settings);
  EXPECT_EQ(w->verdict(TextWorld::ip("203.0.113.7"), w->pod("red/b"), ir::kProtoTcp, 80), "deny");
  EXPECT_EQ(w->verdict(w->pod("blue/c"), w->pod("red/b"), ir::kProtoTcp, 80), "allow");
}

// Lists of connections give what single questions give: every pair, and the parts outside.
TEST(Kubernetes, ConnectionsAreWhatTheEvaluatorSays) {
  ir::Settings settings;
  settings.kubernetes_semantics = true;
  const auto w = world_of(
      netpol("policyTypes: [Ingress, Egress], ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, "
             "except: [203.0.113.0/24]}}, {podSelector: {matchLabels: {app: a}}}], ports: [{port: "
             "80}, {port: 8000, endPort: 8010}]}], egress: [{to: [{ipBlock: {cidr: "
             "203.0.113.0/24}}]}]"),
      settings);
  const ir::Resolved resolved = ir::resolve(w->world);
  const ir::Connectivity connectivity(w->world.settings, resolved);
  const auto parties = ir::graph_parties(w->world, resolved);
  int allowed = 0;
  int refused = 0;
  for (const ir::GraphParty& a : parties) {
    for (const ir::GraphParty& b : parties) {
      if (a.id == b.id || (a.pod == SIZE_MAX && b.pod == SIZE_MAX)) continue;
      const ir::Connection c = connectivity.between(a, b);
      for (const int port : {0, 79, 80, 81, 7999, 8000, 8010, 8011, 65535}) {
        const auto party = [](const ir::GraphParty& p) -> ir::Party {
          if (p.pod != SIZE_MAX) return ir::PodParty{p.pod};
          return ir::AddressParty{p.address};
        };
        const bool listed = std::any_of(c.spans.begin(), c.spans.end(), [&](const auto& s) {
          return s.protocol == ir::kProtoTcp && s.from <= port && port <= s.to;
        });
        const std::string said =
            w->verdict(party(a), party(b), ir::kProtoTcp, static_cast<std::uint16_t>(port));
        // The evaluator leaves an ipBlock against a pod open; lists take it as not covering pods.
        if (said == "depends") continue;
        EXPECT_EQ(said, listed ? "allow" : "deny") << a.id << " " << b.id << " " << port;
        ++(listed ? allowed : refused);
      }
    }
  }
  EXPECT_GT(allowed, 20);
  EXPECT_GT(refused, 20);
  EXPECT_TRUE(std::any_of(parties.begin(), parties.end(),
                          [](const auto& p) { return p.id == "203.0.113.0/24"; }));
}

// One pattern of the operator's own that includes turns the filter into an allow-list.
TEST(LabelFilter, DecidesWhoPodsAre) {
  const std::string text =
      policy("  ingress: [{fromEndpoints: [{matchLabels: {app: a}}]}]\n") +
      "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: cilium-config, namespace: "
      "kube-system}\ndata: {labels: \"PATTERNS\"}\n";
  const auto with = [&](const std::string& patterns) {
    std::string t = text;
    t.replace(t.find("PATTERNS"), 8, patterns);
    const auto w = world_of(t);
    return w->verdict(w->pod("red/a"), w->pod("red/b"), ir::kProtoTcp, 80) + " " +
           w->verdict(w->pod("red/b"), w->pod("red/b"), ir::kProtoTcp, 80);
  };
  EXPECT_EQ(with(""), "allow deny");
  EXPECT_EQ(with("k8s:app"), "allow deny");
  // Without app no pod is selected: not as subject, not as peer.
  EXPECT_EQ(with("k8s:team"), "allow allow");
  EXPECT_EQ(with("!app"), "allow allow");
  EXPECT_EQ(with("k8s:!app"), "allow allow");
  EXPECT_EQ(with("container:!app"), "allow deny");
}

// Since 1.19: other ranks of redirects, and stars in server names.
TEST(Profiles, RedirectsRankByParserSince119) {
  // SNI for one peer on port 80 against HTTP for everybody on a range: the peer's entry is the
  // longer one, HTTP ranks higher where parsers rank.
  const std::string text = policy(
      "  ingress: [{fromEndpoints: [{matchLabels: {app: a}}], toPorts: [{ports: [{port: \"80\", "
      "protocol: TCP}], serverNames: [x.example.com]}]}, {fromEntities: [all], toPorts: [{ports: "
      "[{port: \"80\", endPort: 90, protocol: TCP}], rules: {http: [{method: GET}]}}]}]\n");
  for (const auto& [profile, parser] : std::vector<std::pair<const char*, const char*>>{
           {"cilium-1.18", "tls"}, {"cilium-1.19", "http"}}) {
    ir::Settings settings;
    settings.profile = profile;
    const auto w = world_of(text, settings);
    const auto v = w->ask(w->pod("red/a"), w->pod("red/b"), ir::kProtoTcp, 80);
    ASSERT_TRUE(v.ingress);
    EXPECT_EQ(v.ingress->parser, parser) << profile;
  }
}

TEST(Profiles, StarsInServerNames) {
  const auto matches = [](const char* profile, const char* pattern, const char* name) {
    return ir::sni_matches(*ir::find_profile(profile), pattern, name);
  };
  for (const char* p : {"1.16", "1.17", "1.18", "1.19", "1.20"}) {
    EXPECT_TRUE(matches(p, "a.example.com", "a.example.com")) << p;
    EXPECT_FALSE(matches(p, "a.example.com", "b.example.com")) << p;
    const bool stars = std::string_view(p) >= "1.19";
    EXPECT_EQ(matches(p, "*.example.com", "a.example.com"), stars) << p;
    EXPECT_FALSE(matches(p, "*.example.com", "a.b.example.com")) << p;
    EXPECT_FALSE(matches(p, "*.example.com", "example.com")) << p;
    EXPECT_EQ(matches(p, "**.example.com", "a.b.example.com"), stars) << p;
    EXPECT_EQ(matches(p, "**.example.com", "a.example.com"), stars) << p;
    EXPECT_FALSE(matches(p, "**.example.com", "example.com")) << p;
    const bool anywhere = std::string_view(p) == "1.20";
    EXPECT_EQ(matches(p, "api-*.example.com", "api-7.example.com"), anywhere) << p;
    EXPECT_FALSE(matches(p, "api-*.example.com", "api-7.x.example.com")) << p;
  }
}

// Releases differ by rows of one table.
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

// A listener that cannot be found is an error of the endpoint, not of the
// object.
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
