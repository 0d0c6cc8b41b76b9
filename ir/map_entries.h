// A policy table as entries of Cilium's policy map: what the agent of a
// node installs, and the fewest entries that decide alike.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "ir/base/expected.h"
#include "ir/resolved.h"

namespace policyc::ir {

// The identities for which the agent of this node has entries, ascending: pods of the whole
// cluster, reserved ones, and of the host's and the local ones those of this node.
std::vector<IdentityIndex> agent_identities(const Resolved& resolved, const NodeView& view);

// How many entries the agent installs for an endpoint, both directions; what bpf-policy-map-max
// limits.
std::size_t agent_entries(const ResolvedEndpoint& endpoint,
                          const std::vector<IdentityIndex>& identities);

// Entries of one direction; `record` is an index into `records` here.
struct MapEntries {
  std::vector<VerdictRecord> records;
  std::vector<PolicyTable::Entry> wildcard;              // identity 0
  std::vector<std::vector<PolicyTable::Entry>> classes;  // for each identity of the class
};

// How a lookup that finds two entries lends authentication from one to the other.
enum class AuthLending {
  Always,    // up to 1.18: whatever the proxy priorities
  SameRank,  // since 1.19: between entries of one precedence
};

// What the two lookups give at a key: the longest match of the class's entries and of the wildcard
// ones. An index beyond the classes stands for an identity without entries of its own.
VerdictRecord map_lookup(const MapEntries& map, AuthLending lending, std::size_t identity_class,
                         L4Key key);

// Of the agent's entries the fewest: taking one more away changes a verdict, its drop reason, its
// redirect or its authentication somewhere. For identities not known here the wildcard entries say
// what the agent's say. Errors: no set of these entries gives the table's verdicts.
Expected<MapEntries> fewest_entries(const PolicyTable& table, AuthLending lending);

}  // namespace policyc::ir
