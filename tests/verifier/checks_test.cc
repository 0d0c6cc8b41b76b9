#include "verifier/checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "frontend/kustomization.h"
#include "frontend/load.h"
#include "frontend/lower.h"
#include "ir/base/diag_code.h"
#include "ir/identity.h"

namespace policyc {
namespace {

using Texts = std::vector<std::string>;
using Mode = frontend::LoadOptions::InventoryMode;

struct Lint {
  frontend::Loaded loaded;
  DiagnosticSink sink;

  const Diagnostic* find(DiagCode code) const {
    for (const Diagnostic& d : sink.all()) {
      if (d.code == code) return &d;
    }
    return nullptr;
  }
  // "HostFirewallOff nodeSelector": the name of the code and the text it points at.
  Texts found() const {
    Texts out;
    for (const Diagnostic& d : sink.all()) {
      const auto text = loaded.sources->slice(d.range);
      out.push_back(fmt::format("{} {}", diag_info(d.code).name, text.substr(0, text.find('\n'))));
    }
    return out;
  }
};

Lint lint_options(frontend::LoadOptions options, ir::Settings base = {}) {
  Lint out;
  DiagnosticSink front;
  out.loaded = frontend::load(options, base, front);
  ir::World world;
  world.settings = out.loaded.settings.value_or(base);
  world.policies = frontend::lower(out.loaded, world.settings);
  for (const ir::Policy& p : world.policies.policies) EXPECT_TRUE(p.accepted) << p.error;
  EXPECT_FALSE(world.policies.policies.empty());
  world.inventory = out.loaded.inventory;
  // What the algebra says is put to the solver, too.
  static Solver solver;
  CheckOptions checks;
  checks.roots = frontend::kustomization_roots(out.loaded);
  checks.proofs = [](const ProofStep& step) {
    if (!Solver::available()) return;
    EXPECT_EQ(solver.solve(*step.question).answer == Solution::Answer::Covered,
              step.answer == Coverage::Answer::Covered)
        << step.question->title;
  };
  run_checks(world, *out.loaded.sources, out.sink, checks);
  return out;
}

Lint lint(const std::string& yaml, Mode mode = Mode::Partial, ir::Settings base = {}) {
  frontend::LoadOptions options;
  options.paths = {"-"};
  options.stdin_text = yaml;
  options.inventory = mode;
  return lint_options(std::move(options), base);
}

// One policy; `spec` is indented by two.
std::string object(const char* kind, const std::string& name, const std::string& ns,
                   const std::string& spec) {
  return fmt::format("apiVersion: {}\nkind: {}\nmetadata: {{name: {}{}}}\nspec:\n{}\n---\n",
                     std::string(kind) == "NetworkPolicy" ? "networking.k8s.io/v1" : "cilium.io/v2",
                     kind, name, ns.empty() ? "" : ", namespace: " + ns, spec);
}
std::string cnp(const std::string& spec, const std::string& name = "a",
                const std::string& ns = "prod") {
  return object("CiliumNetworkPolicy", name, ns, spec);
}
std::string ccnp(const std::string& spec, const std::string& name = "c") {
  return object("CiliumClusterwideNetworkPolicy", name, "", spec);
}
std::string knp(const std::string& spec, const std::string& name = "k") {
  return object("NetworkPolicy", name, "prod", spec);
}

const std::string kWeb = "  endpointSelector: {matchLabels: {app: web}}\n";

std::string http(const std::string& rule, const std::string& port = "80") {
  return kWeb +
         "  ingress:\n  - fromEndpoints: [{matchLabels: {app: a}}]\n    toPorts:\n"
         "    - ports: [{port: \"" +
         port +
         "\", protocol: TCP}]\n"
         "      rules: {http: [" +
         rule + "]}";
}

TEST(Checks, Headers) {
  EXPECT_EQ(lint(cnp(http("{headers: ['X-Key: [a-z]+']}"))).found(),
            Texts{"HeaderLooksLikePattern 'X-Key: [a-z]+'"});
  EXPECT_EQ(lint(cnp(http("{headers: ['Authorization: Bearer .*']}"))).found(),
            Texts{"HeaderLooksLikePattern 'Authorization: Bearer .*'"});
  EXPECT_EQ(lint(cnp(http("{headers: ['X-User: web-*']}"))).found(),
            Texts{"HeaderLooksLikePattern 'X-User: web-*'"});
  EXPECT_EQ(lint(cnp(http("{headerMatches: [{name: X-Id, value: '\\d'}]}"))).found(),
            Texts{"HeaderLooksLikePattern '\\d'"});
  for (const char* fine :
       {"{headers: ['Content-Type: application/json']}", "{headers: ['Accept: */*']}",
        "{headers: ['Accept: text/*']}", "{headers: ['X-Key']}", "{headers: ['If-Match: *']}",
        "{headers: ['X-List: [\"a\"]']}", "{headers: ['User-Agent: Mozilla/5.0 (X11; Linux)']}",
        "{headerMatches: [{name: X-Id, value: '.*', mismatch: LOG}]}", "{path: '/a/.*'}"}) {
    EXPECT_EQ(lint(cnp(http(fine))).found(), Texts{}) << fine;
  }
}

TEST(Checks, Requests) {
  EXPECT_EQ(lint(cnp(http("{method: get}"))).found(), Texts{"HttpNeverMatches get"});
  EXPECT_EQ(lint(cnp(http("{path: \"api/.*\"}"))).found(), Texts{"HttpNeverMatches \"api/.*\""});
  for (const char* fine :
       {"{method: \"GET|POST\", path: \"/.*\"}", "{path: \".*/api\"}", "{path: \"(/a|/b)\"}",
        "{path: \"a?/b\"}", "{path: \"a|/b\"}", "{path: \"\"}", "{}"}) {
    EXPECT_EQ(lint(cnp(http(fine))).found(), Texts{}) << fine;
  }
  EXPECT_EQ(lint(cnp(http("{method: GET}", "443"))).found(),
            Texts{"HttpOnTlsPort {port: \"443\", protocol: TCP}"});
  EXPECT_EQ(lint(cnp(http("{method: GET}", "8443"))).found(), Texts{});
}

TEST(Checks, Kafka) {
  const auto kafka = [](const std::string& rule) {
    return cnp(kWeb +
               "  ingress:\n  - fromEndpoints: [{}]\n    toPorts:\n"
               "    - ports: [{port: \"9092\", protocol: TCP}]\n      rules: {kafka: [" +
               rule + "]}");
  };
  EXPECT_EQ(
      lint(kafka("{clientID: \"a-.*\", topic: t}")).found(),
      (Texts{"KafkaIsGone {clientID: \"a-.*\", topic: t}", "KafkaLooksLikePattern \"a-.*\""}));
  EXPECT_EQ(lint(kafka("{topic: a.b}")).found(), Texts{"KafkaIsGone {topic: a.b}"});
}

TEST(Checks, VoidL7) {
  const std::string rule = http("{method: GET}");
  const Lint own = lint(cnp(rule + "\n  - fromEndpoints: [{matchLabels: {app: a}}]"));
  EXPECT_EQ(own.found(), Texts{"VoidL7Rule {method: GET}"});
  EXPECT_EQ(own.sink.all()[0].labels.size(), 1U);
  const auto with = [&](const std::string& other) { return lint(cnp(rule) + other).found(); };
  // The same peers on all ports, by another kind of policy.
  EXPECT_EQ(with(knp("  podSelector: {}\n  ingress: [{}]")), Texts{"VoidL7Rule {method: GET}"});
  EXPECT_EQ(with(ccnp("  endpointSelector: {matchLabels: {app: web}}\n"
                      "  ingress: [{fromEntities: [cluster]}]")),
            Texts{"VoidL7Rule {method: GET}"});
  // Near misses: other peers, ports, endpoints, namespace, direction; a deny; L7 rules again.
  for (const std::string& fine :
       {cnp(kWeb + "  ingress: [{fromEndpoints: [{matchLabels: {app: b}}]}]", "b"),
        cnp(kWeb + "  ingress: [{fromEndpoints: [{matchLabels: {app: a}}], toPorts: [{ports: "
                   "[{port: \"81\"}]}]}]",
            "b"),
        cnp("  endpointSelector: {matchLabels: {app: db}}\n  ingress: [{fromEndpoints: [{}]}]",
            "b"),
        cnp(kWeb + "  ingress: [{fromEndpoints: [{matchLabels: {app: a}}]}]", "b", "dev"),
        cnp(kWeb + "  egress: [{toEndpoints: [{}]}]", "b"), cnp(http("{path: \"/x\"}"), "b"),
        // Two objects of one name are alternatives: neither is sure to be there.
        cnp(kWeb + "  ingress: [{fromEndpoints: [{}]}]", "b") +
            cnp(kWeb + "  ingress: [{fromEndpoints: [{}]}]", "b")}) {
    EXPECT_EQ(with(fine), Texts{}) << fine;
  }
  EXPECT_EQ(with(cnp(kWeb + "  ingressDeny: [{fromEndpoints: [{matchLabels: {app: a}}]}]", "b")),
            Texts{"DeadAllow CiliumNetworkPolicy"});
  // Rules that allow everything only make requests visible.
  EXPECT_EQ(lint(cnp(http("{}")) + knp("  podSelector: {}\n  ingress: [{}]")).found(), Texts{});
}

const std::string kNames = kWeb +
                           "  egress:\n  - toFQDNs: [{matchName: api.example.com}]\n"
                           "    toPorts: [{ports: [{port: \"443\", protocol: TCP}]}]\n";

std::string dns(const std::string& pattern, const std::string& protocol = "ANY") {
  return "  - toEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: kube-system, k8s-app: "
         "kube-dns}}]\n    toPorts:\n    - ports: [{port: \"53\", protocol: " +
         protocol + "}]\n" +
         (pattern.empty() ? "" : "      rules: {dns: [{matchPattern: \"" + pattern + "\"}]}\n");
}

TEST(Checks, Names) {
  EXPECT_EQ(lint(cnp(kNames)).found(), Texts{"DnsBlocked {matchName: api.example.com}"});
  EXPECT_EQ(lint(cnp(kNames + dns(""))).found(), Texts{"DnsNotSeen {matchName: api.example.com}"});
  EXPECT_EQ(lint(cnp(kNames + dns("*"))).found(), Texts{});
  EXPECT_EQ(lint(cnp(kNames + dns("*.example.com"))).found(), Texts{});
  EXPECT_EQ(lint(cnp(kNames + dns("*.github.com"))).found(),
            Texts{"NameNotResolvable {matchName: api.example.com}"});
  EXPECT_EQ(lint(cnp(kNames + dns("*.${DOMAIN}"))).found(), Texts{});
  EXPECT_EQ(lint(cnp(kNames + dns("*", "UDP"))).found(),
            Texts{"DnsOverUdpOnly {port: \"53\", protocol: UDP}"});
}

TEST(Checks, NamesServedByOtherPolicies) {
  const auto with = [&](const std::string& other) { return lint(cnp(kNames) + other).found(); };
  // One policy for the whole cluster serves everybody.
  EXPECT_EQ(with(ccnp("  endpointSelector: {matchLabels: {io.cilium.k8s.policy.cluster: default}}\n"
                      "  egress:\n" +
                      dns("*"))),
            Texts{});
  EXPECT_EQ(with(cnp("  endpointSelector: {}\n  egress:\n" + dns("*"), "dns")), Texts{});
  // Labels as capabilities: such a pod may well carry both.
  EXPECT_EQ(
      with(ccnp("  endpointSelector: {matchLabels: {egress/dns: allow}}\n  egress:\n" + dns("*"))),
      Texts{});
  // Other endpoints for certain.
  EXPECT_EQ(with(cnp("  endpointSelector: {matchLabels: {app: db}}\n  egress:\n" + dns("*"), "d")),
            Texts{"DnsBlocked {matchName: api.example.com}"});
  EXPECT_EQ(with(cnp("  endpointSelector: {}\n  egress:\n" + dns("*"), "dns", "dev")),
            Texts{"DnsBlocked {matchName: api.example.com}"});
}

TEST(Checks, NamespaceAsPodLabel) {
  const auto peer = [](const std::string& labels) {
    return lint(cnp(kWeb + "  ingress: [{fromEndpoints: [{matchLabels: {" + labels + "}}]}]"));
  };
  const Lint bad = peer("namespace: dev, app: a");
  ASSERT_EQ(bad.found(), Texts{"NamespaceAsPodLabel namespace: dev"});
  ASSERT_TRUE(bad.sink.all()[0].fix.has_value());
  const Edit& edit = bad.sink.all()[0].fix->edits[0];
  EXPECT_EQ(bad.loaded.sources->slice(edit.range), "namespace");
  EXPECT_EQ(edit.text, "k8s:io.kubernetes.pod.namespace");
  EXPECT_EQ(peer("kubernetes.io/metadata.name: dev").found(),
            Texts{"NamespaceAsPodLabel kubernetes.io/metadata.name: dev"});
  EXPECT_EQ(peer("k8s:io.kubernetes.pod.namespace: dev, namespace: dev").found(), Texts{});
  EXPECT_EQ(peer("io.kubernetes.pod.namespace: dev, k8s:app: a").found(), Texts{});
  EXPECT_EQ(peer("k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name: dev").found(),
            Texts{});
}

TEST(Checks, LabelsOutsideIdentities) {
  EXPECT_EQ(lint(cnp("  endpointSelector: {matchLabels: {statefulset.kubernetes.io/pod-name: a}}\n"
                     "  ingress: [{}]"))
                .found(),
            Texts{"LabelNotInIdentity statefulset.kubernetes.io/pod-name: a"});
  EXPECT_EQ(
      lint(knp("  podSelector: {matchLabels: {pod-template-hash: x}}\n  ingress: [{}]")).found(),
      Texts{"LabelNotInIdentity pod-template-hash: x"});
  EXPECT_EQ(lint(cnp("  endpointSelector: {matchLabels: {app.kubernetes.io/name: a}}\n"
                     "  ingress: [{}]"))
                .found(),
            Texts{});
}

TEST(Checks, NegativeSelectors) {
  const auto from = [](const std::string& expression) {
    return lint(knp("  podSelector: {}\n  ingress:\n  - from:\n    - namespaceSelector: "
                    "{matchExpressions: [" +
                    expression + "]}"))
        .found();
  };
  EXPECT_EQ(from("{key: team, operator: NotIn, values: [a]}"),
            Texts{"NegativeSelector namespaceSelector: {matchExpressions: [{key: team, operator: "
                  "NotIn, values: [a]}]}"});
  EXPECT_EQ(from("{key: team, operator: In, values: [a]}"), Texts{});
  EXPECT_EQ(from("{key: team, operator: NotIn, values: [a]}, {key: x, operator: Exists}"), Texts{});
  EXPECT_EQ(lint(cnp(kWeb + "  ingress:\n  - fromEndpoints: [{matchExpressions: [{key: "
                            "io.kubernetes.pod.namespace, operator: NotIn, values: [dev]}]}]"))
                .sink.all()
                .size(),
            1U);
  // Any namespace; and not one label of the own namespace's pods.
  EXPECT_EQ(lint(cnp(kWeb + "  ingress:\n  - fromEndpoints: [{matchExpressions: [{key: "
                            "io.kubernetes.pod.namespace, operator: Exists}]}]\n"
                            "  - fromEndpoints: [{matchExpressions: [{key: app, operator: NotIn, "
                            "values: [b]}]}]\n    toPorts: [{ports: [{port: http}]}]"))
                .find(DiagCode::NegativeSelector),
            nullptr);
}

TEST(Checks, ForeignNamespace) {
  const auto subject = [](const std::string& key) {
    return lint(cnp("  endpointSelector: {matchLabels: {" + key + "}}\n  ingress: [{}]")).found();
  };
  EXPECT_EQ(subject("k8s:io.kubernetes.pod.namespace: dev"),
            Texts{"ForeignNamespace k8s:io.kubernetes.pod.namespace: dev"});
  EXPECT_EQ(subject("io.kubernetes.pod.namespace: dev"),
            Texts{"ForeignNamespace io.kubernetes.pod.namespace: dev"});
  EXPECT_EQ(subject("io.kubernetes.pod.namespace: prod"), Texts{});
  EXPECT_EQ(subject("k8s:io.kubernetes.pod.namespace: prod"), Texts{});
}

TEST(Checks, EmptyPeerList) {
  EXPECT_EQ(lint(cnp(kWeb + "  ingress:\n  - fromEndpoints: []")).found(),
            Texts{"EmptyPeerList fromEndpoints: []"});
  EXPECT_EQ(lint(cnp(kWeb + "  ingress:\n  - fromEndpoints: [{}]")).found(), Texts{});
  EXPECT_EQ(lint(cnp(kWeb + "  ingress: [{}]")).found(), Texts{});
}

TEST(Checks, Ports) {
  const auto icmp = [](const std::string& field) {
    return lint(cnp(kWeb + "  egress: [{icmps: [{fields: [" + field + "]}]}]")).found();
  };
  EXPECT_EQ(icmp("{type: 0, family: IPv4}"), Texts{"IcmpTypeZero {type: 0, family: IPv4}"});
  EXPECT_EQ(icmp("{type: EchoReply}"), Texts{"IcmpTypeZero {type: EchoReply}"});
  EXPECT_EQ(icmp("{type: 300}"), Texts{"IcmpTypeTooBig {type: 300}"});
  EXPECT_EQ(icmp("{type: 8}"), Texts{});
  const auto port = [](const std::string& text) {
    return lint(cnp(kWeb + "  ingress: [{toPorts: [{ports: [{" + text + "}]}]}]")).found();
  };
  EXPECT_EQ(port("port: \"90\", endPort: 80, protocol: TCP"), Texts{"EndPortIgnored 80"});
  EXPECT_EQ(port("port: \"80\", endPort: 90, protocol: ANY"), Texts{});
  EXPECT_EQ(port("port: \"53\""), Texts{});
}

TEST(Checks, RedundantItems) {
  const auto items = [](const std::string& text) {
    return lint(cnp(kWeb + "  ingress:\n" + text));
  };
  const Lint bad = items(
      "  - fromEndpoints: [{matchLabels: {app: a}}]\n"
      "  - fromEntities: [cluster]");
  ASSERT_EQ(bad.found(), Texts{"RedundantItem fromEndpoints: [{matchLabels: {app: a}}]"});
  EXPECT_EQ(bad.sink.all()[0].severity, Severity::Warning);
  const Lint mild = items(
      "  - fromEndpoints: [{matchLabels: {app: a}}]\n"
      "    toPorts: [{ports: [{port: \"80\", protocol: TCP}]}]\n"
      "  - fromEndpoints: [{}]\n    toPorts: [{ports: [{port: \"80\"}]}]");
  ASSERT_EQ(mild.found(), Texts{"RedundantItem fromEndpoints: [{matchLabels: {app: a}}]"});
  EXPECT_EQ(mild.sink.all()[0].severity, Severity::Note);
  for (const char* fine :
       {"  - fromEndpoints: [{matchLabels: {app: a}}]\n  - fromEntities: [world]",
        "  - fromEndpoints: [{matchLabels: {app: a}}]\n  - fromEntities: [cluster]\n"
        "    toPorts: [{ports: [{port: \"80\"}]}]",
        "  - fromEntities: [host]\n  - fromEntities: [cluster, host, remote-node]",
        "  - fromEntities: [cluster, kube-apiserver]",
        "  - fromEndpoints: [{matchLabels: {app: a}}]\n    authentication: {mode: required}\n"
        "  - fromEntities: [cluster]",
        "  - fromEndpoints: [{matchLabels: {app: a}}]\n    toPorts: [{ports: [{port: \"80\", "
        "protocol: TCP}], rules: {http: [{}]}}]\n  - fromEntities: [cluster]"}) {
    EXPECT_EQ(items(fine).found(), Texts{}) << fine;
  }
}

TEST(Checks, DefaultDeny) {
  const std::string open =
      "  endpointSelector: {matchLabels: {app: web}}\n  ingress: [{fromEntities: [cluster]}]";
  EXPECT_EQ(lint(ccnp(open, "default-deny")).found(), Texts{"DefaultDenyAllows cluster"});
  EXPECT_EQ(lint(ccnp("  description: Default deny for web\n" + open)).found(),
            Texts{"DefaultDenyAllows cluster"});
  EXPECT_EQ(lint(ccnp(open, "default-deny-egress")).found(), Texts{});
  EXPECT_EQ(lint(ccnp(open, "web")).found(), Texts{});
  EXPECT_EQ(lint(cnp(kWeb + "  ingress: [{}]\n  egress: [{}]", "default-deny")).found(), Texts{});
  EXPECT_EQ(lint(cnp(kWeb + "  egress:\n" + dns(""), "default-deny-allow-dns")).found(), Texts{});
  EXPECT_EQ(lint(knp("  podSelector: {}\n  policyTypes: [Ingress]", "default-deny")).found(),
            Texts{});
  EXPECT_EQ(lint(knp("  podSelector: {}\n  ingress: [{}]", "deny-all")).found(),
            Texts{"DefaultDenyAllows {}"});
}

TEST(Checks, ReservedEndpoints) {
  const auto all = [](const std::string& rest) {
    return lint(ccnp("  endpointSelector: {}\n" + rest)).found();
  };
  EXPECT_EQ(all("  ingress: [{fromEntities: [cluster]}]"), Texts{"CatchesReserved {}"});
  EXPECT_EQ(all("  ingress: [{fromEntities: [all]}]"), Texts{});
  EXPECT_EQ(all("  egress: [{toEntities: [cluster]}]"), Texts{});
  EXPECT_EQ(all("  enableDefaultDeny: {ingress: false}\n  ingress: [{fromEntities: [cluster]}]"),
            Texts{});
  EXPECT_EQ(lint(cnp("  endpointSelector: {}\n  ingress: [{}]")).found(), Texts{});
}

TEST(Checks, DenyOnly) {
  const std::string deny = kWeb + "  ingressDeny: [{fromEntities: [world]}]";
  EXPECT_EQ(lint(cnp(deny)).found(), Texts{"DenyOnlyIsolates {fromEntities: [world]}"});
  EXPECT_EQ(lint(cnp(deny + "\n  enableDefaultDeny: {ingress: false}")).found(), Texts{});
  EXPECT_EQ(lint(cnp(deny + "\n  ingress: [{fromEntities: [all]}]")).found(), Texts{});
  EXPECT_EQ(lint(cnp(deny) + knp("  podSelector: {}\n  ingress: [{}]")).found(), Texts{});
  EXPECT_EQ(lint(cnp(kWeb + "  ingressDeny: [{fromEntities: [cluster]}]\n"
                            "  ingress: [{fromEntities: [world]}]"))
                .found(),
            Texts{"DenyStopsProbes cluster"});
  EXPECT_EQ(lint(cnp(kWeb + "  ingressDeny: [{fromEndpoints: [{}]}]\n"
                            "  ingress: [{fromEntities: [world]}]"))
                .found(),
            Texts{});
}

TEST(Checks, Sections) {
  const Lint empty = lint(cnp(kWeb + "  ingress: []"));
  ASSERT_EQ(empty.found(), Texts{"EmptySection ingress"});
  EXPECT_EQ(empty.sink.all()[0].severity, Severity::Warning);
  const Lint served =
      lint(cnp(kWeb + "  ingress: []") + knp("  podSelector: {}\n  policyTypes: [Ingress]"));
  ASSERT_EQ(served.found(), Texts{"EmptySection ingress"});
  EXPECT_EQ(served.sink.all()[0].severity, Severity::Note);
  EXPECT_EQ(lint(knp("  podSelector: {}\n  ingress: []")).found(), Texts{});
  EXPECT_EQ(lint(cnp(kWeb + "  ingress: [{}]\n  enableDefaultDeny: {egress: true}")).found(),
            Texts{"DefaultDenyWithoutItems enableDefaultDeny"});
  EXPECT_EQ(lint(cnp(kWeb + "  egress: [{}]\n  enableDefaultDeny: {egress: true}")).found(),
            Texts{});
  const Lint none = lint(cnp("  endpointSelector: {matchLabels: {app: web}}"));
  EXPECT_NE(none.find(DiagCode::NoSections), nullptr);
}

TEST(Checks, HostPolicies) {
  const auto host = [](const std::string& ingress, bool firewall) {
    ir::Settings settings;
    settings.host_firewall = firewall;
    return lint(ccnp("  nodeSelector: {matchLabels: {pool: a}}\n" + ingress), Mode::Partial,
                settings);
  };
  const std::string ssh =
      "  ingress: [{fromEntities: [cluster]}, {toPorts: [{ports: [{port: "
      "\"22\", protocol: TCP}]}]}]";
  EXPECT_EQ(host(ssh, false).found(),
            (Texts{"HostFirewallOff nodeSelector", "HostPolicyStops nodeSelector"}));
  const Lint on = host(ssh, true);
  ASSERT_EQ(on.found(), Texts{"HostPolicyStops nodeSelector"});
  ASSERT_EQ(on.sink.all()[0].notes.size(), 1U);  // other nodes keep everything
  EXPECT_NE(on.sink.all()[0].notes[0].find("10250"), std::string::npos);
  EXPECT_EQ(host("  ingress: [{fromEntities: [all]}]", true).found(), Texts{});
  EXPECT_EQ(host("  egress: [{toEntities: [all]}]", true).found(), Texts{});
}

TEST(Checks, NetworkPolicies) {
  EXPECT_EQ(lint(knp("  podSelector: {}\n  policyTypes: [Ingress]\n  egress: [{}]")).found(),
            Texts{"NotInPolicyTypes egress"});
  EXPECT_EQ(lint(knp("  podSelector: {}\n  egress: [{}]")).found(), Texts{});
  EXPECT_EQ(
      lint(knp("  podSelector: {}\n  ingress:\n  - from: []\n    ports: [{port: 80}]")).found(),
      Texts{"EmptyPeersMeanAll from"});
  EXPECT_EQ(lint(knp("  podSelector: {}\n  ingress:\n  - ports: [{port: 80}]")).found(), Texts{});
  EXPECT_EQ(lint(knp("  podSelector: {}\n  ingress:\n  - from:\n"
                     "    - namespaceSelector: {matchLabels: {team: a}}\n"
                     "    - podSelector: {matchLabels: {app: a}}"))
                .found(),
            Texts{"PeersAreAlternatives podSelector: {matchLabels: {app: a}}"});
  EXPECT_EQ(lint(knp("  podSelector: {}\n  ingress:\n  - from:\n"
                     "    - namespaceSelector: {matchLabels: {team: a}}\n"
                     "      podSelector: {matchLabels: {app: a}}"))
                .found(),
            Texts{});
}

const char* const kCluster = R"(
apiVersion: v1
kind: Namespace
metadata: {name: prod}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: prod, labels: {app: web}}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}
status: {podIP: 10.0.0.7}
---
)";

