// "No pod of these reaches that one": for every pod with a network of its own that could exist, not
// only those of the input. A pod on the host network is its node to policies: it is not meant here.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ir/connectivity.h"
#include "ir/evaluate.h"
#include "verifier/request_language.h"

namespace policyc {

struct OpenClaim {
  ir::Selector from;                // pods, by their identity labels; the namespace among them
  std::vector<std::size_t> to;      // indices into Inventory::pods
  std::vector<ir::PortSpan> ports;  // empty = every protocol and port; `parser` is not read
  std::optional<RequestLanguage> requests;  // only these HTTP requests count
};

struct OpenAnswer {
  // Holds: by the ingress policies of the targets alone, whatever the sources may send. Fails: with
  // a pod that the policies let in, confirmed by the evaluator.
  enum class Kind { Holds, Fails, Unknown } kind = Kind::Unknown;
  std::string why;          // Unknown
  ir::World world;          // Fails: the world with that pod, the last of its inventory
  ir::Flow counterexample;  // Fails
};

// Existing namespaces keep their labels; others may have any. Where no requests are named,
// connections count as made where a proxy judges what is sent over them.
OpenAnswer no_pod_reaches(const ir::World& world, const OpenClaim& claim);

}  // namespace policyc
