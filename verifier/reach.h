// Claims about reachability with quantifiers: nobody of these reaches any of those, or everybody
// does, on all of these ports, by all of these requests. Decided for all members, exactly.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ir/connectivity.h"
#include "ir/evaluate.h"
#include "verifier/request_language.h"

namespace policyc {

struct ReachClaim {
  std::vector<ir::GraphParty> from, to;  // pairs of a party with itself are left out
  std::vector<ir::PortSpan> ports;       // empty = every protocol and port; `parser` is not read
  // Only these HTTP requests count. Absent: connections, whatever is sent over them; a connection
  // counts as refused where its proxy lets nothing pass.
  std::optional<RequestLanguage> requests;
  bool allow = false;  // everybody passes, always; else nobody ever does
};

struct ReachResult {
  enum class Kind { Holds, Fails, Unknown } kind = Kind::Holds;
  // Fails: a flow that the claim is not true of, confirmed by the evaluator, and its verdict.
  std::optional<ir::Flow> counterexample;
  std::string why;        // Unknown
  std::size_t pairs = 0;  // looked at
};

ReachResult decide(const ir::World& world, const ir::Connectivity& connectivity,
                   const ReachClaim& claim);

// A party of a question as one of the flow: the pod, the node, the entity, the address, the name.
// A pod on a node's network is the node.
ir::Party party_of(const ir::GraphParty& party);

// Who is reached from `start` in at most `hops` connections, each allowed end to end by TCP, UDP or
// SCTP; the fewest hops for each, `start` left out. Only workloads, and nodes under the host
// firewall, pass on.
struct Reached {
  std::size_t party = 0;     // index into parties
  std::size_t previous = 0;  // the party before it on a shortest way
  std::size_t hops = 0;
};
std::vector<Reached> blast_radius(const std::vector<ir::GraphParty>& parties,
                                  const ir::Connectivity& connectivity, std::size_t start,
                                  std::size_t hops);

}  // namespace policyc
