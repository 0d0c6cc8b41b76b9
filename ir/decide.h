// Which of the allows that match a packet decides, and what authentication it asks
// for.
#pragma once

#include <optional>
#include <vector>

#include "ir/filters.h"
#include "ir/flow.h"

namespace policyc::ir {

// An atom that matches the packet: which key of the policy map it would be, and what it says.
struct Atom {
  const Filter* filter = nullptr;
  const SelectorPolicy* policy = nullptr;  // nullptr: the implicit allow of the local host
  bool specific = false;                   // a concrete identity, not the wildcard
  int length = 0;                          // L4 prefix length: 0, 8 or 8 + port bits
  int priority = 0;                        // proxy priority, 0 = plain allow
};

struct Decision {
  const Atom* best = nullptr;  // nullptr: nothing matches, default deny
  Reason reason = Reason::DefaultDeny;
  std::optional<Auth> auth;
};

Decision decide(const std::vector<Atom>& allows);

}  // namespace policyc::ir
