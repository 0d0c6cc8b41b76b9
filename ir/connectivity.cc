#include "ir/connectivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

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

std::vector<GraphParty> graph_parties(const World& world, const Resolved& resolved) {
  std::vector<GraphParty> out;
  std::map<std::size_t, std::string> unknown;  // by pod
  for (const NodeView& view : resolved.views) {
    for (const ResolvedEndpoint& ep : view.endpoints) {
      std::string why = ep.error;
      if (!ep.depends_on.empty()) why = ep.depends_on.front();
      for (const std::size_t pod : ep.pods) unknown[pod] = why;
    }
  }
  for (std::size_t i = 0; i < world.inventory.pods.size(); ++i) {
    const Pod& pod = world.inventory.pods[i];
    if (pod.host_network) continue;
    GraphParty p;
    p.id = pod.ns + "/" + pod.kind + "/" + pod.name;
    p.kind = "workload";
    p.labels = pod_identity(world.inventory, world.settings, pod);
    p.pod = i;
    p.unknown = unknown[i];
    out.push_back(std::move(p));
  }
  if (!world.settings.kubernetes_semantics) {
    for (const char* entity : {"host", "remote-node"}) {
      out.push_back({entity, "entity", entity_identity(entity), SIZE_MAX, {}, ""});
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
  for (const NodeView& view : resolved.views) {
    for (const ResolvedEndpoint& ep : view.endpoints) {
      for (const std::size_t pod : ep.pods) places_[pod] = {&view, &ep};
    }
  }
  for (IdentityIndex i = 0; i < resolved.identities.size(); ++i) {
    indices_.emplace(resolved.identities[i].labels, i);
  }
}

Connectivity::Place Connectivity::place(const GraphParty& party) const {
  const auto it = places_.find(party.pod);
  return it == places_.end() ? Place{} : it->second;
}

IdentityIndex Connectivity::identity(const GraphParty& party, const NodeView& view) const {
  if (party.id == "host") return view.host;
  const auto it = indices_.find(party.labels);
  return it != indices_.end() ? it->second : view.identity_of(party.address);
}

Connectivity::Proxies Connectivity::proxies(const GraphParty& a, const GraphParty& b,
                                            L4Key key) const {
  const Place from = place(a);
  const Place to = place(b);
  const auto filter = [&](const PolicyTable& t, IdentityIndex peer) {
    return t.filter(t.class_of[peer] * t.columns() + t.column(key));
  };
  Proxies out;
  if (from.endpoint != nullptr) {
    out.egress = filter(*from.endpoint->egress, identity(b, *from.view));
  }
  if (to.endpoint != nullptr) out.ingress = filter(*to.endpoint->ingress, identity(a, *to.view));
  return out;
}

Connection Connectivity::between(const GraphParty& a, const GraphParty& b,
                                 std::optional<Direction> only) const {
  const Place from = only == Direction::Ingress ? Place{} : place(a);
  const Place to = only == Direction::Egress ? Place{} : place(b);
  const PolicyTable* egress = nullptr;
  const PolicyTable* ingress = nullptr;
  std::size_t egress_row = 0;
  std::size_t ingress_row = 0;
  if (from.endpoint != nullptr) {
    egress = from.endpoint->egress.get();
    if (egress->cells.empty()) return {};
    egress_row = egress->class_of[identity(b, *from.view)] * egress->columns();
  }
  if (to.endpoint != nullptr) {
    ingress = to.endpoint->ingress.get();
    if (ingress->cells.empty()) return {};
    ingress_row = ingress->class_of[identity(a, *to.view)] * ingress->columns();
  }
  std::set<L4Key> begins;
  for (std::uint32_t c = 0; c < kProtocolClasses; ++c) begins.insert(c << 16U);
  for (const PolicyTable* t : {egress, ingress}) {
    if (t != nullptr) begins.insert(t->column_begin.begin(), t->column_begin.end());
  }
  Connection out;
  out.all = true;
  for (auto it = begins.begin(); it != begins.end(); ++it) {
    const L4Key begin = *it;
    const L4Key end = std::next(it) == begins.end() ? kL4KeyEnd : *std::next(it);
    const auto protocol = class_protocol(static_cast<ProtocolClass>(begin >> 16U));
    const bool ported = protocol == kProtoTcp || protocol == kProtoUdp || protocol == kProtoSctp;
    if (ported_only_ && !ported) continue;
    std::string parser;
    bool denied = false;
    const auto look = [&](const PolicyTable* t, std::size_t row) {
      if (t == nullptr) return;
      const VerdictRecord& r = t->records[t->cells[row + t->column(begin)]];
      denied = denied || r.verdict == VerdictKind::Deny;
      if (r.verdict == VerdictKind::Redirect) parser = r.parser;
    };
    look(egress, egress_row);
    look(ingress, ingress_row);
    if (denied || !parser.empty()) out.all = false;
    if (denied) continue;
    PortSpan span{protocol, static_cast<std::uint16_t>(begin & 0xFFFFU),
                  static_cast<std::uint16_t>((end - 1) & 0xFFFFU), parser};
    if (!out.spans.empty()) {
      PortSpan& last = out.spans.back();
      if (last.protocol == span.protocol && last.parser == span.parser &&
          last.to + 1 == span.from) {
        last.to = span.to;
        continue;
      }
    }
    out.spans.push_back(std::move(span));
  }
  return out;
}

std::string connection_text(const Connection& connection) {
  if (connection.none()) return "nothing";
  if (connection.all) return "everything";
  std::string out;
  for (const PortSpan& s : connection.spans) {
    const bool icmp = s.protocol == kProtoIcmp || s.protocol == kProtoIcmp6;
    const bool whole = s.from == 0 && (s.to == 65535 || (icmp && s.to >= 255));
    const std::string name =
        s.protocol == kProtoAny ? "other protocols" : protocol_name(s.protocol);
    if (!out.empty()) out += ", ";
    out += whole            ? name
           : s.from == s.to ? fmt::format("{}/{}", name, s.from)
                            : fmt::format("{}/{}-{}", name, s.from, s.to);
    if (!s.parser.empty()) out += fmt::format(" ({})", s.parser);
  }
  return out;
}

}  // namespace policyc::ir
