// Reading of policies: what the AST holds, and every refusal with its code, layer, place and
// remedy.
#include "frontend/parse_policy.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <set>

#include "ir/base/diag_code.h"

namespace policyc::frontend {
namespace {

struct Read {
  SourceMap sources;
  DiagnosticSink sink;
  YamlStream stream;
  PolicyAst policy;

  explicit Read(std::string text, const ir::Settings& settings = {}) {
    const FileId file = sources.add("p.yaml", std::move(text));
    stream = read_yaml(sources, file, sink);
    EXPECT_TRUE(stream.ok()) << sources.text(file);
    if (stream.documents().empty()) return;
    const YamlDocument& document = stream.documents().front();
    const auto kind = policy_kind_of(*document.root);
    EXPECT_TRUE(kind.has_value());
    if (!kind) return;
    policy = read_policy({document.root, document.range}, *kind, file, 0, settings, sink);
  }

  const Diagnostic* find(DiagCode code) const {
    for (const Diagnostic& d : sink.all()) {
      if (d.code == code) return &d;
    }
    return nullptr;
  }
  std::string all() const {
    std::string out;
    for (const Diagnostic& d : sink.all()) {
      out += fmt::format("{} {} {}: {}\n", sources.place(d.range), diag_name(d.code), d.rule,
                         d.message);
    }
    return out;
  }
  std::string slice(SourceRange range) const { return std::string(sources.slice(range)); }
};

const std::string kCnp =
    "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: shop}\n";
const std::string kCcnp =
    "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: p}\n";
const std::string kKnp =
    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
    "metadata: {name: p, namespace: shop}\n";

// Bodies of `spec`, in flow style on one line each.
std::string cnp(std::string_view rest) {
  return fmt::format("{}spec:\n  endpointSelector: {{}}\n  {}\n", kCnp, rest);
}
std::string host(std::string_view rest) {
  return fmt::format("{}spec:\n  nodeSelector: {{}}\n  {}\n", kCcnp, rest);
}
std::string knp(std::string_view rest) {
  return fmt::format("{}spec:\n  podSelector: {{}}\n  {}\n", kKnp, rest);
}
std::string repeat(std::string_view part, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += part;
  return out;
}

struct Case {
  std::string text;
  DiagCode code;
  Layer layer;        // None: a warning, the object is accepted
  std::string place;  // the text the finding points at
  std::string rule;   // its path
  std::string help;   // part of the remedy
  std::string profile = "cilium-1.18";
  bool l7_proxy = true;
  bool icmp_rules = true;
};

std::vector<Case> cases() {
  using D = DiagCode;
  const Layer schema = Layer::Schema;
  const Layer agent = Layer::Agent;
  const Layer api = Layer::ApiServer;
  const Layer unknown = Layer::UnknownField;
  const std::string http = "ports: [{port: \"80\", protocol: TCP}], rules: {http: ";
  const std::string kafka =
      "ingress: [{toPorts: [{ports: [{port: \"80\", protocol: TCP}], rules: {kafka: [";
  std::vector<Case> all = {
      // schema
      {cnp("ingress: [{toPorts: [{ports: [{port: 80}]}]}]"), D::WrongType, schema, "80",
       "spec.ingress[0].toPorts[0].ports[0].port", "\"80\""},
      {cnp("ingress: {}"), D::WrongType, schema, "{}", "spec.ingress", "`- `"},
      {cnp("ingress: [~]"), D::WrongType, schema, "~", "spec.ingress[0]", "`-`"},
      {cnp("ingress: [{toPorts: [{ports: [{port: \"1\", endPort: \"2\"}]}]}]"), D::WrongType,
       schema, "\"2\"", "spec.ingress[0].toPorts[0].ports[0].endPort", ""},
      {cnp("enableDefaultDeny: {ingress: \"no\"}"), D::WrongType, schema, "\"no\"",
       "spec.enableDefaultDeny.ingress", ""},
      {cnp("ingress: [{fromEndpoints: [{matchExpressions: [{key: a}]}]}]"), D::MissingField, schema,
       "{key: a}", "spec.ingress[0].fromEndpoints[0].matchExpressions[0]", ""},
      {cnp("ingress: [{icmps: [{fields: [{family: IPv4}]}]}]"), D::MissingField, schema,
       "{family: IPv4}", "spec.ingress[0].icmps[0].fields[0]", ""},
      {cnp("egress: [{toPorts: [{ports: [{port: \"1\"}], terminatingTLS: {}}]}]"), D::MissingField,
       schema, "{}", "spec.egress[0].toPorts[0].terminatingTLS", ""},
      {cnp("description: x"), D::MissingField, schema, "", "spec", "section", "cilium-1.20"},
      {cnp("ingress: [{fromEntities: [World]}]"), D::UnknownValue, schema, "World",
       "spec.ingress[0].fromEntities[0]", "`world`"},
      {cnp("ingress: [{authentication: {mode: mutual}}]"), D::UnknownValue, schema, "mutual",
       "spec.ingress[0].authentication.mode", ""},
      {cnp("egress: [{toCIDR: [10.0.0.1]}]"), D::BadFormat, schema, "10.0.0.1",
       "spec.egress[0].toCIDR[0]", ""},
      {cnp("egress: [{toFQDNs: [{matchName: \"*.a\"}]}]"), D::BadFormat, schema, "\"*.a\"",
       "spec.egress[0].toFQDNs[0].matchName", ""},
      {cnp("ingress: [{toPorts: [{ports: [{port: \"\"}]}]}]"), D::BadFormat, schema, "\"\"",
       "spec.ingress[0].toPorts[0].ports[0].port", ""},
      {cnp("ingress: [{icmps: [{fields: [{type: Ping}]}]}]"), D::BadFormat, schema, "Ping",
       "spec.ingress[0].icmps[0].fields[0]", "EchoRequest"},
      {kCnp + "spec: {ingress: [{}]}\n", D::NotExactlyOne, schema, "{ingress: [{}]}", "spec",
       "endpointSelector"},
      {cnp("egress: [{toFQDNs: [{}]}]"), D::NotExactlyOne, schema, "{}",
       "spec.egress[0].toFQDNs[0]", "matchName"},
      {cnp("egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, cidrGroupRef: g}]}]"), D::NotExactlyOne,
       schema, "cidrGroupRef", "spec.egress[0].toCIDRSet[0]", "keep one"},
      {cnp("ingress: [{toPorts: [{ports: [" + repeat("{port: \"1\"}, ", 41) + "]}]}]"),
       D::TooManyItems, schema, "", "spec.ingress[0].toPorts[0].ports", ""},
      {cnp("ingress: [{icmps: [{fields: [" + repeat("{type: 8}, ", 41) + "]}]}]"), D::TooManyItems,
       schema, "", "spec.ingress[0].icmps[0].fields", ""},
      {cnp("ingress: [{toPorts: [{ports: [{port: \"1\", endPort: 65536}]}]}]"), D::OutOfRange,
       schema, "65536", "spec.ingress[0].toPorts[0].ports[0].endPort", ""},
      {"apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {}\n",
       D::WrongApiVersion, schema, "extensions/v1beta1", "apiVersion", "networking.k8s.io/v1"},

      // unknown fields
      {cnp("ingres: []"), D::UnknownField, unknown, "ingres", "spec", "`ingress`"},
      {kCnp + "description: x\nspec: {endpointSelector: {}}\n", D::UnknownField, unknown,
       "description", "", "into `spec`"},
      {cnp("ingress: [{toPorts: [{" + http + "[{}], kafka: [{}]}}]}]"), D::UnknownField, unknown,
       "kafka", "spec.ingress[0].toPorts[0].rules", "1.20", "cilium-1.20"},

      // the agent
      {kCnp + "spec: {nodeSelector: {}, ingress: [{}]}\n", D::NodeSelectorInNamespacedPolicy, agent,
       "{}", "spec", "CiliumClusterwideNetworkPolicy"},
      {kCnp + "specs: [{nodeSelector: {}}]\n", D::NodeSelectorInNamespacedPolicy, agent, "{}",
       "specs[0]", "CiliumClusterwideNetworkPolicy", "cilium-1.19"},
      {kCnp, D::EmptyPolicy, agent, "CiliumNetworkPolicy", "", "`spec`"},
      {"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nspec: {endpointSelector: {}}\n",
       D::MissingName, agent, "CiliumNetworkPolicy", "metadata", "name"},
      {cnp("ingress: [{fromEndpoints: [{matchLabels: {\"a b\": c}}]}]"), D::BadLabelSelector, agent,
       "\"a b\"", "spec.ingress[0].fromEndpoints[0]", "63"},
      {cnp("ingress: [{fromEndpoints: [{matchExpressions: [{key: a, operator: In}]}]}]"),
       D::BadLabelSelector, agent, "{key: a, operator: In}", "spec.ingress[0].fromEndpoints[0]",
       "`Exists`"},
      {cnp("ingress: [{fromEndpoints: [{matchExpressions: [{key: a, operator: Exists, values: "
           "[b]}]}]}]"),
       D::BadLabelSelector, agent, "b", "spec.ingress[0].fromEndpoints[0]", "`In`"},
      {knp("ingress: [{from: [{podSelector: {matchLabels: {a: \"!b\"}}}]}]"), D::BadLabelSelector,
       agent, "\"!b\"", "spec.ingress[0].from[0].podSelector", "NotIn"},
      {knp("ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: Gt}]}}]}]"),
       D::BadLabelSelector, agent, "Gt", "spec.ingress[0].from[0].podSelector", "`NotIn`"},
      {knp("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]"), D::CombinedPeers,
       agent, "{cidr: 10.0.0.0/8}", "spec.ingress[0].from[0]", "two peers"},
      {cnp("ingress: [{fromNodes: [{}]}]"), D::NodesNeedFlag, agent, "{}", "spec.ingress[0]",
       "host, remote-node"},
      {cnp("ingress: [{icmps: [{fields: [{type: 8}]}], toPorts: [{ports: [{port: \"1\"}]}]}]"),
       D::IcmpWithPorts, agent, "{fields: [{type: 8}]}", "spec.ingress[0]", "two items"},
      {cnp("ingress: [{icmps: [{fields: [{type: 8}]}]}]"), D::IcmpDisabled, agent,
       "{fields: [{type: 8}]}", "spec.ingress[0]", "`icmps`", "cilium-1.18", true, false},
      {cnp("ingressDeny: [{toPorts: [{ports: [" + repeat("{port: \"1\"}, ", 41) + "]}]}]"),
       D::TooManyPorts, agent, "", "spec.ingressDeny[0].toPorts[0]", "several"},
      {cnp("ingress: [{icmps: [{fields: [{type: PacketTooBig}]}]}]"), D::BadIcmpType, agent,
       "PacketTooBig", "spec.ingress[0].icmps[0].fields[0]", "family: IPv6"},
      {cnp("ingress: [{toPorts: [{ports: [{port: \"70000\"}]}]}]"), D::BadPort, agent, "\"70000\"",
       "spec.ingress[0].toPorts[0].ports[0]", "65535"},
      {cnp("ingress: [{toPorts: [{ports: [{port: \"6581-6586\"}]}]}]"), D::BadPort, agent,
       "\"6581-6586\"", "spec.ingress[0].toPorts[0].ports[0]", "`endPort: 6586`"},
      {cnp("ingress: [{toPorts: [{ports: [{port: \"a--b\"}]}]}]"), D::BadPort, agent, "\"a--b\"",
       "spec.ingress[0].toPorts[0].ports[0]", "15 letters"},
      {cnp("ingress: [{toPorts: [{ports: [{port: \"080\"}]}]}]"), D::BadPort, agent, "\"080\"",
       "spec.ingress[0].toPorts[0].ports[0]", ""},
      {knp("ingress: [{ports: [{port: 70000}]}]"), D::BadPort, agent, "70000",
       "spec.ingress[0].ports[0]", "65535"},
      {knp("ingress: [{ports: [{port: 1, protocol: ICMP}]}]"), D::BadProtocol, agent, "ICMP",
       "spec.ingress[0].ports[0]", "`TCP`"},
      {knp("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/64}}]}]"), D::BadCidr, agent, "10.0.0.0/64",
       "spec.ingress[0].from[0].ipBlock", "10.0.0.0/8"},
      {knp("ingress: [{from: [{ipBlock: {cidr: 10.0.0.1}}]}]"), D::BadCidr, agent, "10.0.0.1",
       "spec.ingress[0].from[0].ipBlock", "10.0.0.1/32"},
      {cnp("egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]}]"), D::BadExcept,
       agent, "11.0.0.0/16", "spec.egress[0].toCIDRSet[0]", "inside"},
      {cnp("egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: [\"fd00::/16\"]}]}]"), D::BadExcept,
       agent, "\"fd00::/16\"", "spec.egress[0].toCIDRSet[0]", "family"},
      {cnp("egress: [{toCIDRSet: [{cidr: 10.1.0.0/16, except: [10.1.0.0/8]}]}]"), D::BadExcept,
       agent, "10.1.0.0/8", "spec.egress[0].toCIDRSet[0]", "inside", "cilium-1.20"},
      {cnp("egress: [{toServices: [{k8sService: {serviceName: a}}], toPorts: [{ports: [{port: "
           "\"1\"}]}]}]"),
       D::ServicesWithPorts, agent, "", "spec.egress[0]", "`toEndpoints`", "cilium-1.16"},
      {cnp("ingress: [{toPorts: [{" + http + "[{}]}}]}]"), D::L7ProxyDisabled, agent,
       "{http: [{}]}", "spec.ingress[0].toPorts[0]", "enable-l7-proxy", "cilium-1.18", false},
      {host("ingress: [{toPorts: [{" + http + "[{}]}}]}]"), D::L7OnHost, agent, "{http: [{}]}",
       "spec.ingress[0].toPorts[0]", "peer and port"},
      {host("egress: [{toPorts: [{" + http + "[{}]}}]}]"), D::L7OnHost, agent, "{http: [{}]}",
       "spec.egress[0].toPorts[0]", "peer and port"},
      {cnp("ingress: [{toPorts: [{ports: [{port: \"53\"}], rules: {dns: [{matchName: a}]}}]}]"),
       D::DnsOnIngress, agent, "{dns: [{matchName: a}]}", "spec.ingress[0].toPorts[0]", "`egress`"},
      {cnp("egress: [{toPorts: [{ports: [{port: \"53\", endPort: 60}], rules: {dns: [{matchName: "
           "a}]}}]}]"),
       D::DnsPortRange, agent, "{port: \"53\", endPort: 60}", "spec.egress[0].toPorts[0]",
       "each DNS port"},
      {cnp("egress: [{toPorts: [{rules: {dns: [{matchName: a}]}}]}]"), D::DnsWithoutPorts, agent,
       "{dns: [{matchName: a}]}", "spec.egress[0].toPorts[0]", "port: \"53\""},
      {cnp("ingress: [{toPorts: [{ports: [{port: \"80\"}], rules: {http: [{}]}}]}]"), D::L7NeedsTcp,
       agent, "{port: \"80\"}", "spec.ingress[0].toPorts[0]", "protocol: TCP"},
      {cnp("egress: [{toPorts: [{ports: [{port: \"53\", protocol: SCTP}], rules: {dns: "
           "[{matchName: "
           "a}]}}]}]"),
       D::L7NeedsTcp, agent, "SCTP", "spec.egress[0].toPorts[0]", "UDP"},
      {cnp("ingress: [{toPorts: [{ports: [{port: \"0\", protocol: TCP}], rules: {http: [{}]}}]}]"),
       D::L7PortZero, agent, "\"0\"", "spec.ingress[0].toPorts[0]", "speak"},
      {cnp("ingress: [{toPorts: [{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{}], l7: "
           "[{a: b}]}}]}]"),
       D::BadL7Rules, agent, "", "spec.ingress[0].toPorts[0].rules", "l7proto"},
      {cnp("ingress: [{toPorts: [{ports: [{port: \"80\", protocol: TCP}], rules: {l7proto: x, l7: "
           "[{\"\": b}]}}]}]"),
       D::BadL7Rules, agent, "\"\"", "spec.ingress[0].toPorts[0].rules.l7", "name"},
      {cnp("egress: [{toPorts: [{ports: [{port: \"443\"}], serverNames: [\"\"]}]}]"),
       D::BadServerNames, agent, "\"\"", "spec.egress[0].toPorts[0].serverNames", "write the name"},
      {cnp("egress: [{toPorts: [{serverNames: [a], " + http + "[{}]}}]}]"), D::BadServerNames,
       agent, "a", "spec.egress[0].toPorts[0]", "terminatingTLS"},
      {cnp("ingress: [{toPorts: [{ports: [{port: \"1\"}], listener: {name: l, envoyConfig: {name: "
           "e}}}]}]"),
       D::ListenerPlace, agent, "{name: l, envoyConfig: {name: e}}", "spec.ingress[0].toPorts[0]",
       "egress"},
      {cnp("egress: [{toPorts: [{listener: {name: l, envoyConfig: {name: e}}, " + http +
           "[{}]}}]}]"),
       D::ListenerPlace, agent, "", "spec.egress[0].toPorts[0]", "filter"},
      {cnp("ingress: [{toPorts: [{" + http + "[{method: \"*\"}]}}]}]"), D::BadHttpRegex, agent,
       "\"*\"", "spec.ingress[0].toPorts[0].rules.http[0].method", "`.*`"},
      {cnp("ingress: [{toPorts: [{" + http + "[{path: \"(?!a)\"}]}}]}]"), D::BadHttpRegex, agent,
       "\"(?!a)\"", "spec.ingress[0].toPorts[0].rules.http[0].path", "look-around"},
      {cnp("ingress: [{toPorts: [{" + http +
           "[{headerMatches: [{name: A, secret: {name: \"\"}}]}]}}]}]"),
       D::BadHeaderMatch, agent, "\"\"", "spec.ingress[0].toPorts[0].rules.http[0]", "Secret"},
      {cnp(kafka + "{role: produce, apiKey: fetch}]}}]}]"), D::BadKafka, agent, "fetch",
       "spec.ingress[0].toPorts[0].rules.kafka[0]", "keep one"},
      {cnp(kafka + "{apiKey: teleport}]}}]}]"), D::BadKafka, agent, "teleport",
       "spec.ingress[0].toPorts[0].rules.kafka[0]", "`produce`"},
      {cnp(kafka + "{apiVersion: x}]}}]}]"), D::BadKafka, agent, "x",
       "spec.ingress[0].toPorts[0].rules.kafka[0]", "number"},
      {cnp(kafka + "{topic: \"a*\"}]}}]}]"), D::BadKafka, agent, "\"a*\"",
       "spec.ingress[0].toPorts[0].rules.kafka[0]", "wildcards"},
      {kCnp + "spec: {endpointSelector: {matchLabels: {\"reserved:init\": \"\"}}}\n",
       D::InitInNamespacedPolicy, agent, "{matchLabels: {\"reserved:init\": \"\"}}",
       "spec.endpointSelector", "CiliumClusterwideNetworkPolicy"},
      {cnp("egress: [{toGroups: [{aws: {securityGroupsIds: [sg-1]}}]}]"), D::GroupsNotEvaluated,
       agent, "[{aws: {securityGroupsIds: [sg-1]}}]", "spec.egress[0]", "derived"},

      // the API server's own rules for NetworkPolicy
      {"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: A_b}\n"
       "spec: {endpointSelector: {}}\n",
       D::InvalidName, api, "A_b", "metadata.name", ""},
      {knp("ingress: [{from: [{}]}]"), D::NetpolEmptyPeer, api, "{}", "spec.ingress[0].from[0]",
       "leave `from` out"},
      {knp("egress: [{ports: [{port: \"80\"}]}]"), D::NetpolPort, api, "\"80\"",
       "spec.egress[0].ports[0]", "`port: 80`"},
      {knp("egress: [{ports: [{port: 0}]}]"), D::NetpolPort, api, "0", "spec.egress[0].ports[0]",
       "1 to 65535"},
      {knp("egress: [{ports: [{endPort: 9}]}]"), D::NetpolPort, api, "9", "spec.egress[0].ports[0]",
       "first port"},
      {knp("egress: [{ports: [{port: web, endPort: 9}]}]"), D::NetpolPort, api, "9",
       "spec.egress[0].ports[0]", "number"},
      {knp("egress: [{ports: [{port: 9, endPort: 8}]}]"), D::NetpolPort, api, "8",
       "spec.egress[0].ports[0]", "swap"},
      {knp("egress: [{ports: [{port: 9, endPort: 65536}]}]"), D::NetpolPort, api, "65536",
       "spec.egress[0].ports[0]", "65535"},
      {knp("egress: [{ports: [{port: 9, protocol: tcp}]}]"), D::NetpolProtocol, api, "tcp",
       "spec.egress[0].ports[0]", "capitals"},
      {knp("policyTypes: [Both]"), D::NetpolPolicyType, api, "Both", "spec.policyTypes",
       "`Ingress`"},
      {knp("egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]"),
       D::NetpolExcept, api, "10.0.0.0/8", "spec.egress[0].to[0].ipBlock", "longer"},

      // accepted, with a warning
      {kCnp + "sepc: {}\nspec: {endpointSelector: {}}\n", D::UnknownTopLevelField, Layer::None,
       "sepc", "", "`spec`"},
      {cnp("ingress: [{fromRequires: [{}]}]"), D::DeprecatedField, Layer::None, "[{}]",
       "spec.ingress[0]", "labels"},
      {"apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\n"
       "metadata: {name: p, namespace: shop}\nspec: {endpointSelector: {}}\n",
       D::NamespaceIgnored, Layer::None, "shop", "metadata.namespace", "namespace"},
      {cnp("ingress: [{toPorts: [{ports: [{port: \"010\"}]}]}]"), D::OctalPort, Layer::None,
       "\"010\"", "spec.ingress[0].toPorts[0].ports[0]", "zeros"},
      {cnp("ingress: [{toPorts: [{" + http + "[{headers: [\"X-Key:\"]}]}}]}]"), D::HeaderColon,
       Layer::None, "\"X-Key:\"", "spec.ingress[0].toPorts[0].rules.http[0]", "bare name"},
      {kCnp + "specs: []\n", D::EmptySpecs, Layer::None, "", "specs", "delete"},
      {kKnp, D::NetpolWithoutSpec, Layer::None, "NetworkPolicy", "", "delete"},
      {kCnp + "specs: [{nodeSelector: {}}]\n", D::NodeSelectorIgnored, Layer::None, "{}",
       "specs[0]", "Clusterwide"},
  };
  // Every pair of peer kinds is refused in both directions.
  const std::vector<std::string> in = {"fromEndpoints: [{}]", "fromCIDR: [10.0.0.0/8]",
                                       "fromCIDRSet: [{cidr: 10.0.0.0/8}]", "fromEntities: [all]"};
  const std::vector<std::string> out = {"toEndpoints: [{}]",
                                        "toCIDR: [10.0.0.0/8]",
                                        "toCIDRSet: [{cidr: 10.0.0.0/8}]",
                                        "toEntities: [all]",
                                        "toServices: [{k8sService: {serviceName: a}}]",
                                        "toFQDNs: [{matchName: a}]"};
  for (const auto& [section, members] : {std::pair(std::string("ingress"), in), {"egress", out}}) {
    for (std::size_t i = 0; i < members.size(); ++i) {
      for (std::size_t k = i + 1; k < members.size(); ++k) {
        all.push_back({cnp(fmt::format("{}: [{{{}, {}}}]", section, members[i], members[k])),
                       D::CombinedPeers, agent, "",
                       section == "egress" ? "spec.egress[0]" : "spec.ingress[0]", "two items"});
      }
    }
  }
  return all;
}

TEST(PolicyFindings, EachHasCodeLayerPlaceAndRemedy) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.text);
    ir::Settings settings;
    settings.profile = c.profile;
    settings.l7_proxy = c.l7_proxy;
    settings.icmp_rules = c.icmp_rules;
    const Read read(c.text, settings);
    const Diagnostic* d = read.find(c.code);
    ASSERT_NE(d, nullptr) << diag_name(c.code) << " missing in\n" << read.all();
    EXPECT_EQ(layer_name(d->layer), layer_name(c.layer));
    EXPECT_EQ(read.policy.accepted, c.layer == Layer::None) << read.all();
    EXPECT_EQ(layer_name(read.policy.layer), layer_name(c.layer)) << read.all();
    if (!c.place.empty()) {
      EXPECT_EQ(read.slice(d->range), c.place);
    }
    EXPECT_EQ(d->rule, c.rule);
    EXPECT_NE(d->help.find(c.help), std::string::npos) << d->help;
    ASSERT_TRUE(d->policy.has_value());
    EXPECT_FALSE(d->message.empty());
    // One mistake, one finding.
    EXPECT_EQ(read.sink.all().size(), 1U) << read.all();
  }
}

