// `dump mapstate` and `dump identities`: the resolved policies as Cilium's policy map entries.
#pragma once

#include <string>

#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc::cli {

// As JSON; written directly, because it can be large.
std::string mapstate_json(const ir::World& world, const ir::Resolved& resolved);
// The same for people: one block an endpoint.
std::string mapstate_text(const ir::World& world, const ir::Resolved& resolved);
std::string identities_json(const ir::Resolved& resolved);

}  // namespace policyc::cli