TEST(Checks, Inventory) {
  const auto in_cluster = [](const std::string& policy, Mode mode = Mode::Complete) {
    return lint(kCluster + policy, mode).found();
  };
  const std::string nobody = cnp(kWeb + "  ingress: [{fromEndpoints: [{matchLabels: {app: a}}]}]");
  EXPECT_EQ(in_cluster(nobody), Texts{"PeerSelectsNobody app: a"});
  EXPECT_EQ(in_cluster(nobody, Mode::Partial), Texts{});
  EXPECT_EQ(in_cluster(cnp(kWeb + "  ingress: [{fromEndpoints: [{matchLabels: {app: web}}]}]")),
            Texts{});
  EXPECT_EQ(in_cluster(cnp("  endpointSelector: {matchLabels: {ap: web}}\n  ingress: [{}]")),
            Texts{"SubjectSelectsNobody ap: web"});
  EXPECT_EQ(in_cluster(cnp(kWeb + "  egress: [{toCIDR: [10.0.0.7/32, 10.0.0.8/32]}]")),
            Texts{"CidrOfMember 10.0.0.7/32"});
  const auto deny = [](const std::string& port) {
    return cnp(kWeb +
               "  ingress: [{fromEndpoints: [{}]}]\n"
               "  ingressDeny: [{toPorts: [{ports: [{port: " +
               port + "}]}]}]");
  };
  EXPECT_EQ(in_cluster(deny("metrics")), Texts{"DenyPortUnknown {port: metrics}"});
  EXPECT_EQ(in_cluster(deny("http")), Texts{});
  const std::string service =
      cnp(kWeb +
          "  egress:\n  - toServices: [{k8sService: {serviceName: db, namespace: prod}}]\n"
          "    toPorts: [{ports: [{port: \"5432\", protocol: TCP}]}]");
  EXPECT_EQ(in_cluster(service), Texts{"ServiceNotFound toServices: [{k8sService: {serviceName: "
                                       "db, namespace: prod}}]"});
  EXPECT_EQ(in_cluster(service, Mode::Partial), Texts{});
}

