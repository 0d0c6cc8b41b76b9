// Packets and flows in the shape of `hubble observe -o json` (Cilium api/v1/flow/flow.proto): one
// JSON object a line.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "backend-bpf/replay.h"
#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc::cli {

// The name of a drop reason (given without its sign) in Hubble's DropReason; empty where it has
// none.
std::string_view hubble_drop_reason(std::uint32_t reason);

// Lines for one replayed packet: one for each program that judged it, then one for the proxy where
// it read a request; a reply is one line. Frames without IP have none.
std::vector<nlohmann::ordered_json> hubble_lines(const ir::World& world,
                                                 const ir::Resolved& resolved,
                                                 const bpf::ReplayPacket& packet,
                                                 const bpf::PacketResult& result);

}  // namespace policyc::cli
