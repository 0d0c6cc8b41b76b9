// The reference evaluator: slow, obvious, and the one definition of what policies mean.
#pragma once

#include <string>
#include <vector>

#include "ir/flow.h"
#include "ir/inventory.h"
#include "ir/policy_set.h"

namespace policyc::ir {

struct World {
  Settings settings;
  Inventory inventory;
  PolicySet policies;
};

// The verdict of one flow, as Cilium gives it. Pure; no caches.
FlowVerdict evaluate(const World& world, const Flow& flow);

// Rules that put the judged side of the flow into default deny in this direction.
std::vector<Origin> isolating_rules(const World& world, const Flow& flow, Direction direction);

// An allow item that would let the flow pass but for one condition.
struct NearMiss {
  Origin origin;
  std::string
      condition;  // "the port: it allows TCP/443", "the peer's label `app=web`: it has app=db"
};
// For a flow that default deny drops in this direction: items with a single unmet condition, which
// is the port, one requirement on one label, or the direction.
std::vector<NearMiss> near_misses(const World& world, const Flow& flow, Direction direction);

}  // namespace policyc::ir
