// Who may talk to whom, end to end: the egress of the source and the ingress of the target
// together.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc::ir {

// Inclusive range of ports of one protocol; protocol 0 = every protocol without ports or types.
struct PortSpan {
  Protocol protocol = kProtoTcp;
  std::uint16_t from = 0;
  std::uint16_t to = 65535;
  std::string parser;  // a proxy decides on requests: "http", …; empty = plain
  friend auto operator<=>(const PortSpan&, const PortSpan&) = default;
};

// What one side may send to the other. Sorted by protocol and port, neighbours joined.
struct Connection {
  std::vector<PortSpan> spans;
  bool all = false;  // every protocol and port, no proxy
  bool none() const { return spans.empty(); }
  friend auto operator<=>(const Connection&, const Connection&) = default;
};

// A party of the graph: an endpoint of the inventory, or somebody known by identity only.
struct GraphParty {
  std::string id;    // "ns/Kind/name", "world", "10.0.0.0/8"
  std::string kind;  // "workload", "node", "entity", "cidr", "fqdn"
  LabelSet labels;
  std::size_t pod = SIZE_MAX;       // workload: index into Inventory::pods
  IpAddress address;                // cidr: an address of the block
  std::string unknown;              // not empty: its policy cannot be told, and why
  std::vector<Prefix> except = {};  // cidr: parts of it that other parties stand for, disjoint
  std::size_t node = SIZE_MAX;      // node: index into Inventory::nodes

  // Whether policies may select it: a workload, or a node under the host firewall.
  bool subject() const { return pod != SIZE_MAX || node != SIZE_MAX; }
};

// Workloads that are no part of a node, and nodes under the host firewall: those whose policies
// count. In the order of the inventory.
std::vector<GraphParty> subject_parties(const World& world);

// Workloads and the groups outside them that policies tell apart. Blocks are disjoint: each stands
// for the addresses of its prefix that no longer listed prefix covers. Names stand for whatever is
// behind them where `resolved` has identities for them. Under the host firewall each node is a
// party; else nodes are the entities `host` and `remote-node`. Nodes are left out where the
// Kubernetes API decides, which says nothing about them.
std::vector<GraphParty> graph_parties(const World& world, const Resolved& resolved);

class Connectivity {
 public:
  // By the Kubernetes API only TCP, UDP and SCTP count: it leaves all else to the plugin.
  Connectivity(const Settings& settings, const Resolved& resolved);

  // Where a party stands in the tables, for many questions about the same one.
  struct Place {
    const NodeView* view = nullptr;  // of an endpoint; else nullptr
    const ResolvedEndpoint* endpoint = nullptr;
    bool host = false;                      // every node's own
    const NodeView* home = nullptr;         // of a node: the view in which it is the host
    std::optional<IdentityIndex> identity;  // nullopt: told by the address
    IpAddress address;
  };
  Place place(const GraphParty& party) const;

  // From `a` to `b`; everything is allowed on a side that is no policy subject. With `only`, the
  // other half is taken to allow everything, too.
  Connection between(const Place& a, const Place& b,
                     std::optional<Direction> only = std::nullopt) const;
  Connection between(const GraphParty& a, const GraphParty& b,
                     std::optional<Direction> only = std::nullopt) const {
    return between(place(a), place(b), only);
  }
  // Why the connection of the two cannot be told; empty where it can.
  static std::string open_question(const Place& a, const Place& b);
  // What the proxies of either half enforce on one (protocol, port); nullptr where there is none.
  struct Proxies {
    const ProxyFilter* egress = nullptr;
    const ProxyFilter* ingress = nullptr;
  };
  Proxies proxies(const Place& a, const Place& b, L4Key key) const;

 private:
  static IdentityIndex identity(const Place& party, const NodeView& view);

  const Resolved& resolved_;
  bool ported_only_;
  using Endpoint = std::pair<const NodeView*, const ResolvedEndpoint*>;
  std::map<std::size_t, Endpoint> endpoints_;  // by pod
  std::map<std::size_t, Endpoint> hosts_;      // by node, under the host firewall
  std::map<LabelSet, IdentityIndex> indices_;  // by labels
};

// An address of the block that none of the longer `others` covers; nullopt where they leave none.
std::optional<IpAddress> address_outside(const Prefix& block, const std::vector<Prefix>& others);

// "TCP/80, TCP/8000-8080 (http), ICMP/8" or "everything".
std::string connection_text(const Connection& connection);

}  // namespace policyc::ir