TEST(PolicyFindings, EveryCodeHasACase) {
  std::set<DiagCode> seen;
  for (const Case& c : cases()) seen.insert(c.code);
  for (const DiagInfo& row : all_diagnostics()) {
    const int number = static_cast<int>(row.code);
    if ((number >= 120 && number <= 159) || (number >= 200 && number <= 299)) {
      EXPECT_EQ(seen.count(row.code), 1U) << row.name;
    }
    if (number >= 100 && number <= 299) {
      EXPECT_FALSE(row.title.empty()) << row.name;
      EXPECT_GT(row.meaning.size(), 30U) << row.name;
      EXPECT_FALSE(row.remedy.empty()) << row.name;
    }
  }
}

TEST(PolicyFindings, TheFirstLayerDecides) {
  // Schema, unknown field and agent at once.
  const Read read(cnp("egress: [{toEntities: [World], toCIDR: [10.0.0.0/8], x: 1}]"));
  EXPECT_EQ(read.policy.layer, Layer::Schema);
  EXPECT_NE(read.policy.error.find("`World`"), std::string::npos) << read.policy.error;
  EXPECT_NE(read.find(DiagCode::CombinedPeers), nullptr);
  EXPECT_NE(read.find(DiagCode::UnknownField), nullptr);
}

TEST(PolicyFindings, AdmittedNetworkPoliciesAreOnlyWarnedAbout) {
  ir::Settings settings;
  settings.assume_admitted = true;
  for (const char* rest : {"ingress: [{from: [{}]}]", "policyTypes: [Both]",
                           "egress: [{ports: [{port: \"80\"}]}]", "ingress: [{form: []}]"}) {
    const Read read(knp(rest), settings);
    EXPECT_TRUE(read.policy.accepted) << rest;
    ASSERT_EQ(read.sink.all().size(), 1U) << rest;
    EXPECT_EQ(read.sink.all()[0].severity, Severity::Warning) << rest;
  }
}

