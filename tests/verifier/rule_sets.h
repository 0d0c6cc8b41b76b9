// Generated rule sets over identity classes, protocols and ports, as the measurements use them.
#pragma once

#include <random>
#include <string>

#include "verifier/solver.h"

namespace policyc::testing {

struct RuleSet {
  FlowSpace space;
  std::vector<BoxRule> rules;
};

// `wide`: rules overlap, most are dead; otherwise few peers and ports each, few are dead.
inline RuleSet generate_rules(std::size_t count, bool wide, std::uint32_t seed) {
  constexpr std::size_t kClasses = 50;
  RuleSet out;
  const std::uint32_t direction = out.space.add("direction", 2);
  const std::uint32_t peer = out.space.add("peer class", kClasses);
  std::mt19937 random(seed);
  const auto pick = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  for (std::size_t i = 0; i < count; ++i) {
    BoxRule rule;
    rule.deny = pick(12) == 0;
    const std::uint32_t protocol = pick(20);
    if (protocol == 0) {
      rule.box.end = ir::kL4KeyEnd;
    } else {
      const auto p = protocol < 16 ? ir::kProtoTcp : ir::kProtoUdp;
      const std::uint32_t style = pick(10);
      std::uint32_t first = 0, last = 65535;
      if (wide ? style < 4 : style < 8) {
        first = last = 1 + pick(wide ? 200 : 3000);
      } else if (wide ? style < 9 : true) {
        first = 1 + pick(60000);
        last = std::min<std::uint32_t>(65535, first + pick(wide ? 30000 : 200));
      }
      rule.box.begin = ir::l4_key(p, static_cast<std::uint16_t>(first));
      rule.box.end = ir::l4_key(p, static_cast<std::uint16_t>(last)) + 1;
    }
    PointSet side(2);
    side.add(pick(2));
    rule.box.restrict(direction, side);
    PointSet classes(kClasses, pick(wide ? 20 : 400) == 0);
    for (std::uint32_t k = 0; k < (wide ? 1 + pick(20) : 1 + pick(3)); ++k) {
      classes.add(pick(kClasses));
    }
    rule.box.restrict(peer, classes);
    out.rules.push_back(std::move(rule));
  }
  return out;
}

// The question whether rule `i` can be taken away.
inline Question dead_question(const RuleSet& set, std::size_t i) {
  Question q;
  q.space = &set.space;
  q.box = set.rules[i].box;
  for (std::size_t k = 0; k < set.rules.size(); ++k) {
    if (k != i && (set.rules[k].deny || !set.rules[i].deny)) q.covers.push_back(&set.rules[k].box);
  }
  q.title = "can rule " + std::to_string(i) + " be taken away?";
  return q;
}

}  // namespace policyc::testing
