// Merging: the rules that select one endpoint become filters, one for each (port, protocol),
// holding one policy for each peer selector. Evaluator and resolver both
// start from here.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ir/inventory.h"
#include "ir/policy_set.h"

namespace policyc::ir {

// What one filter says of one peer selector.
struct SelectorPolicy {
  Selector selector;  // with requirements ANDed in; no requirement = every identity
  std::string text;   // selector.text(): the merge key
  bool deny = false;
  bool redirect = false;
  L7Rules l7;
  bool l7_match_all = false;  // merged with an allow without L7 rules: everything passes
  std::set<std::string> server_names;
  TlsContext tls;
  std::optional<Listener> listener;
  std::uint8_t priority = 0;     // 0 plain, 1 redirect, 255-p for listener priority p
  std::optional<AuthType> auth;  // explicit
  bool host_exemption = false;   // the allow for host that Cilium adds beside L7 rules
  bool synthetic = false;        // the allow of `enableDefaultDeny: false`
  // Pruned: the wildcard of the same filter covers it; no map entry, but the proxy still sees
  // it.
  bool no_entry = false;
  std::vector<Origin> origins;

  bool has_l7_rules() const { return !l7.empty(); }
};

struct Filter {
  Port port;  // text, number or name, end, protocol; protocol 0 = all protocols
  Parser parser = Parser::None;
  std::string parser_text;  // "http", "dns", "kafka", "tls", "crd" or the l7proto
  std::vector<SelectorPolicy> policies;
};

struct EndpointPolicy {
  bool enforced = false;        // this direction has rules, or enforcement is always
  std::vector<Filter> filters;  // sorted by protocol, port text, end
  std::string error;            // conflict: Cilium keeps the endpoint's previous policy
  std::vector<Origin> error_origins;
};

// Text of a parser as verdicts print it.
std::string parser_name(Parser parser, const L7Rules& rules);

// `rules` are those whose subject selects the endpoint. `host_labels` is the local host's identity.
EndpointPolicy merge_rules(const std::vector<const Rule*>& rules, Direction direction,
                           const Settings& settings, const LabelSet& host_labels,
                           bool host_endpoint, bool init_endpoint);

// A port number set that a filter covers at one endpoint: blocks of the port space, empty when a
// named port does not resolve. `named` gives the numbers of a name for a protocol at this endpoint
// and direction.
struct NamedPorts {
  struct Entry {
    std::string name;
    Protocol protocol;
    std::uint16_t port;
    friend auto operator<=>(const Entry&, const Entry&) = default;
  };
  std::vector<Entry> entries;  // sorted, unique
  friend auto operator<=>(const NamedPorts&, const NamedPorts&) = default;

  // The number, or nullopt when the name is unknown or has two numbers for the protocol.
  std::optional<std::uint16_t> find(const std::string& name, Protocol protocol) const;
};

// The pod's own ports (ingress), or the cluster-wide table (egress).
NamedPorts ingress_ports(const Pod& pod);
NamedPorts egress_ports(const Inventory& inventory);

std::vector<PortBlock> filter_blocks(const Filter& filter, const NamedPorts& named);

}  // namespace policyc::ir
