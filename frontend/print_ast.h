// The policies as read, as YAML: what `policyc dump ast` prints.
#pragma once

#include <string>

#include "frontend/load.h"

namespace policyc::frontend {

// One document for each policy, in input order: where it stands, its settled namespace and set,
// what the cluster says of it, and its rules in the words of the CRDs.
std::string print_ast(const Loaded& loaded);

}  // namespace policyc::frontend
