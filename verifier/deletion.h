// Taking a part of a policy away, and whether anything changes: the definition behind every finding
// that calls something redundant.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc {

// What can be taken away. Indices are those of ir::PolicySet and below.
struct Part {
  // Restriction: not the L7 rules go, but what they keep out; every request passes.
  enum class Kind : std::uint8_t {
    Policy,
    Item,
    Peers,
    Ports,
    L7,
    Restriction
  } kind = Kind::Policy;
  std::size_t policy = 0;
  std::size_t rule = 0;              // into PolicySet::rules; Item and below
  std::size_t item = 0;              // into Rule::items
  std::vector<std::size_t> members;  // Peers, Ports, L7: which of them; Restriction: which ports
  std::size_t port_rule = 0;         // Ports, L7 and Restriction: into RuleItem::ports
};

// The policies without the part. An item that was the last of its direction takes the direction
// along: no default deny is left of it.
ir::PolicySet without(const ir::PolicySet& policies, const Part& part);

// A verdict that is not the same in two worlds.
struct Difference {
  std::size_t pod = 0;  // the judged pod, index into Inventory::pods
  ir::Direction direction = ir::Direction::Ingress;
  ir::LabelSet peer;
  ir::L4Key key = 0;
  std::string before, after;  // verdict, reason, parser, authentication, proxy rules
};
// Whether two proxies let the same requests pass.
using SameRequests = std::function<bool(const ir::ProxyFilter&, const ir::ProxyFilter&)>;
// Compares the whole verdict record of every pod and host, direction, peer identity and L4 key.
// Both worlds have the same inventory and settings. nullopt: all are equal. Without `same`, proxies
// are the same where they have the same rules.
std::optional<Difference> first_difference(const ir::World& before, const ir::World& after,
                                           const SameRequests& same = {});

}  // namespace policyc