TEST(UnknownFields, SayWhatIsLeft) {
  const std::string ports = ", toPorts: [{ports: [{port: \"80\"}]}]";
  const std::vector<std::array<std::string, 3>> rows = {
      {"egress: [{toFqdns: [{matchName: a}]" + ports + "}]", "every peer through on these ports",
       "fails open"},
      {"egress: [{toFqdns: [{matchName: a}]}]", "lets nothing through", "fails closed"},
      {"ingress: [{fromentities: [world]" + ports + "}]", "every peer through on these ports",
       "fails open"},
      {"ingress: [{fromEndpoints: [{}], toPort: []}]", "every port and protocol", "fails open"},
      {"ingress: [{fromEndpoints: [], x: 1" + ports + "}]", "lets nothing through", "fails closed"},
      {"ingress: [{x: 1, toPorts: [{}]}]", "lets nothing through", "fails closed"},
      {"ingress: [{from: [], icmps: [{fields: [{type: 8}]}]}]", "with these ICMP types",
       "fails open"},
      {"ingressDeny: [{fromEntity: [world]}]", "denies nothing", "fails open"},
      {"ingressDeny: [{fromEntity: [world]" + ports + "}]", "denies every peer", ""},
      {"ingress: [{fromEndpoints: [{matchLabel: {a: b}}]}]", "selects everything", "fails open"},
      {"ingres: [{}]", "restricts nothing", "fails open"},
      {"ingress: [{toPorts: [{port: \"80\"}]}]", "without `ports`", "fails closed"},
      {"ingress: [{toPorts: [{ports: [{port: \"80\", proto: TCP}]}]}]", "TCP, UDP and SCTP", ""},
  };
  for (const auto& [rest, words, fails] : rows) {
    const Read read(cnp(rest));
    const Diagnostic* d = read.find(DiagCode::UnknownField);
    ASSERT_NE(d, nullptr) << rest;
    ASSERT_EQ(d->notes.size(), 1U) << rest;
    EXPECT_NE(d->notes[0].find(words), std::string::npos) << rest << "\n" << d->notes[0];
    EXPECT_NE(d->notes[0].find(fails), std::string::npos) << rest << "\n" << d->notes[0];
  }
  const Read open(knp("ingress: [{form: [{podSelector: {}}]}]"));
  ASSERT_NE(open.find(DiagCode::UnknownField), nullptr);
  EXPECT_NE(open.find(DiagCode::UnknownField)->notes.at(0).find("lets everything through"),
            std::string::npos);
}

