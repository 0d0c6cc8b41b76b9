#include "ir/connectivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "ir/identity.h"
#include "ir/resolve.h"

namespace policyc::ir {

std::optional<IpAddress> address_outside(const Prefix& block, const std::vector<Prefix>& others) {
  IpAddress at = block.address;
  // From the first address on: jump behind each longer prefix that covers it.
  for (bool moved = true; moved;) {
    moved = false;
    for (const Prefix& p : others) {
      if (p.length <= block.length || !p.contains(at)) continue;
      const int bits = p.address.bits();
      at = p.address;
      int bit = p.length - 1;  // add one to the prefix: carry from its last bit upwards
      for (; bit >= 0; --bit) {
        auto& byte = at.bytes[static_cast<std::size_t>(bit) / 8];
        const auto mask = static_cast<std::uint8_t>(1U << (7 - bit % 8));
        const bool was = (byte & mask) != 0;
        byte = static_cast<std::uint8_t>(byte ^ mask);
        if (!was) break;
      }
      if (bit < 0 || bits != block.address.bits() || !block.contains(at)) return std::nullopt;
      moved = true;
    }
  }
  return at;
}

std::vector<GraphParty> subject_parties(const World& world) {
  std::vector<GraphParty> out;
  for (std::size_t i = 0; i < world.inventory.pods.size(); ++i) {
    const Pod& pod = world.inventory.pods[i];
    if (pod.host_network) continue;
    GraphParty p;
    p.id = pod.ns + "/" + pod.kind + "/" + pod.name;
    p.kind = "workload";
    p.labels = pod_identity(world.inventory, world.settings, pod);
    p.pod = i;
    out.push_back(std::move(p));
  }
  if (!world.settings.host_firewall || world.settings.kubernetes_semantics) return out;
  for (std::size_t i = 0; i < world.inventory.nodes.size(); ++i) {
    const Node& node = world.inventory.nodes[i];
    GraphParty p;
    p.id = "node/" + node.name;
    p.kind = "node";
    p.labels = node_selector_labels(world.settings, node);
    if (!node.addresses.empty()) p.address = node.addresses.front();
    p.node = i;
    out.push_back(std::move(p));
  }
  return out;
}

std::vector<GraphParty> graph_parties(const World& world, const Resolved& resolved) {
  std::vector<GraphParty> out;
  std::map<std::size_t, std::string> unknown;        // by pod
  std::map<std::size_t, std::string> unknown_nodes;  // by node
  for (std::size_t v = 0; v < resolved.views.size(); ++v) {
    for (const ResolvedEndpoint& ep : resolved.views[v].endpoints) {
      std::string why = ep.error;
      if (!ep.depends_on.empty()) why = ep.depends_on.front();
      if (ep.host) unknown_nodes[v] = why;
      for (const std::size_t pod : ep.pods) unknown[pod] = why;
    }
  }
  out = subject_parties(world);
  bool nodes = false;
  for (GraphParty& p : out) {
    nodes = nodes || p.node != SIZE_MAX;
    p.unknown = p.node != SIZE_MAX ? unknown_nodes[p.node] : unknown[p.pod];
  }
  if (!world.settings.kubernetes_semantics) {
    for (const char* entity : {"host", "remote-node"}) {
      if (!nodes) out.push_back({entity, "entity", entity_identity(entity), SIZE_MAX, {}, ""});
    }
    // What comes through Ingress and Gateway objects.
    if (!world.inventory.entries.empty()) {
      out.push_back({"ingress", "entity", entity_identity("ingress"), SIZE_MAX, {}, ""});
    }
  }
  std::set<LabelSet> known;
  for (const Identity& i : resolved.identities) known.insert(i.labels);
  for (const std::string& name : policy_names(world.policies)) {
    LabelSet labels = name_identity(world, name);
    if (!world.inventory.fqdn && known.count(labels) != 0) {
      out.push_back({name, "fqdn", std::move(labels), SIZE_MAX, {}, ""});
    }
  }
  // Address blocks outside the cluster, one for each prefix that changes the identity.
  std::map<Prefix, IdentityIndex> blocks;
  std::vector<Prefix> all;
  for (const NodeView& view : resolved.views) {
    for (const auto& [prefix, identity] : view.ipcache) {
      all.push_back(prefix);
      const LabelSet& labels = resolved.identities[identity].labels;
      const bool inside = labels.has("k8s", kNamespaceKey) || labels.has("reserved", "host") ||
                          labels.has("reserved", "remote-node");
      if (!inside) blocks.emplace(prefix, identity);
    }
  }
  std::sort(all.begin(), all.end(), [](const Prefix& a, const Prefix& b) {
    return std::pair(a.length, a.address) < std::pair(b.length, b.address);
  });
  for (const auto& [block, identity] : blocks) {
    const auto address = address_outside(block, all);
    if (!address) continue;  // longer blocks stand for all of it
    GraphParty p;
    p.kind = block.length == 0 ? "entity" : "cidr";
    p.id = block.str();
    if (block.length == 0) {
      p.id = !world.settings.dual_stack()         ? "world"
             : block.address.family == Family::V4 ? "world-ipv4"
                                                  : "world-ipv6";
    }
    p.address = *address;
    for (const Prefix& inner : all) {
      if (inner.length <= block.length || !block.contains(inner)) continue;
      const bool inside_another =
          std::any_of(p.except.begin(), p.except.end(),
                      [&](const Prefix& other) { return other.contains(inner); });
      if (!inside_another) p.except.push_back(inner);
    }
    p.labels = resolved.identities[identity].labels;
    out.push_back(std::move(p));
  }
  return out;
}

Connectivity::Connectivity(const Settings& settings, const Resolved& resolved)
    : resolved_(resolved), ported_only_(settings.kubernetes_semantics) {
  for (std::size_t v = 0; v < resolved.views.size(); ++v) {
    const NodeView& view = resolved.views[v];
    for (const ResolvedEndpoint& ep : view.endpoints) {
      if (ep.host) hosts_[v] = {&view, &ep};
      for (const std::size_t pod : ep.pods) endpoints_[pod] = {&view, &ep};
    }
  }
  for (IdentityIndex i = 0; i < resolved.identities.size(); ++i) {
    indices_.emplace(resolved.identities[i].labels, i);
  }
}

Connectivity::Place Connectivity::place(const GraphParty& party) const {
  Place out;
  if (const auto it = endpoints_.find(party.pod); it != endpoints_.end()) {
    std::tie(out.view, out.endpoint) = it->second;
  }
  if (const auto it = hosts_.find(party.node); it != hosts_.end()) {
    std::tie(out.view, out.endpoint) = it->second;
    out.home = out.view;
    out.address = party.address;
    out.host = party.address == IpAddress{};  // nobody can tell it from the own host
    return out;
  }
  out.host = party.id == "host";
  // A pod that is no endpoint is on the host network: its address tells whose it is. So does a
  // single address outside, which has names only on the nodes whose pods ask for them.
  const bool single = party.kind == "cidr" && party.id == host_prefix(party.address).str();
  const bool by_labels = !single && (party.pod == SIZE_MAX || out.endpoint != nullptr);
  if (const auto it = indices_.find(party.labels); by_labels && it != indices_.end()) {
    out.identity = it->second;
  }
  out.address = party.address;
  return out;
}

IdentityIndex Connectivity::identity(const Place& party, const NodeView& view) {
  if (party.host || party.home == &view) return view.host;
  return party.identity ? *party.identity : view.identity_of(party.address);
}

std::string Connectivity::open_question(const Place& a, const Place& b) {
  const auto homeless = [](const Place& p) { return p.view != nullptr && p.view->node == "-"; };
  if ((a.home == nullptr || !homeless(b)) && (b.home == nullptr || !homeless(a))) return "";
  return "nobody told on which node the pod is, so whether the node is its own host";
}

Connectivity::Proxies Connectivity::proxies(const Place& a, const Place& b, L4Key key) const {
  const auto filter = [&](const PolicyTable& t, IdentityIndex peer) {
    return t.filter(t.class_of[peer] * t.columns() + t.column(key));
  };
  Proxies out;
  if (a.endpoint != nullptr) {
    out.egress = filter(*a.endpoint->egress, identity(b, *a.view));
  }
  if (b.endpoint != nullptr) out.ingress = filter(*b.endpoint->ingress, identity(a, *b.view));
  return out;
}

namespace {

// Walks along one row of a table; a missing table decides nothing.
class Row {
 public:
  Row(const PolicyTable* table, std::size_t row) : table_(table), row_(row) {}

