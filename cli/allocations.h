// `allocations.json`: the addresses and numbers that policyc gave out, for --allocations.
#pragma once

#include <string>

#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc::cli {

// Addresses of pods that had none, and numbers of pod identities, those of an agent included.
// frontend/world.h gives the shape and reads it.
std::string allocations_json(const ir::World& world, const ir::Resolved& resolved);

}  // namespace policyc::cli
