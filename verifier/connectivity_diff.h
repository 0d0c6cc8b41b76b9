// Which connections differ between two worlds: opened, closed, or passing under other conditions.
// Exact over every party of both, every protocol and port; grouped by classes of parties, never pod
// by pod.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ir/connectivity.h"
#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc {

enum class ChangeKind {
  Opened,   // refused before, passes now
  Closed,   // passed before, refused now
  Changed,  // passes in both, under other conditions: L7 rules, proxy, authentication
};

// One change, for every source with every target.
struct ConnectionChange {
  ChangeKind kind = ChangeKind::Opened;
  std::vector<std::string> sources, targets;  // ids as in ir::GraphParty, sorted
  std::vector<ir::PortSpan> spans;            // parsers are those of the side that passes now
  // Conditions, one text each ("http: GET /a.*", "after authentication (spire)"); empty = none.
  std::vector<std::string> before, after;
  // One flow of the change, in the terms of either world. Where L7 rules differ it carries a
  // request that tells them apart, if one was found.
  ir::Flow base_flow, head_flow;
  // Rules that decide that flow: those of policies which differ, or all where none does.
  std::vector<ir::Origin> base_rules, head_rules;
};

struct IsolationChange {
  ir::Direction direction = ir::Direction::Ingress;
  bool isolated = false;               // now
  std::vector<std::string> workloads;  // sorted
};

struct ConnectivityDiff {
  std::vector<ConnectionChange> changes;  // opened, closed, changed; then by sources and targets
  std::vector<IsolationChange> isolation;
  std::vector<std::string> added, removed;  // workloads, nodes of one side only: not compared
  std::vector<std::string> unknown;         // "id: why": their policy cannot be told on some side
  std::size_t parties = 0, classes = 0;     // compared
  bool equal() const {
    return changes.empty() && isolation.empty() && added.empty() && removed.empty() &&
           unknown.empty();
  }
};

// `resolved` of both with identities for the names of both (names_of).
struct ComparedWorld {
  const ir::World* world = nullptr;
  const ir::Resolved* resolved = nullptr;
};
ConnectivityDiff compare(const ComparedWorld& base, const ComparedWorld& head);

// toFQDNs texts of both policy sets; empty where either world has a DNS cache.
std::vector<std::string> names_of(const ir::World& base, const ir::World& head);

// For policies without any pod or workload beside them: one pod for each label set that a selector
// of theirs asks for, in each namespace they mention, and one without labels. Stand-ins: what holds
// of them holds of any pod with exactly those labels. All declare every port name that the policies
// use, under numbers that the policies do not: those numbers, by name.
std::map<std::string, std::uint16_t> add_hypothetical_pods(
    const std::vector<const ir::PolicySet*>& policies, ir::Inventory& inventory);

}  // namespace policyc