TEST(UnknownFields, SuggestTheWordThatBelongsThere) {
  const std::vector<std::array<std::string, 3>> rows = {
      {cnp("ingress: [{fromEndpoint: [{}]}]"), "fromEndpoint", "`fromEndpoints`"},
      {cnp("egress: [{toFqdns: [{matchName: a}]}]"), "toFqdns", "`toFQDNs`"},
      {cnp("egress: [{auth: {mode: required}}]"), "auth", "`authentication`"},
      {cnp("ingress: [{from: [{podSelector: {}}]}]"), "from", "`fromEndpoints`"},
      {cnp("podSelector: {}"), "podSelector", "`endpointSelector`"},
      {cnp("policyTypes: [Ingress]"), "policyTypes", "enableDefaultDeny"},
      {cnp("egress: [{to: [], ports: []}]"), "to", "`toEndpoints`"},
      {cnp("egress: [{toFQDNs: [{matchNames: a}]}]"), "matchNames", "`matchName`"},
      {knp("endpointSelector: {}"), "endpointSelector", "`podSelector`"},
      {knp("ingress: [{fromEndpoints: []}]"), "fromEndpoints", "podSelector"},
      {knp("ingress: [{from: [{matchLabels: {a: b}}]}]"), "matchLabels", "podSelector"},
  };
  for (const auto& [text, word, hint] : rows) {
    const Read read(text);
    const Diagnostic* d = read.find(DiagCode::UnknownField);
    ASSERT_NE(d, nullptr) << text;
    EXPECT_EQ(read.slice(d->range), word);
    EXPECT_NE((d->message + d->help).find(hint), std::string::npos) << d->message << d->help;
  }
}

