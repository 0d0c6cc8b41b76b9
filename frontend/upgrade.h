// Two readings of the same files: another release of Cilium (the upgrade check), or the Kubernetes
// API.
#pragma once

#include "frontend/load.h"
#include "ir/base/diagnostic.h"

namespace policyc::frontend {

// Reads the inputs again as `target` (a profile name) does and reports each policy that is refused,
// newly accepted, or lowered to something else. `loaded` was read with `settings`.
void check_upgrade(const LoadOptions& options, const Loaded& loaded, const ir::Settings& settings,
                   const std::string& target, DiagnosticSink& sink);

// Where Cilium reads a NetworkPolicy of the input differently from the Kubernetes API: one
// finding (POL0401, off unless a level is set) for each rule whose translation differs.
void check_semantics(const Loaded& loaded, const ir::Settings& settings, DiagnosticSink& sink);

}  // namespace policyc::frontend