TEST(Checks, Conflicts) {
  const std::string kafka = cnp(kWeb +
                                    "  ingress:\n  - fromEndpoints: [{matchLabels: {app: a}}]\n"
                                    "    toPorts:\n    - ports: [{port: \"80\", protocol: TCP}]\n"
                                    "      rules: {kafka: [{topic: t}]}",
                                "b");
  const Lint bad = lint(kCluster + cnp(http("{method: GET}")) + kafka);
  const Diagnostic* d = bad.find(DiagCode::ConflictFreezes);
  ASSERT_NE(d, nullptr);
  EXPECT_EQ(d->severity, Severity::Error);
  EXPECT_EQ(lint(kCluster + cnp(http("{method: GET}"))).find(DiagCode::ConflictFreezes), nullptr);
  // Without pods: whoever one policy selects is selected by the other.
  EXPECT_NE(lint(cnp(http("{method: GET}")) + kafka).find(DiagCode::ConflictFreezes), nullptr);
  const std::string others = "  endpointSelector: {matchLabels: {tier: web}}\n" +
                             http("{method: GET}").substr(kWeb.size());
  EXPECT_EQ(lint(cnp(others) + kafka).find(DiagCode::ConflictFreezes), nullptr);
}

// Every row of the catalogue is shown by a test or says why not.
TEST(Checks, CatalogueIsComplete) {
  for (const DiagInfo& row : all_diagnostics()) {
    const int number = static_cast<int>(row.code);
    if (number < 301 || number > 372) continue;
    EXPECT_FALSE(row.meaning.empty()) << row.name;
    EXPECT_FALSE(row.example.empty()) << row.name;
    EXPECT_FALSE(row.remedy.empty()) << row.name;
  }
}

