// Resolves the policies of a world for all its endpoints at once: bit sets over identity ×
// selector, interval splits over ports, one table for all endpoints that the same rules select.
#pragma once

#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc::ir {

// Deterministic: identities are numbered in sorted label order. Held against `evaluate` by
// property.
Resolved resolve(const World& world);

}  // namespace policyc::ir
