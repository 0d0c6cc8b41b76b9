// Exact facts about selectors, ports and name patterns, without a solver: an answer `true` is
// certain, `false` means that it could not be shown.
#pragma once

#include <optional>
#include <string_view>
#include <utility>

#include "ir/inventory.h"
#include "ir/policy_set.h"

namespace policyc {

// Whether everybody whom `narrow` selects is selected by `wide`, too. Pods are taken to be of the
// own cluster, addresses to be no nodes.
bool selector_covers(const ir::Selector& wide, const ir::Selector& narrow,
                     const ir::Settings& settings);

// Whether nobody matches both. `ignore_namespace` leaves conditions on namespaces aside.
bool selectors_disjoint(const ir::Selector& a, const ir::Selector& b,
                        bool ignore_namespace = false);

// Two written conditions of the selector that nobody meets together, in the order of the text.
std::optional<std::pair<const ir::Requirement*, const ir::Requirement*>> contradiction(
    const ir::Selector& selector);

// Whether some condition hangs on a value that the input leaves open.
bool has_symbol(const ir::Selector& selector);

// Whether each peer of `narrow` is a peer of `wide`. Nobody is covered by anybody.
bool peer_covered(const ir::RuleItem& wide, const ir::Peer& narrow, const ir::Settings& settings);
bool peers_cover(const ir::RuleItem& wide, const ir::RuleItem& narrow,
                 const ir::Settings& settings);

// Whether every packet of port `narrow` is one of port `wide`.
bool port_covers(const ir::Port& wide, const ir::Port& narrow);

// Whether a name exists that both patterns match (`*`, `**.` and literals; case is ignored).
bool patterns_intersect(std::string_view a, std::string_view b);

}  // namespace policyc
