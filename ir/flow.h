// A question and its answer: who wants to talk to whom, and what the policies say.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ir/base/source.h"
#include "ir/ip.h"
#include "ir/l4.h"
#include "ir/label.h"

namespace policyc::ir {

// Parties of a flow. Only pods, hypothetical pods and (with the host firewall) nodes are policy
// subjects; addresses and entities never are, even where the address is a pod's.
struct PodParty {
  std::size_t pod = 0;  // index into Inventory::pods
  friend bool operator==(const PodParty&, const PodParty&) = default;
};
struct AddressParty {
  IpAddress ip;
  friend bool operator==(const AddressParty&, const AddressParty&) = default;
};
struct EntityParty {
  std::string entity;  // "host", "world", "kube-apiserver", …
  friend bool operator==(const EntityParty&, const EntityParty&) = default;
};
struct NodeParty {
  std::size_t node = 0;  // index into Inventory::nodes
  friend bool operator==(const NodeParty&, const NodeParty&) = default;
};
// Any pod with these labels (namespace label included) in a policy-only repository; every label not
// named is free.
struct LabelsParty {
  LabelSet labels;
  std::string ns;  // empty = unknown
  friend bool operator==(const LabelsParty&, const LabelsParty&) = default;
};
// A DNS name outside the cluster; its addresses carry the fqdn labels of every selector it matches.
struct NameParty {
  std::string name;
  friend bool operator==(const NameParty&, const NameParty&) = default;
};
using Party = std::variant<PodParty, AddressParty, EntityParty, NodeParty, LabelsParty, NameParty>;

struct HttpRequest {
  std::string method;
  std::string path;  // with the query string, as `:path`
  std::string host;  // as `:authority`
  std::vector<std::pair<std::string, std::string>> headers;
  bool any_path = false, any_host = false;  // not told: what rules say of them is unknown
};
struct DnsQuery {
  std::string name;
};
struct KafkaRequest {
  std::string api_key;  // name or number
  int api_version = 0;
  std::string client_id;
  std::string topic;
};
struct TlsHello {
  std::string sni;
};
using L7Request = std::variant<std::monostate, HttpRequest, DnsQuery, KafkaRequest, TlsHello>;

struct Flow {
  std::string id;
  Party from;
  Party to;
  Protocol protocol = kProtoTcp;
  std::uint16_t port = 0;  // host order; the back end's port; for ICMP the type
  L7Request l7;
};

enum class VerdictKind : std::uint8_t { Allow, Deny, Redirect, Error, Depends };
enum class Reason : std::uint8_t {
  NoPolicy,
  Rule,
  Localhost,
  NonDefaultDeny,
  DefaultDeny,
  PolicyDeny,
  Error,
  None
};
enum class AuthType : std::uint8_t { Disabled = 0, Spire = 1, AlwaysFail = 2 };
std::string_view verdict_name(VerdictKind kind);  // "allow", …
std::string_view reason_name(Reason reason);      // "no-policy", …
std::string_view auth_name(AuthType type);        // "disabled", "spire", "test-always-fail"

struct Auth {
  AuthType type = AuthType::Disabled;
  bool is_explicit = false;
  friend auto operator<=>(const Auth&, const Auth&) = default;
};

// The place in a policy that decides: index into PolicySet::policies, path inside it, text range.
struct Origin {
  std::size_t policy = 0;
  std::string path;  // "spec.ingress[0]"
  SourceRange range;
  friend auto operator<=>(const Origin&, const Origin&) = default;
};

enum class L7VerdictKind : std::uint8_t { Allow, Deny, Unknown };

struct L7Verdict {
  L7VerdictKind verdict = L7VerdictKind::Unknown;
  std::string reason;         // "no-l7-rule", "dns-name", …; empty for allow
  std::vector<Origin> rules;  // L7 rules that match, or the candidates that do not
};

// What one endpoint's policy says in one direction.
struct DirectionVerdict {
  VerdictKind verdict = VerdictKind::Allow;
  Reason reason = Reason::NoPolicy;
  std::string parser;  // redirect only: "http", "dns", "kafka", "tls", …
  std::optional<Auth> auth;
  std::vector<Origin> rules;            // rules that contributed the deciding entry
  std::optional<L7Verdict> l7;          // only for a redirect of a flow with an L7 part
  std::vector<std::string> depends_on;  // Depends only, sorted
  std::string error;                    // Error only: why the endpoint's policy cannot be computed
};

struct FlowVerdict {
  std::string id;
  std::optional<DirectionVerdict> egress;   // absent where the source is no policy subject
  std::optional<DirectionVerdict> ingress;  // absent where the target is none
  VerdictKind final = VerdictKind::Allow;
  std::string final_reason;  // "ingress:default-deny"; empty for allow and redirect
};

}  // namespace policyc::ir