TEST(UnknownFields, CertainFixesLeadToAnAcceptedPolicy) {
  for (const std::string& rest : {std::string("egress: [{toFqdns: [{matchName: a}]}]"),
                                  std::string("ingress: [{fromEndpoint: [{}]}]"),
                                  std::string("ingress: [{toPorts: [{ports: [{port: 80}]}]}]")}) {
    std::string text = cnp(rest);
    const Read read(text);
    ASSERT_EQ(read.sink.all().size(), 1U) << read.all();
    const auto& fix = read.sink.all()[0].fix;
    ASSERT_TRUE(fix.has_value()) << rest;
    const Edit& edit = fix->edits.at(0);
    text.replace(edit.range.begin, edit.range.end - edit.range.begin, edit.text);
    const Read again(text);
    EXPECT_TRUE(again.policy.accepted) << again.all();
    EXPECT_TRUE(again.sink.all().empty()) << again.all();
  }
}

TEST(PolicyAstTest, AbsentNullEmptyAndFilledDiffer) {
  const Read read(cnp("ingress: [{fromEndpoints: [], toPorts: ~}, {fromEntities: [world]}]"));
  ASSERT_TRUE(read.policy.accepted) << read.all();
  const RuleAst& rule = read.policy.rules.at(0);
  EXPECT_EQ(rule.path, "spec");
  EXPECT_FALSE(rule.egress.has_value());
  ASSERT_EQ(rule.ingress->size(), 2U);
  EXPECT_TRUE(rule.ingress->at(0).endpoints->empty());
  EXPECT_FALSE(rule.ingress->at(0).ports.has_value());
  EXPECT_FALSE(rule.ingress->at(1).endpoints.has_value());
  EXPECT_EQ(rule.ingress->at(1).entities->at(0).text, "world");
  EXPECT_EQ(read.slice(rule.ingress->at(1).range), "{fromEntities: [world]}");
}

