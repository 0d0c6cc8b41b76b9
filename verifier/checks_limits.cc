// What a cluster's agents could not install.
#include <fmt/format.h>

#include <algorithm>

#include "ir/base/diag_code.h"
#include "ir/entry_cost.h"
#include "ir/map_entries.h"
#include "ir/resolve.h"
#include "verifier/checks_context.h"

namespace policyc::checks {
namespace {

// No endpoint can have more entries than this; cheap, and mostly enough.
std::size_t upper_bound(const ir::World& world) {
  std::size_t peers = 16 + world.inventory.pods.size() + 2 * world.inventory.nodes.size();
  std::size_t keys = 1;
  for (const ir::CidrGroup& g : world.inventory.cidr_groups) peers += g.cidrs.size();
  if (world.inventory.fqdn) {
    for (const auto& [name, addresses] : *world.inventory.fqdn) peers += addresses.size();
  }
  for (const ir::Rule& rule : world.policies.rules) {
    for (const ir::RuleItem& item : rule.items) {
      for (const ir::Peer& p : item.peers) peers += p.selector.requirements.size();
      if (item.all_l4) ++keys;
      for (const ir::PortRule& r : item.ports) {
        for (const ir::Port& p : r.ports) {
          keys += p.end == 0 ? 1 : ir::port_blocks(p.number, p.end).size();
        }
      }
    }
  }
  return 2 * peers * keys;
}

}  // namespace

void check_limits(Context& c) {
  const std::size_t limit = c.world.settings.policy_map_max;
  if (c.world.inventory.pods.empty() || upper_bound(c.world) <= limit) return;
  const ir::Resolved resolved = ir::resolve(c.world);
  for (const ir::NodeView& view : resolved.views) {
    const std::vector<ir::IdentityIndex> identities = ir::agent_identities(resolved, view);
    for (const ir::ResolvedEndpoint& ep : view.endpoints) {
      if (!ep.error.empty() || !ep.depends_on.empty()) continue;
      const std::size_t entries = ir::agent_entries(ep, identities);
      if (entries <= limit) continue;
      const std::vector<ir::RuleCost> costs = ir::entry_costs(c.world, resolved, view, ep);
      const std::string who =
          ep.host ? "node " + view.node : c.world.inventory.pods[ep.pods.front()].full_name();
      const SourceRange range = costs.empty() ? SourceRange{} : costs.front().origin.range;
      Diagnostic& d = c.sink.report(
          DiagCode::PolicyMapFull, range,
          fmt::format(
              "the agent would install {} entries for {}{}, its policy map holds {}", entries, who,
              ep.pods.size() > 1 ? fmt::format(" and {} more pods like it", ep.pods.size() - 1)
                                 : "",
              limit));
      d.proof = "exact";
      for (std::size_t i = 0; i < std::min<std::size_t>(costs.size(), 5); ++i) {
        const ir::Policy& policy = c.world.policies.policies[costs[i].origin.policy];
        if (i == 0) {
          d.policy = policy.ref;
          d.rule = costs[i].origin.path;
        }
        d.notes.push_back(fmt::format("{} of them by `{}` {}", costs[i].entries, policy.ref.name,
                                      costs[i].origin.path));
      }
    }
  }
}

}  // namespace policyc::checks
