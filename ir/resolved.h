// Policies resolved for the endpoints of an inventory: one decision for every identity class and every
// (protocol, port), in a form that images, graphs and dumps read off directly.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ir/flow.h"
#include "ir/ip.h"
#include "ir/l4.h"
#include "ir/label.h"

namespace policyc::ir {

using IdentityIndex = std::uint32_t;  // dense index into Resolved::identities

struct Identity {
  std::uint32_t number = 0;  // Cilium's numeric identity: reserved, 256+ for pods, 0x01000001+ local
  LabelSet labels;
};

// Everything that a lookup can return for one (identity, protocol, port).
struct VerdictRecord {
  VerdictKind verdict = VerdictKind::Deny;  // Allow, Deny, Redirect
  Reason reason = Reason::DefaultDeny;
  std::string parser;                       // redirect: "http", …
  std::uint8_t priority = 0;                // proxy priority: 0 plain, 1 redirect, 155..254 listeners
  std::optional<Auth> auth;
  friend bool operator==(const VerdictRecord&, const VerdictRecord&) = default;
};

// Decisions of one endpoint in one direction. `column_begin[k]` is the first L4 key of column k, which
// ends where the next begins (the last at kL4KeyEnd); the first column begins at 0. No column crosses a
// protocol class.
struct PolicyTable {
  bool enforced = false;
  std::vector<L4Key> column_begin;
  std::uint32_t classes = 0;
  std::vector<std::uint32_t> class_of;  // per IdentityIndex
  std::vector<std::uint16_t> cells;     // [class * columns + column] → index into records
  std::vector<VerdictRecord> records;

  std::size_t columns() const { return column_begin.size(); }
  std::size_t column(L4Key key) const;  // binary search
  const VerdictRecord& lookup(IdentityIndex identity, Protocol protocol, std::uint16_t port) const;
};

struct ResolvedEndpoint {
  IdentityIndex identity = 0;
  std::vector<std::size_t> pods;  // indices into Inventory::pods that share this policy; empty for host
  bool host = false;              // the node itself
  std::string error;              // policy cannot be computed: tables are empty
  PolicyTable ingress, egress;
};

// One node's view: what is `host` here is `remote-node` elsewhere.
struct NodeView {
  std::string node;  // "-" where the inventory has no nodes
  // Every known prefix, sorted; the longest match wins. Always holds 0.0.0.0/0 and ::/0 (world) for the
  // families in use. Pod addresses are included.
  std::vector<std::pair<Prefix, IdentityIndex>> ipcache;
  std::vector<ResolvedEndpoint> endpoints;
};

struct Resolved {
  std::vector<Identity> identities;
  std::vector<NodeView> views;
};

}  // namespace policyc::ir