TEST(PolicyAstTest, SpecAndSpecsAreUnited) {
  const Read read(kCnp +
                  "spec: {endpointSelector: {}, description: a}\n"
                  "specs: [{endpointSelector: {}, egress: [{}]}, {endpointSelector: {}}]\n");
  ASSERT_EQ(read.policy.rules.size(), 3U);
  EXPECT_EQ(read.policy.rules[1].path, "specs[0]");
  EXPECT_EQ(read.policy.rules[0].description->text, "a");
}

TEST(PolicyAstTest, NetworkPolicyKeepsNumbersAndNames) {
  const Read read(knp("ingress: [{ports: [{port: 80, endPort: 90}, {port: web, protocol: UDP}]}]"));
  ASSERT_TRUE(read.policy.accepted) << read.all();
  const auto& ports = *read.policy.netpol->ingress->at(0).ports;
  EXPECT_TRUE(ports[0].numeric);
  EXPECT_EQ(ports[0].port->text, "80");
  EXPECT_EQ(ports[0].end_port, 90);
  EXPECT_FALSE(ports[1].numeric);
  EXPECT_EQ(ports[1].protocol->text, "UDP");
}

TEST(PolicyAstTest, PlaceholdersAreUnknownNotWrong) {
  const Read read(kCnp +
                  "spec:\n"
                  "  endpointSelector: {matchLabels: {\"app.${D}/x\": \"${APP}\", \"${K}\": v}}\n"
                  "  ingress:\n"
                  "  - fromEntities: [\"${WHO}\"]\n"
                  "    toPorts:\n"
                  "    - ports: [{port: \"${PORT}\", protocol: \"${PROTO}\", endPort: ~}]\n"
                  "      rules: {http: [{path: \"/${BASE}/(\"}]}\n"
                  "  - fromCIDRSet: [{cidr: \"${LAN}\", except: [\"${GW}\"]}]\n"
                  "  - icmps: [{fields: [{family: \"${F}\", type: \"${T}\"}]}]\n");
  EXPECT_TRUE(read.policy.accepted) << read.all();
  ASSERT_TRUE(read.sink.all().empty()) << read.all();
  EXPECT_TRUE(read.policy.rules[0].ingress->at(1).cidr_set->at(0).cidr->unknown);
}

