// The policy objects as their CRDs spell them, with a place for every value. Nothing is interpreted
// here: an absent list, an empty list and a list are three different things, because they mean
// three different things.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ir/base/diagnostic.h"
#include "ir/base/source.h"

namespace policyc::frontend {

// A scalar and where it stands. `unknown` marks a `${VAR}` placeholder: the text is then a
// template.
struct Text {
  std::string text;
  SourceRange range;
  bool unknown = false;

  bool empty() const { return text.empty(); }
};

template <class T>
using List = std::vector<T>;
template <class T>
using OptList = std::optional<std::vector<T>>;  // nullopt = absent or null

struct MatchExpressionAst {
  Text key;
  Text op;  // In, NotIn, Exists, DoesNotExist
  List<Text> values;
  SourceRange range;
};

struct SelectorAst {
  List<std::pair<Text, Text>> match_labels;
  List<MatchExpressionAst> match_expressions;
  SourceRange range;
};

struct CidrSetAst {
  std::optional<Text> cidr;
  std::optional<Text> group_ref;
  std::optional<SelectorAst> group_selector;
  List<Text> except;
  SourceRange range;
};

struct FqdnAst {  // toFQDNs[] and rules.dns[]
  std::optional<Text> match_name;
  std::optional<Text> match_pattern;
  SourceRange range;
};

struct ServiceAst {          // toServices[]
  std::optional<Text> name;  // k8sService.serviceName
  std::optional<SelectorAst> selector;
  std::optional<Text> ns;
  SourceRange range;
};

struct PortAst {
  std::optional<Text> port;  // absent in NetworkPolicy = all ports of the protocol
  bool numeric = false;      // NetworkPolicy: an integer rather than a name
  std::optional<std::int64_t> end_port;
  SourceRange end_port_range;
  std::optional<Text> protocol;
  SourceRange range;
};

struct HeaderMatchAst {
  Text name;
  std::optional<Text> value;
  std::optional<Text> secret_name;
  std::optional<Text> secret_namespace;
  std::optional<Text> mismatch;  // LOG, ADD, DELETE, REPLACE
  SourceRange range;
};

struct HttpAst {
  std::optional<Text> path;
  std::optional<Text> method;
  std::optional<Text> host;
  List<Text> headers;
  List<HeaderMatchAst> header_matches;
  SourceRange range;
};

struct KafkaAst {
  std::optional<Text> role;
  std::optional<Text> api_key;
  std::optional<Text> api_version;
  std::optional<Text> client_id;
  std::optional<Text> topic;
  SourceRange range;
};

struct L7RulesAst {  // toPorts[].rules
  OptList<HttpAst> http;
  OptList<KafkaAst> kafka;
  OptList<FqdnAst> dns;
  std::optional<Text> l7proto;
  OptList<List<std::pair<Text, Text>>> l7;
  SourceRange range;
};

struct TlsAst {
  Text secret_name;
  std::optional<Text> secret_namespace;
  SourceRange range;
};

struct ListenerAst {
  std::optional<Text> envoy_kind;
  Text envoy_name;
  Text name;
  std::optional<std::int64_t> priority;
  SourceRange range;
};

struct PortRuleAst {  // toPorts[]
  OptList<PortAst> ports;
  std::optional<TlsAst> terminating_tls;
  std::optional<TlsAst> originating_tls;
  OptList<Text> server_names;
  std::optional<ListenerAst> listener;
  std::optional<L7RulesAst> rules;
  SourceRange range;
};

struct IcmpFieldAst {
  std::optional<Text> family;  // IPv4 (default) or IPv6
  Text type;                   // number or CamelCase name
  SourceRange range;
};

struct IcmpAst {  // icmps[]
  OptList<IcmpFieldAst> fields;
  SourceRange range;
};

// One item of ingress, ingressDeny, egress or egressDeny. `peers` are from* or to* by section.
struct RuleItemAst {
  OptList<SelectorAst> endpoints;  // fromEndpoints / toEndpoints
  OptList<SelectorAst> requires_;  // fromRequires / toRequires
  OptList<Text> cidr;
  OptList<CidrSetAst> cidr_set;
  OptList<Text> entities;
  OptList<SelectorAst> nodes;
  bool groups = false;  // fromGroups / toGroups non-empty
  SourceRange groups_range;
  OptList<FqdnAst> fqdns;        // egress only
  OptList<ServiceAst> services;  // egress only
  OptList<PortRuleAst> ports;    // toPorts
  OptList<IcmpAst> icmps;
  std::optional<Text> authentication;  // authentication.mode
  SourceRange range;
};

// One rule: `spec`, or one element of `specs`.
struct RuleAst {
  std::optional<SelectorAst> endpoint_selector;
  std::optional<SelectorAst> node_selector;
  OptList<RuleItemAst> ingress, ingress_deny, egress, egress_deny;
  std::optional<bool> default_deny_ingress, default_deny_egress;  // enableDefaultDeny
  std::optional<Text> description;
  std::string path;  // "spec" or "specs[2]"
  SourceRange range;
};

struct IpBlockAst {
  Text cidr;
  List<Text> except;
  SourceRange range;
};

struct NetpolPeerAst {
  std::optional<SelectorAst> pod_selector;
  std::optional<SelectorAst> namespace_selector;
  std::optional<IpBlockAst> ip_block;
  SourceRange range;
};

struct NetpolRuleAst {
  OptList<NetpolPeerAst> peers;  // from / to
  OptList<PortAst> ports;
  SourceRange range;
};

struct NetpolSpecAst {
  SelectorAst pod_selector;
  OptList<NetpolRuleAst> ingress, egress;
  OptList<Text> policy_types;
  SourceRange range;
};

enum class PolicyKind {
  CiliumNetworkPolicy,
  CiliumClusterwideNetworkPolicy,
  NetworkPolicy,
  CiliumCidrGroup
};
std::string policy_kind_name(PolicyKind kind);  // as written in `kind:`

struct CidrGroupAst {
  List<Text> cidrs;
};

struct PolicyAst {
  PolicyKind kind{};
  Text name;
  std::optional<Text> ns;              // as written; the loader settles what it is when absent
  List<std::pair<Text, Text>> labels;  // metadata.labels
  FileId file = kNoFile;
  std::uint32_t document = 0;  // 0-based index in its file (items of a List share it)
  SourceRange range;           // the whole object
  SourceRange kind_range;      // the value of `kind`

  std::vector<RuleAst> rules;              // CNP and CCNP
  std::optional<NetpolSpecAst> netpol;     // NetworkPolicy
  std::optional<CidrGroupAst> cidr_group;  // CiliumCIDRGroup

  // What the cluster says of the object. A refused object has no effect on any verdict.
  bool accepted = true;
  Layer layer = Layer::None;  // the first layer that refuses
  std::string error;          // its first message
  // The first refusal but for unknown fields: what is left to say where the API server drops them.
  Layer layer_pruned = Layer::None;
  std::string error_pruned;
};

}  // namespace policyc::frontend
