// Who may reach each workload, and under the host firewall each node, from any pod that could
// exist: the sources that its policies name, not the pods that happen to be in the input.
#pragma once

#include <string>
#include <vector>

#include "ir/connectivity.h"
#include "ir/evaluate.h"

namespace policyc {

// Sources that may (or may not) send on the same ports.
struct ExposedTo {
  ir::Connection ports;
  std::vector<std::string> sources;  // in words, sorted: "app=api in namespace shop", "world"
};

// The ingress of one workload or node. A denial wins over everything allowed.
struct Exposure {
  ir::GraphParty party;            // kind workload or node
  bool isolated = false;           // some policy selects it for ingress
  std::vector<ExposedTo> allowed;  // sorted by ports; a source that a wider one covers is left out
  std::vector<ExposedTo> denied;
  std::string unknown;  // not empty: cannot be told, and why
};

// One for each workload that may have policies of its own (none on the host network), in the order
// of the inventory, and behind them the nodes. The egress of the sources is not looked at.
std::vector<Exposure> exposure(const ir::World& world);

}  // namespace policyc
