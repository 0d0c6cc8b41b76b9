#include "verifier/l7_places.h"

#include <algorithm>

namespace policyc::checks {
namespace {

constexpr std::size_t kPairs = 1'000'000;  // of port entries that are held against each other

}  // namespace

L7Places::L7Places(const Context& c, const std::function<bool(const ir::L7Rules&)>& wanted)
    : c_(c) {
  for (const ir::Rule& rule : c.rules()) {
    for (const ir::RuleItem& item : rule.items) {
      if (item.deny || !item.requires_.empty() || !item.auth_symbol.empty()) continue;
      for (const ir::PortRule& ports : item.ports) {
        if (!wanted(ports.l7) || ports.listener || !ports.server_names.empty()) continue;
        const std::string& set = c.policy_of(rule).set;
        for (const ir::Port& port : ports.ports) {
          auto& list = by_port_[std::tuple(set, item.direction, port.text)];
          if (list.empty() || list.back() != places_.size()) list.push_back(places_.size());
        }
        places_.push_back({&rule, &item, &ports});
      }
    }
  }
}

std::vector<const L7Place*> L7Places::wider(const L7Place& narrow) {
  std::vector<const L7Place*> out = {&narrow};
  std::vector<std::size_t> candidates;
  for (const ir::Port& port : narrow.ports->ports) {
    const auto found = by_port_.find(
        std::tuple(c_.policy_of(*narrow.rule).set, narrow.item->direction, port.text));
    if (found == by_port_.end()) continue;
    candidates.insert(candidates.end(), found->second.begin(), found->second.end());
  }
  std::sort(candidates.begin(), candidates.end());
  candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
  for (const std::size_t i : candidates) {
    const L7Place& wide = places_[i];
    if (wide.ports == narrow.ports || pairs_ >= kPairs) continue;
    ++pairs_;
    if (covers(wide, narrow)) out.push_back(&wide);
  }
  return out;
}

bool L7Places::covers(const L7Place& wide, const L7Place& narrow) const {
  const bool other_policy = wide.rule->policy != narrow.rule->policy;
  if (other_policy && (c_.has_alternatives[wide.rule->policy] != 0 ||
                       c_.has_alternatives[narrow.rule->policy] != 0 ||
                       !c_.deployed_together(*wide.rule, *narrow.rule))) {
    return false;
  }
  if (wide.item->auth != narrow.item->auth || wide.ports->tls != narrow.ports->tls) return false;
  const auto& ports = narrow.ports->ports;
  const bool all_ports = std::all_of(ports.begin(), ports.end(), [&](const ir::Port& n) {
    return n.symbol.empty() &&
           std::any_of(wide.ports->ports.begin(), wide.ports->ports.end(), [&](const auto& w) {
             return w.symbol.empty() && w.text == n.text && port_covers(w, n);
           });
  });
  return all_ports && c_.subject_covers(*wide.rule, *narrow.rule) &&
         (wide.item == narrow.item || peers_cover(*wide.item, *narrow.item, c_.world.settings));
}

}  // namespace policyc::checks