// A pattern is called needless beside another one exactly where all short names that it matches are
// matched by the other.
TEST(Checks, DnsPatternsAreLanguages) {
  std::vector<std::string> names = {""};
  for (std::size_t i = 0; i < names.size() && names[i].size() < 6; ++i) {
    for (const char c : {'a', 'b', '.'}) names.push_back(names[i] + c);
  }
  const ir::Profile& release = ir::Settings{}.release();
  std::mt19937 random(7);
  const auto pattern = [&] {
    std::string out;
    for (std::size_t labels = 1 + random() % 2; labels > 0; --labels) {
      for (std::size_t length = 1 + random() % 2; length > 0; --length) out += "ab*"[random() % 3];
      if (labels > 1) out += '.';
    }
    return random() % 8 == 0 ? "**." + out : out;
  };
  int covered = 0;
  for (int i = 0; i < 150; ++i) {
    const std::string one = pattern(), two = pattern();
    const auto within = [&](const std::string& narrow, const std::string& wide) {
      return std::all_of(names.begin(), names.end(), [&](const std::string& name) {
        return !ir::dns_pattern_matches(ir::dns_pattern(release, narrow), name) ||
               ir::dns_pattern_matches(ir::dns_pattern(release, wide), name);
      });
    };
    const Lint found = lint(
        cnp(kWeb +
            "  egress:\n  - toEndpoints: [{matchLabels: {app: dns}}]\n    toPorts:\n"
            "    - ports: [{port: \"53\", protocol: ANY}]\n      rules: {dns: [{matchPattern: '" +
            one + "'}, {matchPattern: '" + two + "'}]}"));
    const bool expected = within(one, two) || within(two, one);
    EXPECT_EQ(found.find(DiagCode::DnsRuleCovered) != nullptr, expected) << one << " " << two;
    covered += expected ? 1 : 0;
  }
  EXPECT_GT(covered, 10);
  EXPECT_LT(covered, 140);
}

