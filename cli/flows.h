// Flows as JSON: reading questions in batch, writing answers.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "ir/base/expected.h"
#include "ir/base/source.h"
#include "ir/evaluate.h"

namespace policyc::cli {

inline constexpr std::uint16_t kMostIcmpType = 255;

// "TCP", "udp", "ICMPv6", a number; nullopt otherwise.
std::optional<ir::Protocol> parse_protocol(const std::string& text);

// `flows.json`: an array of {id, from, to, proto, port, l7?}, or Hubble flow logs (one JSON object
// with `flow` a line). The error names the flow and the field.
Expected<std::vector<ir::Flow>> read_flows(const std::string& text, const ir::World& world);

// One element of the `flows` array of the batch answer.
nlohmann::ordered_json answer_json(const ir::World& world, const ir::FlowVerdict& verdict);

// One element of the `policies` array.
nlohmann::ordered_json policy_json(const ir::Policy& policy);

// The flow itself, in the shape of flows.json.
nlohmann::ordered_json flow_json(const ir::World& world, const ir::Flow& flow);

// "default/frontend", "203.0.113.7", "world", "app=web (any pod)".
std::string party_name(const ir::World& world, const ir::Party& party);

}  // namespace policyc::cli
