// Policies resolved for the endpoints of an inventory: one decision for every identity class and
// every (protocol, port), in a form that images, graphs and dumps read off directly.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ir/flow.h"
#include "ir/ip.h"
#include "ir/l4.h"
#include "ir/label.h"
#include "ir/policy_set.h"

namespace policyc::ir {

using IdentityIndex = std::uint32_t;  // dense index into Resolved::identities

struct Identity {
  std::uint32_t number =
      0;  // Cilium's numeric identity: reserved, 256+ for pods, 0x01000001+ local
  LabelSet labels;
};

// Everything that a lookup can return for one (identity, protocol, port).
struct VerdictRecord {
  VerdictKind verdict = VerdictKind::Deny;  // Allow, Deny, Redirect
  Reason reason = Reason::DefaultDeny;
  std::string parser;         // redirect: "http", …
  std::uint8_t priority = 0;  // proxy priority: 0 plain, 1 redirect, 155..254 listeners
  std::optional<Auth> auth;
  friend bool operator==(const VerdictRecord&, const VerdictRecord&) = default;
};

// What the proxy lets pass of the traffic that a redirect hands to it: a request passes if
// `everything`, or if one of the rules of its kind matches it. Lists are sorted by text and unique.
struct ProxyFilter {
  bool everything = false;
  std::vector<std::string> server_names;  // for TLS hellos
  std::vector<HttpRule> http;
  std::vector<KafkaRule> kafka;
  std::vector<DnsRule> dns;
  std::vector<GenericRule> generic;  // of a parser that is not modelled
  std::string generic_parser;        // its name
  // TLS that the proxy terminates or begins, and the listener that it hands the traffic to; they
  // decide no request.
  std::vector<TlsContext> tls;
  std::vector<Listener> listeners;
  // Canonical: equal texts let the same requests pass, rule by rule.
  std::string text() const;
  // For people, one rule each, sorted: "GET /api/.*", "SNI a.example". Empty where everything
  // passes.
  std::vector<std::string> rules() const;
};

// Decisions of one endpoint in one direction. `column_begin[k]` is the first L4 key of column k,
// which ends where the next begins (the last at kL4KeyEnd); the first column begins at 0. No column
// crosses a protocol class.
struct PolicyTable {
  bool enforced = false;
  std::vector<L4Key> column_begin;
  std::uint32_t classes = 0;
  std::vector<std::uint32_t> class_of;  // per IdentityIndex
  std::vector<std::uint16_t> cells;     // [class * columns + column] → index into records
  std::vector<VerdictRecord> records;
  // Beside each cell, index into `proxy_filters` + 1; 0 where the cell is no redirect. Empty where
  // the table has no redirect.
  std::vector<std::uint16_t> cell_filters;
  std::vector<ProxyFilter> proxy_filters;

  // The same policy as entries of Cilium's policy map: covered entries are left out by the
  // agent's rules, so that its two-lookup algorithm gives the right verdict.
  struct Entry {
    Protocol protocol = kProtoAny;  // 0 = any
    PortBlock block;
    std::uint16_t record = 0;
    friend auto operator<=>(const Entry&, const Entry&) = default;
  };
  std::vector<Entry> wildcard_entries;            // identity 0
  std::vector<std::vector<Entry>> class_entries;  // per class: entries of each identity in it

  std::size_t columns() const { return column_begin.size(); }
  std::size_t column(L4Key key) const;  // binary search
  const VerdictRecord& lookup(IdentityIndex identity, Protocol protocol, std::uint16_t port) const;
  // What the proxy enforces at a cell; nullptr where it is no redirect.
  const ProxyFilter* filter(std::size_t cell) const {
    return cell < cell_filters.size() && cell_filters[cell] != 0
               ? &proxy_filters[cell_filters[cell] - 1U]
               : nullptr;
  }
};

struct ResolvedEndpoint {
  IdentityIndex identity = 0;
  std::vector<std::size_t>
      pods;           // indices into Inventory::pods that share this policy; empty for host
  bool host = false;  // the node itself
  std::string error;  // policy cannot be computed: tables are empty
  // What the answer hangs on (placeholders); tables are then not the
  // whole truth, and compile refuses the endpoint.
  std::vector<std::string> depends_on;
  // Endpoints with the same policy share one table.
  std::shared_ptr<const PolicyTable> ingress, egress;
};

// One node's view: what is `host` here is `remote-node` elsewhere.
struct NodeView {
  std::string node;  // "-" where the inventory has no nodes
  // Every known prefix, sorted; the longest match wins. Always holds 0.0.0.0/0 and ::/0 (world) for
  // the families in use. Pod addresses are included.
  std::vector<std::pair<Prefix, IdentityIndex>> ipcache;
  // Identities of prefixes that policies name although a pod has the address (ascending): no packet
  // carries them, but the agent has map entries for them.
  std::vector<IdentityIndex> behind_pods;
  std::vector<ResolvedEndpoint> endpoints;
  IdentityIndex host = 0;  // what `host` means here

  // The identity of an address: longest prefix.
  IdentityIndex identity_of(const IpAddress& ip) const;
};

struct Resolved {
  std::vector<Identity> identities;
  // The node's of Inventory::nodes at the same index; behind them "-" where pods have no node.
  std::vector<NodeView> views;
};

}  // namespace policyc::ir
