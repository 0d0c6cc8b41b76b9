// Resolves the policies of a world for all its endpoints at once: bit sets over identity ×
// selector, interval splits over ports, one table for all endpoints that the same rules select.
#pragma once

#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc::ir {

struct ResolveOptions {
  // DNS names and toFQDNs texts that get an identity each, as if one address stood behind them. For
  // lists of connections where no DNS cache is known.
  std::vector<std::string> names = {};
};

// Deterministic: identities are numbered in sorted label order. Held against `evaluate` by
// property.
Resolved resolve(const World& world, const ResolveOptions& options = {});

// The identity labels of an address behind a name or a toFQDNs text: its own label where a policy
// has the same text, those of the patterns that match it, and the world's.
LabelSet name_identity(const World& world, const std::string& text);
// toFQDNs texts of all policies, sorted.
std::vector<std::string> policy_names(const PolicySet& policies);

}  // namespace policyc::ir
