// Which rules fill an endpoint's policy map.
#pragma once

#include <cstddef>
#include <vector>

#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc::ir {

struct RuleCost {
  Origin origin;
  std::size_t entries = 0;  // of the map, that the item has a part in; items share entries
};

// Costliest first, items without an entry left out. Asks every item about every identity class, so
// for a few endpoints, not for all.
std::vector<RuleCost> entry_costs(const World& world, const Resolved& resolved,
                                  const NodeView& view, const ResolvedEndpoint& endpoint);

}  // namespace policyc::ir