// DNS rules, one for each text.
std::string dns_rules(const Texts& rules, const std::string& name) {
  return cnp(kWeb + fmt::format("  egress:\n  - toEndpoints: [{{matchLabels: {{app: dns}}}}]\n"
                                "    toPorts:\n    - ports: [{{port: \"53\", protocol: ANY}}]\n"
                                "      rules: {{dns: [{{{}}}]}}",
                                fmt::join(rules, "}, {")),
             name);
}

// Equal rules are found in lists that are too long to be compared as languages.
TEST(Checks, EqualDnsRulesOfLongLists) {
  Texts rules;
  for (int i = 0; i < 100; ++i) rules.push_back(fmt::format("matchName: n{}.example.com", i));
  EXPECT_EQ(lint(dns_rules(rules, "a")).find(DiagCode::DnsRuleCovered), nullptr);
  rules.push_back(rules[7]);
  const Lint found = lint(dns_rules(rules, "a"));
  const Diagnostic* d = found.find(DiagCode::DnsRuleCovered);
  ASSERT_NE(d, nullptr);
  EXPECT_EQ(d->message, "`n7.example.com` stands here twice: this rule allows nothing more");
  ASSERT_EQ(d->labels.size(), 1U);
  EXPECT_LT(d->labels[0].range.begin, d->range.begin);
  // What two policies say is nothing that one of them says twice.
  EXPECT_EQ(lint(dns_rules({rules[7]}, "a") + dns_rules({rules[7], rules[8]}, "b"))
                .find(DiagCode::DnsRuleCovered),
            nullptr);
}

