// Lowers accepted policies to the IR: namespace rules of policy-semantics §3, entities and prefixes
// to selectors, ports, L7 rules, NetworkPolicy translation (§9).
#pragma once

#include "frontend/load.h"
#include "ir/policy_set.h"

namespace policyc::frontend {

// One ir::Policy per loaded policy, same index. Refused policies have no rules. What this version
// cannot judge is named in ir::Policy::unsupported and reported as a note.
ir::PolicySet lower(const Loaded& loaded, const ir::Settings& settings, DiagnosticSink& sink);

}  // namespace policyc::frontend
