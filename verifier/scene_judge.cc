#include "verifier/scene_judge.h"

#include <algorithm>
#include <variant>

#include "ir/identity.h"

namespace policyc {
namespace {

bool about_addresses(const ir::Peer& peer) {
  return peer.kind == ir::PeerKind::Fqdn ||
         std::any_of(peer.selector.requirements.begin(), peer.selector.requirements.end(),
                     [](const ir::Requirement& r) { return r.cidr.has_value(); });
}

// What a rule contributes to the labels of addresses: its prefixes, and the names that it learns.
ir::Rule addresses_of(const ir::Rule& rule) {
  ir::Rule out;
  out.policy = rule.policy;
  for (const ir::RuleItem& item : rule.items) {
    ir::RuleItem names;
    names.direction = item.direction;
    names.all_l4 =
        item.all_l4 || std::any_of(item.ports.begin(), item.ports.end(),
                                   [](const ir::PortRule& p) { return !p.ports.empty(); });
    std::copy_if(item.peers.begin(), item.peers.end(), std::back_inserter(names.peers),
                 about_addresses);
    if (!names.peers.empty()) out.items.push_back(std::move(names));
  }
  if (out.items.empty()) return out;
  out.subject = rule.subject;
  out.host_subject = rule.host_subject;
  out.ns = rule.ns;
  out.symbol = rule.symbol;
  return out;
}

// A placeholder may stand for anything.
bool may_select(const ir::Rule& rule, const ir::LabelSet& pod) {
  return !rule.host_subject &&
         std::all_of(rule.subject.requirements.begin(), rule.subject.requirements.end(),
                     [&](const ir::Requirement& r) {
                       const bool open = !r.symbol.empty() ||
                                         (!rule.symbol.empty() && r.key == ir::kNamespaceKey);
                       return open || r.matches(pod);
                     });
}

}  // namespace

SceneJudge::SceneJudge(const ir::World& world) : world_(world) {
  for (std::size_t i = 0; i < world.policies.rules.size(); ++i) {
    const ir::Rule& rule = world.policies.rules[i];
    by_namespace_[rule.symbol.empty() ? rule.ns : ""].push_back(i);
    addresses_.push_back(addresses_of(rule));
  }
}

ir::PolicySet SceneJudge::near(const Universe::Scene& scene, const Part* part) const {
  const ir::Pod& pod = scene.inventory.pods.front();
  const ir::LabelSet labels = ir::pod_identity(scene.inventory, world_.settings, pod);
  const auto address = [](const ir::Party& p) {
    return std::holds_alternative<ir::AddressParty>(p);
  };
  std::vector<std::size_t> selecting;
  for (const std::string& ns : {std::string(), pod.ns}) {
    const auto found = by_namespace_.find(ns);
    if (found == by_namespace_.end()) continue;
    std::copy_if(found->second.begin(), found->second.end(), std::back_inserter(selecting),
                 [&](std::size_t i) { return may_select(world_.policies.rules[i], labels); });
  }
  std::sort(selecting.begin(), selecting.end());
  ir::PolicySet out;  // rules alone: the evaluator asks for no policies
  std::optional<Part> here;
  const auto add = [&](std::size_t i, const ir::Rule& rule) {
    if (part != nullptr && part->kind != Part::Kind::Policy && part->rule == i) {
      here = *part;
      here->rule = out.rules.size();
    }
    out.rules.push_back(rule);
  };
  for (const std::size_t i : selecting) add(i, world_.policies.rules[i]);
  if (address(scene.flow.from) || address(scene.flow.to) || world_.settings.cidr_match_nodes) {
    for (std::size_t i = 0; i < addresses_.size(); ++i) {
      if (addresses_[i].items.empty()) continue;
      if (!std::binary_search(selecting.begin(), selecting.end(), i)) {
        out.rules.push_back(addresses_[i]);
      }
    }
  }
  if (part != nullptr && part->kind == Part::Kind::Policy) here = *part;
  return here ? without(out, *here) : out;
}

ir::DirectionVerdict SceneJudge::verdict(const Universe::Scene& scene, ir::Direction direction,
                                         const Part* part) const {
  ir::World world;
  world.settings = world_.settings;
  world.inventory = scene.inventory;
  world.policies = near(scene, part);
  const ir::FlowVerdict verdict = ir::evaluate(world, scene.flow);
  const auto& half = direction == ir::Direction::Ingress ? verdict.ingress : verdict.egress;
  return half.value_or(ir::DirectionVerdict{});
}

}  // namespace policyc