TEST(Checks, DnsRulesAreQuotedAsWritten) {
  const auto message = [](const Texts& rules) {
    const Lint found = lint(dns_rules(rules, "a"));
    const Diagnostic* d = found.find(DiagCode::DnsRuleCovered);
    return d == nullptr ? "" : d->message;
  };
  const std::string end = ": this rule allows nothing more";
  EXPECT_EQ(message({"matchPattern: 'a***.Example.com.'", "matchPattern: \"a**.example.com\""}),
            "`a***.Example.com.` already allows `a**.example.com`" + end);
  EXPECT_EQ(message({"matchPattern: a**.example.com", "matchPattern: a*.example.com"}),
            "`a**.example.com` already allows `a*.example.com`" + end);
  EXPECT_EQ(message({"matchName: example.com", "\"matchName\": \"example.com\""}),
            "`example.com` stands here twice" + end);
}

// The articles that the outside set teaches, where it is present.
TEST(Checks, Articles) {
  const std::filesystem::path dir =
      std::filesystem::path(POLICYC_SOURCE_DIR) / "../shared/conformance/articles";
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << "no outside set beside the repository";
  const std::map<std::string, Texts> expected = {
      {"01", {}},
      {"04", {"NamespaceAsPodLabel"}},
      {"05", {}},
      {"06", {}},
      {"07", {"DnsBlocked"}},
      {"08", {"RedundantItem"}},
      {"09", {"CatchesReserved", "DefaultDenyAllows", "DefaultDenyAllows"}},
      {"10", {"HeaderLooksLikePattern", "HeaderLooksLikePattern"}},
      {"11", {}},
      {"12", {"KafkaIsGone", "KafkaLooksLikePattern"}},
      {"13", {"DnsOverUdpOnly", "NameNotResolvable"}},
      {"14", {}},
      {"15", {"CatchesReserved", "DefaultDenyAllows", "DefaultDenyAllows"}},
      {"16", {}},
      {"17", {"DnsNotSeen", "IcmpTypeZero"}},
      {"18", {"PeerSelectsNobody"}},
      {"19", {"HostPolicyStops"}},
      {"20", {}}};
  const std::map<std::string, Texts> refused = {
      {"02-restrict-egress", {"CombinedPeers"}},
      {"03-allow-specific-domain", {"NotExactlyOne", "UnknownField"}}};
  for (const auto& [name, codes] : refused) {
    frontend::LoadOptions options;
    options.paths = {(dir / (name + ".yaml")).string()};
    DiagnosticSink sink;
    frontend::load(options, {}, sink);
    Texts got;
    for (const Diagnostic& d : sink.all()) got.emplace_back(diag_info(d.code).name);
    std::sort(got.begin(), got.end());
    EXPECT_EQ(got, codes) << name;
  }
  for (const auto& [number, names] : expected) {
    frontend::LoadOptions options;
    options.world = (dir / "worlds" / number).string();
    const Lint found = lint_options(options);
    Texts got;
    for (const Diagnostic& d : found.sink.all()) got.emplace_back(diag_info(d.code).name);
    std::sort(got.begin(), got.end());
    EXPECT_EQ(got, names) << number;
  }
}

}  // namespace
}  // namespace policyc
