// Resolves the policies of a world for all its endpoints at once: bit sets over identity ×
// selector, interval splits over ports, one table for all endpoints that the same rules select.
#pragma once

#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc::ir {

struct ResolveOptions {
  // Give each toFQDNs text an identity of its own, as if one address stood behind it. For lists of
  // connections where no DNS cache is known.
  bool names = false;
};

// Deterministic: identities are numbered in sorted label order. Held against `evaluate` by
// property.
Resolved resolve(const World& world, const ResolveOptions& options = {});

// The identity labels of an address behind a toFQDNs text that the policies mention: its own label,
// those of the patterns that match it, and the world's.
LabelSet name_identity(const World& world, const std::string& text);
// toFQDNs texts of all policies, sorted.
std::vector<std::string> policy_names(const PolicySet& policies);

}  // namespace policyc::ir
