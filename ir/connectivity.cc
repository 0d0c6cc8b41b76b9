#include "ir/connectivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "ir/identity.h"

namespace policyc::ir {

std::vector<GraphParty> graph_parties(const World& world, const Resolved& resolved) {
  std::vector<GraphParty> out;
  for (std::size_t i = 0; i < world.inventory.pods.size(); ++i) {
    const Pod& pod = world.inventory.pods[i];
    if (pod.host_network) continue;
    GraphParty p;
    p.id = pod.ns + "/" + pod.kind + "/" + pod.name;
    p.kind = "workload";
    p.labels = pod_identity(world.inventory, world.settings, pod);
    p.pod = i;
    for (const NodeView& view : resolved.views) {
      for (const ResolvedEndpoint& ep : view.endpoints) {
        if (std::find(ep.pods.begin(), ep.pods.end(), i) == ep.pods.end()) continue;
        p.unknown = ep.error;
        if (!ep.depends_on.empty()) p.unknown = ep.depends_on.front();
      }
    }
    out.push_back(std::move(p));
  }
  for (const char* entity : {"host", "remote-node"}) {
    out.push_back({entity, "entity", entity_identity(entity), SIZE_MAX, {}, ""});
  }
  // Address blocks outside the cluster, one for each prefix that changes the identity.
  std::set<Prefix> blocks;
  for (const NodeView& view : resolved.views) {
    for (const auto& [prefix, identity] : view.ipcache) {
      const LabelSet& labels = resolved.identities[identity].labels;
      const bool inside = labels.has("k8s", kNamespaceKey) || labels.has("reserved", "host") ||
                          labels.has("reserved", "remote-node");
      if (!inside) blocks.insert(prefix);
    }
  }
  for (const Prefix& block : blocks) {
    GraphParty p;
    p.kind = block.length == 0 ? "entity" : "cidr";
    p.id = block.str();
    if (block.length == 0) {
      p.id = !world.settings.dual_stack()         ? "world"
             : block.address.family == Family::V4 ? "world-ipv4"
                                                  : "world-ipv6";
    }
    p.address = block.address;
    // An address of the block that no longer block covers; the block's own labels if there is none.
    p.labels = resolved.identities[resolved.views.front().identity_of(block.address)].labels;
    for (const auto& [prefix, identity] : resolved.views.front().ipcache) {
      if (prefix == block) p.labels = resolved.identities[identity].labels;
    }
    out.push_back(std::move(p));
  }
  return out;
}

Connectivity::Place Connectivity::place(const GraphParty& party) const {
  if (party.pod == SIZE_MAX) return {};
  for (const NodeView& view : resolved_.views) {
    for (const ResolvedEndpoint& ep : view.endpoints) {
      if (std::find(ep.pods.begin(), ep.pods.end(), party.pod) != ep.pods.end()) {
        return {&view, &ep};
      }
    }
  }
  return {};
}

IdentityIndex Connectivity::identity(const GraphParty& party, const NodeView& view) const {
  if (party.id == "host") return view.host;
  for (IdentityIndex i = 0; i < resolved_.identities.size(); ++i) {
    if (resolved_.identities[i].labels == party.labels) return i;
  }
  return view.identity_of(party.address);
}

Connection Connectivity::between(const GraphParty& a, const GraphParty& b) const {
  const Place from = place(a);
  const Place to = place(b);
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
    const auto protocol = class_protocol(static_cast<ProtocolClass>(begin >> 16U));
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
