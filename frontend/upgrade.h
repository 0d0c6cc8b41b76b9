// The upgrade check: what the same files mean, or no longer are, under another release of Cilium.
#pragma once

#include "frontend/load.h"
#include "ir/base/diagnostic.h"

namespace policyc::frontend {

// Reads the inputs again as `target` (a profile name) does and reports each policy that is refused,
// newly accepted, or lowered to something else. `loaded` was read with `settings`.
void check_upgrade(const LoadOptions& options, const Loaded& loaded, const ir::Settings& settings,
                   const std::string& target, DiagnosticSink& sink);

}  // namespace policyc::frontend
