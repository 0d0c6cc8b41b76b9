#include "ir/entry_cost.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "ir/filters.h"
#include "ir/identity.h"
#include "ir/map_entries.h"

namespace policyc::ir {
namespace {

using Key = std::tuple<Protocol, PortBlock>;

std::vector<const Rule*> rules_of(const World& world, const NodeView& view,
                                  const ResolvedEndpoint& endpoint, const LabelSet& labels) {
  std::vector<const Rule*> out;
  for (const Rule& rule : world.policies.rules) {
    if (rule.host_subject != endpoint.host) continue;
    if (endpoint.host) {
      for (const Node& node : world.inventory.nodes) {
        if (node.name == view.node &&
            rule.subject.matches(node_selector_labels(world.settings, node))) {
          out.push_back(&rule);
        }
      }
      continue;
    }
    const std::string& ns = world.inventory.pods[endpoint.pods.front()].ns;
    if ((rule.ns.empty() || rule.ns == ns) && rule.subject.matches(labels)) out.push_back(&rule);
  }
  return out;
}

}  // namespace

std::vector<RuleCost> entry_costs(const World& world, const Resolved& resolved,
                                  const NodeView& view, const ResolvedEndpoint& endpoint) {
  const LabelSet& labels = resolved.identities[endpoint.identity].labels;
  const std::vector<const Rule*> rules = rules_of(world, view, endpoint, labels);
  const std::vector<IdentityIndex> identities = agent_identities(resolved, view);
  std::map<std::pair<std::size_t, std::string>, RuleCost> costs;
  for (const Direction direction : {Direction::Ingress, Direction::Egress}) {
    const bool ingress = direction == Direction::Ingress;
    const PolicyTable& table = ingress ? *endpoint.ingress : *endpoint.egress;
    const EndpointPolicy policy =
        merge_rules(rules, direction, world.settings, resolved.identities[view.host].labels,
                    endpoint.host, false);
    const NamedPorts named = !ingress ? egress_ports(world.inventory)
                             : endpoint.host
                                 ? NamedPorts{}
                                 : ingress_ports(world.inventory.pods[endpoint.pods[0]]);
    std::map<Key, std::vector<const SelectorPolicy*>> by_key;
    for (const Filter& filter : policy.filters) {
      if (filter.port.protocol == kProtoAny) {
        for (const SelectorPolicy& p : filter.policies) by_key[{kProtoAny, {}}].push_back(&p);
        continue;
      }
      for (const PortBlock& block : filter_blocks(filter, named)) {
        for (const SelectorPolicy& p : filter.policies) {
          by_key[{filter.port.protocol, block}].push_back(&p);
        }
      }
    }
    const auto charge = [&](const PolicyTable::Entry& e, const LabelSet* peer, std::size_t count) {
      const auto it = by_key.find({e.protocol, e.block});
      if (it == by_key.end()) return;
      std::set<std::pair<std::size_t, std::string>> charged;
      for (const SelectorPolicy* p : it->second) {
        if (p->no_entry || p->selector.wildcard() != (peer == nullptr)) continue;
        if (peer != nullptr && !p->selector.matches(*peer)) continue;
        for (const Origin& o : p->origins) {
          if (!charged.insert({o.policy, o.path}).second) continue;
          RuleCost& cost = costs[{o.policy, o.path}];
          cost.origin = o;
          cost.entries += count;
        }
      }
    };
    for (const auto& e : table.wildcard_entries) charge(e, nullptr, 1);
    std::vector<std::size_t> members(table.classes, 0);
    std::vector<const LabelSet*> representative(table.classes, nullptr);
    for (const IdentityIndex i : identities) {
      if (table.class_entries.empty()) break;
      ++members[table.class_of[i]];
      representative[table.class_of[i]] = &resolved.identities[i].labels;
    }
    for (std::size_t c = 0; c < table.class_entries.size(); ++c) {
      if (representative[c] == nullptr) continue;
      for (const auto& e : table.class_entries[c]) charge(e, representative[c], members[c]);
    }
  }
  std::vector<RuleCost> out;
  for (auto& [key, cost] : costs) out.push_back(std::move(cost));
  std::stable_sort(out.begin(), out.end(),
                   [](const RuleCost& a, const RuleCost& b) { return a.entries > b.entries; });
  return out;
}

}  // namespace policyc::ir