  // Moves to the column of `key`, which never goes back; gives where that column ends.
  L4Key end_at(L4Key key) {
    if (table_ == nullptr) return kL4KeyEnd;
    const auto& begins = table_->column_begin;
    while (column_ + 1 < begins.size() && begins[column_ + 1] <= key) ++column_;
    return column_ + 1 < begins.size() ? begins[column_ + 1] : kL4KeyEnd;
  }
  const VerdictRecord* record() const {
    return table_ == nullptr ? nullptr : &table_->records[table_->cells[row_ + column_]];
  }

 private:
  const PolicyTable* table_;
  std::size_t row_, column_ = 0;
};

}  // namespace

Connection Connectivity::between(const Place& a, const Place& b,
                                 std::optional<Direction> only) const {
  const PolicyTable* egress = nullptr;
  const PolicyTable* ingress = nullptr;
  std::size_t egress_row = 0;
  std::size_t ingress_row = 0;
  if (a.endpoint != nullptr && only != Direction::Ingress) {
    egress = a.endpoint->egress.get();
    if (egress->cells.empty()) return {};
    egress_row = egress->class_of[identity(b, *a.view)] * egress->columns();
  }
  if (b.endpoint != nullptr && only != Direction::Egress) {
    ingress = b.endpoint->ingress.get();
    if (ingress->cells.empty()) return {};
    ingress_row = ingress->class_of[identity(a, *b.view)] * ingress->columns();
  }
  // Columns of both tables and the starts of the protocols, side by side.
  Row out_of(egress, egress_row), into(ingress, ingress_row);
  Connection out;
  out.all = true;
  for (L4Key begin = 0; begin < kL4KeyEnd;) {
    const L4Key next_protocol = (begin | 0xFFFFU) + 1;
    const L4Key end = std::min({next_protocol, out_of.end_at(begin), into.end_at(begin)});
    const L4Key at = std::exchange(begin, end);
    const auto protocol = class_protocol(static_cast<ProtocolClass>(at >> 16U));
    const bool ported = protocol == kProtoTcp || protocol == kProtoUdp || protocol == kProtoSctp;
    if (ported_only_ && !ported) continue;
    std::string_view parser;
    bool denied = false;
    for (const VerdictRecord* r : {out_of.record(), into.record()}) {
      if (r == nullptr) continue;
      denied = denied || r->verdict == VerdictKind::Deny;
      if (r->verdict == VerdictKind::Redirect) parser = r->parser;
    }
    if (denied || !parser.empty()) out.all = false;
    if (denied) continue;
    const auto first = static_cast<std::uint16_t>(at), last = static_cast<std::uint16_t>(end - 1);
    if (!out.spans.empty()) {
      PortSpan& before = out.spans.back();
      if (before.protocol == protocol && before.parser == parser && before.to + 1 == first) {
        before.to = last;
        continue;
      }
    }
    out.spans.push_back({protocol, first, last, std::string(parser)});
  }
  return out;
}

namespace {

// Whether the spans take in every port of every protocol, proxies or not.
bool whole(const Connection& connection) {
  for (std::uint32_t c = 0; c < kProtocolClasses; ++c) {
    const Protocol protocol = class_protocol(static_cast<ProtocolClass>(c));
    std::uint32_t next = 0;
    for (const PortSpan& s : connection.spans) {
      if (s.protocol == protocol && s.from <= next && s.to >= next) next = s.to + 1U;
    }
    if (next <= 65535) return false;
  }
  return true;
}

}  // namespace

std::string connection_text(const Connection& connection) {
  if (connection.none()) return "nothing";
  if (connection.all) return "everything";
  std::string out;
  const bool everything = whole(connection);
  if (everything) out = "everything";
  for (const PortSpan& s : connection.spans) {
    if (everything && s.parser.empty()) continue;
    const bool icmp = s.protocol == kProtoIcmp || s.protocol == kProtoIcmp6;
    const bool all_ports = s.from == 0 && (s.to == 65535 || (icmp && s.to >= 255));
    const std::string name =
        s.protocol == kProtoAny ? "other protocols" : protocol_name(s.protocol);
    if (!out.empty()) out += ", ";
    out += all_ports        ? name
           : s.from == s.to ? fmt::format("{}/{}", name, s.from)
                            : fmt::format("{}/{}-{}", name, s.from, s.to);
    if (s.parser.empty()) continue;
    out += everything ? fmt::format(" by way of {}", s.parser) : fmt::format(" ({})", s.parser);
  }
  return out;
}

}  // namespace policyc::ir
