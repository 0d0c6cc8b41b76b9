// The lowered policies: every peer is a selector over identity labels, every rule knows the line
// that wrote it. This is what "the policy" means to everything behind the front end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ir/base/diagnostic.h"
#include "ir/flow.h"
#include "ir/l4.h"
#include "ir/label.h"

namespace policyc::ir {

// One input object. Refused objects stay listed, and have no rules.
struct Policy {
  PolicyRef ref;
  std::string file;            // path as given
  std::uint32_t document = 0;  // 0-based index in the file
  bool accepted = true;
  Layer layer = Layer::None;
  std::string error;
  SourceRange range;
  std::string set;          // deployment set
  bool ns_guessed = false;  // no manifest names the namespace: it was defaulted
};

enum class PeerKind : std::uint8_t { Endpoint, Entity, Cidr, CidrGroup, Fqdn, Node, Service };

// One alternative of an item's peers. Everything is a selector over labels: an entity is its
// reserved label, a prefix is `cidr:10.0.0.0/8` with its exceptions as DoesNotExist, a name is
// `fqdn:<text>`.
struct Peer {
  PeerKind kind = PeerKind::Endpoint;
  Selector selector;
  bool takes_requires = false;  // from/toRequires of the subject's rules are ANDed in
  SourceRange range;
  std::string text;  // as users know it: "app=web", "10.0.0.0/8", "world", "*.example.com"
};

struct Port {
  // Filter key: the number in decimal, or the name in lower case; "0" is all ports.
  std::string text = "0";
  std::uint16_t number = 0;       // 0 with empty name: all ports
  std::string name;               // named port; `number` is then unused
  std::uint16_t end = 0;          // inclusive end of a range; 0 = none
  Protocol protocol = kProtoTcp;  // TCP, UDP, SCTP, ICMP, ICMPv6 (ANY is expanded by lowering)
  std::string symbol;             // unknown value (`${VAR}`)
  SourceRange range;
  SourceRange ignored_end =
      {};  // an endPort that is not greater than the port, and so has no effect
};

enum class HeaderAction : std::uint8_t { None, Log, Add, Delete, Replace };

struct HeaderMatch {
  std::string name;                  // lower case
  std::optional<std::string> value;  // nullopt = presence
  bool secret = false;               // value lives in a Secret we cannot read
  HeaderAction action = HeaderAction::None;
  SourceRange range = {};
};

struct HttpRule {
  std::string method, path, host;  // RE2, full match; empty = any
  std::vector<HeaderMatch> headers;
  std::string symbol;  // unknown value (`${VAR}`)
  SourceRange range;
  SourceRange method_range = {}, path_range = {};
  bool match_all() const {
    return method.empty() && path.empty() && host.empty() && headers.empty();
  }
};

struct DnsRule {        // also toFQDNs; matchName is a pattern without `*`
  std::string pattern;  // as written; names compare without case and trailing dot
  std::string symbol;   // unknown value (`${VAR}`)
  SourceRange range;
};

struct KafkaRule {
  std::vector<int> api_keys;  // empty = any
  std::optional<int> api_version;
  std::string client_id, topic;  // empty = any
  SourceRange range;
  SourceRange client_id_range = {}, topic_range = {};
  std::string symbol = {};  // unknown value (`${VAR}`)
};

struct GenericRule {
  std::vector<std::pair<std::string, std::string>> fields;
  SourceRange range;
};

enum class Parser : std::uint8_t { None, Tls, Http, Kafka, Dns, Crd, Generic };

// `rules` of a port rule. No lists at all = no L7 restriction.
struct L7Rules {
  Parser parser = Parser::None;
  std::string proto;  // Generic: l7proto
  std::vector<HttpRule> http;
  std::vector<KafkaRule> kafka;
  std::vector<DnsRule> dns;
  std::vector<GenericRule> generic;
  bool empty() const { return http.empty() && kafka.empty() && dns.empty() && generic.empty(); }
};

struct TlsContext {
  std::string terminating_secret;  // "ns/name"; empty = none
  std::string originating_secret;
  friend auto operator<=>(const TlsContext&, const TlsContext&) = default;
};

struct Listener {
  std::string kind, config, name;
  int priority = 0;  // 1..100, 0 = none given
  friend auto operator<=>(const Listener&, const Listener&) = default;
};

struct PortRule {
  std::vector<Port> ports;  // empty contributes nothing (`ports: []`)
  L7Rules l7;
  std::vector<std::string> server_names;  // an entry with `${` is the name of an unknown
  TlsContext tls;
  std::optional<Listener> listener;
  SourceRange range;
};

struct RuleItem {
  Direction direction = Direction::Ingress;
  bool deny = false;
  bool any_peer = false;            // no peer field at all: everybody (ports must then be given)
  std::vector<Peer> peers;          // with !any_peer and no peers: nobody
  bool empty_peers = false;         // a peer list that is written, and empty
  bool services_unmatched = false;  // toServices finds no service
  bool all_l4 = true;               // neither toPorts nor icmps: every protocol, ICMP included
  std::vector<PortRule> ports;
  std::optional<AuthType> auth;
  std::string auth_symbol;  // authentication.mode is unknown: the endpoint's verdicts are, too
  std::vector<Requirement> requires_;  // from/toRequires of this item, ANDed into all rules
  Origin origin;
};

struct Rule {
  std::size_t policy = 0;  // index into PolicySet::policies
  Selector subject;
  bool host_subject = false;  // nodeSelector: `subject` is matched against node labels
  std::string ns;             // only endpoints of this namespace; empty = all
  std::string symbol;  // unknown that decides whether the subject matches (namespace not known)
  std::vector<RuleItem> items;
  bool has_ingress = false, has_egress = false;  // a non-empty allow or deny section
  bool default_deny_ingress = true, default_deny_egress = true;
  bool asked_deny_ingress = false, asked_deny_egress = false;  // enableDefaultDeny: true is written
  bool empty_ingress = false, empty_egress = false;            // `ingress: []`, `egress: []`
  bool unlisted_ingress = false, unlisted_egress = false;  // rules that policyTypes does not list
  std::string overwritten_ns;  // another namespace in a CNP's endpointSelector, which has no effect
  SourceRange overwritten_range = {};
  std::string description;
  Origin origin;
};

struct PolicySet {
  std::vector<Policy> policies;
  std::vector<Rule> rules;
};

}  // namespace policyc::ir