TEST(PolicyAstTest, AliasesShowBothPlaces) {
  const Read read(
      "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\nspecs:\n"
      "- endpointSelector: {}\n  ingress:\n  - &dns {fromEntities: [World]}\n"
      "- endpointSelector: {}\n  ingress:\n  - *dns\n");
  ASSERT_EQ(read.sink.all().size(), 2U);
  const Diagnostic& second = read.sink.all()[1];
  EXPECT_EQ(second.rule, "specs[1].ingress[0].fromEntities[0]");
  EXPECT_EQ(read.slice(second.range), "World");
  ASSERT_EQ(second.labels.size(), 1U);
  EXPECT_EQ(read.slice(second.labels[0].range), "*dns");
}

TEST(PolicyKindTest, GoesByKindAndGroup) {
  const auto kind_of = [](const std::string& version, const std::string& kind) {
    SourceMap sources;
    DiagnosticSink sink;
    const FileId file =
        sources.add("k.yaml", fmt::format("apiVersion: {}\nkind: {}\n", version, kind));
    const YamlStream stream = read_yaml(sources, file, sink);
    return policy_kind_of(*stream.documents().at(0).root);
  };
  EXPECT_EQ(kind_of("cilium.io/v2", "CiliumNetworkPolicy"), PolicyKind::CiliumNetworkPolicy);
  EXPECT_EQ(kind_of("cilium.io/v2alpha1", "CiliumCIDRGroup"), PolicyKind::CiliumCidrGroup);
  EXPECT_EQ(kind_of("networking.k8s.io/v1", "NetworkPolicy"), PolicyKind::NetworkPolicy);
  EXPECT_EQ(kind_of("projectcalico.org/v3", "NetworkPolicy"), std::nullopt);
  EXPECT_EQ(kind_of("cilium.io/v2", "CiliumNetworkPolice"), std::nullopt);
}

