// Lowers accepted policies to the IR: the namespaces that selectors mean, entities and prefixes
// to selectors, ports, L7 rules, NetworkPolicy translation.
#pragma once

#include "frontend/load.h"
#include "ir/policy_set.h"

namespace policyc::frontend {

// One ir::Policy per loaded policy, same index. Refused policies have no rules. Placeholders become
// symbols.
ir::PolicySet lower(const Loaded& loaded, const ir::Settings& settings);

}  // namespace policyc::frontend
