#include "backend-bpf/judge.h"

#include <fmt/format.h>

namespace policyc::bpf {

Judge::Judge(const ir::World& world, const ir::Resolved& resolved) : world_(world) {
  for (std::size_t v = 0; v < resolved.views.size(); ++v) {
    const ir::NodeView& view = resolved.views[v];
    for (std::size_t e = 0; e < view.endpoints.size(); ++e) {
      for (const std::size_t pod : view.endpoints[e].pods) {
        const ir::Pod& p = world.inventory.pods[pod];
        for (const ir::IpAddress& ip : p.ips) {
          places_[ip] = {v, e, p.ns + "/" + p.name};
          parties_[ip] = ir::PodParty{pod};
        }
      }
      if (!view.endpoints[e].host) continue;
      for (std::size_t n = 0; n < world.inventory.nodes.size(); ++n) {
        if (world.inventory.nodes[n].name != view.node) continue;
        for (const ir::IpAddress& ip : world.inventory.nodes[n].addresses) {
          places_[ip] = {v, e, view.node};
          parties_[ip] = ir::NodeParty{n};
        }
      }
    }
  }
}

const Judge::Place* Judge::place(const ir::IpAddress& ip) const {
  const auto it = places_.find(ip);
  return it == places_.end() ? nullptr : &it->second;
}

ir::Party Judge::party(const ir::IpAddress& ip) const {
  const auto it = parties_.find(ip);
  return it == parties_.end() ? ir::Party{ir::AddressParty{ip}} : it->second;
}

const Judge::Judged& Judge::judge(const Packet& packet) {
  const ir::Party from = party(packet.from), to = party(packet.to);
  const auto name = [](const ir::Party& p) {
    if (const auto* pod = std::get_if<ir::PodParty>(&p)) return fmt::format("p{}", pod->pod);
    if (const auto* node = std::get_if<ir::NodeParty>(&p)) return fmt::format("n{}", node->node);
    return std::get<ir::AddressParty>(p).ip.str();
  };
  const auto [it, fresh] = judged_.try_emplace(
      fmt::format("{} {} {} {}", name(from), name(to), packet.protocol, packet.policy_port()));
  Judged& out = it->second;
  if (!fresh) return out;
  out.flow.from = from;
  out.flow.to = to;
  out.flow.protocol = packet.protocol;
  out.flow.port = packet.policy_port();
  out.verdict = ir::evaluate(world_, out.flow);
  const auto rules = [&](const std::optional<ir::DirectionVerdict>& half, ir::Direction direction) {
    if (!half) return std::vector<ir::Origin>{};
    if (!half->rules.empty() || half->verdict != ir::VerdictKind::Deny) return half->rules;
    return ir::isolating_rules(world_, out.flow, direction);
  };
  out.egress_rules = rules(out.verdict.egress, ir::Direction::Egress);
  out.ingress_rules = rules(out.verdict.ingress, ir::Direction::Ingress);
  return out;
}

}  // namespace policyc::bpf