// Random trees of policy words: no crash, and refused exactly when some finding says so.
rc::Gen<std::string> gen_words(int depth) {
  static const std::vector<std::string> kKeys = {"endpointSelector",
                                                 "nodeSelector",
                                                 "ingress",
                                                 "egress",
                                                 "ingressDeny",
                                                 "egressDeny",
                                                 "fromEndpoints",
                                                 "toEndpoints",
                                                 "fromCIDR",
                                                 "toCIDRSet",
                                                 "cidr",
                                                 "except",
                                                 "fromEntities",
                                                 "toFQDNs",
                                                 "matchName",
                                                 "matchPattern",
                                                 "toPorts",
                                                 "ports",
                                                 "port",
                                                 "protocol",
                                                 "endPort",
                                                 "rules",
                                                 "http",
                                                 "dns",
                                                 "kafka",
                                                 "l7",
                                                 "l7proto",
                                                 "path",
                                                 "headerMatches",
                                                 "icmps",
                                                 "fields",
                                                 "type",
                                                 "family",
                                                 "matchLabels",
                                                 "matchExpressions",
                                                 "key",
                                                 "operator",
                                                 "values",
                                                 "listener",
                                                 "serverNames",
                                                 "toGroups",
                                                 "toServices",
                                                 "authentication",
                                                 "mode",
                                                 "enableDefaultDeny",
                                                 "podSelector",
                                                 "from",
                                                 "to",
                                                 "ipBlock",
                                                 "policyTypes",
                                                 "namespaceSelector",
                                                 "labels",
                                                 "x"};
  static const std::vector<std::string> kValues = {"80",
                                                   "\"80\"",
                                                   "\"0\"",
                                                   "~",
                                                   "yes",
                                                   "1.5",
                                                   "\"\"",
                                                   "world",
                                                   "10.0.0.0/8",
                                                   "10.0.0.1",
                                                   "TCP",
                                                   "In",
                                                   "Exists",
                                                   "\"*.a\"",
                                                   "a.b",
                                                   "\"(\"",
                                                   "IPv6",
                                                   "\"${X}\"",
                                                   "[]",
                                                   "{}",
                                                   "\"reserved:init\"",
                                                   "-1",
                                                   "99999999999999999999",
                                                   "\"::/0\"",
                                                   "Ingress"};
  if (depth == 0) return rc::gen::elementOf(kValues);
  return rc::gen::exec([depth]() -> std::string {
    const int shape = *rc::gen::inRange(0, 5);
    if (shape == 0) return *rc::gen::elementOf(kValues);
    const int n = *rc::gen::inRange(0, 4);
    std::string out;
    if (shape == 1) {
      for (int i = 0; i < n; ++i) out += *gen_words(depth - 1) + ", ";
      return fmt::format("[{}]", out);
    }
    std::set<std::string> used;
    for (int i = 0; i < n; ++i) {
      const std::string key = *rc::gen::elementOf(kKeys);
      if (!used.insert(key).second) continue;
      out += fmt::format("{}: {}, ", key, *gen_words(depth - 1));
    }
    return shape == 2 ? fmt::format("[{{{}}}]", out) : fmt::format("{{{}}}", out);
  });
}

RC_GTEST_PROP(PolicyProperty, AnyTreeIsReadAndJudged, ()) {
  const std::string head = *rc::gen::element(kCnp, kCcnp, kKnp);
  const std::string text =
      fmt::format("{}spec: {{endpointSelector: {}, ingress: {}, egress: {}, x: 1}}\n", head,
                  *gen_words(3), *gen_words(6), *gen_words(6));
  const Read read(text);
  RC_ASSERT(!read.policy.accepted);  // `x` is unknown in all kinds
  const bool refusing =
      std::any_of(read.sink.all().begin(), read.sink.all().end(),
                  [&](const Diagnostic& d) { return d.layer == read.policy.layer; });
  RC_ASSERT(refusing);
  for (const Diagnostic& d : read.sink.all()) {
    RC_ASSERT(d.layer == Layer::None || d.layer >= read.policy.layer);
    RC_ASSERT(d.range.end <= text.size());
  }
}

}  // namespace
}  // namespace policyc::frontend
