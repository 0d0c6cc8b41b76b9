// Packets and flows in the shape of `hubble observe -o json` (Cilium api/v1/flow/flow.proto): one
// JSON object a line.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "backend-bpf/replay.h"
#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc::cli {

// The name of a drop reason (given without its sign) in Hubble's DropReason; empty where it has
// none.
std::string_view hubble_drop_reason(std::uint32_t reason);

class HubbleWriter {
 public:
  // Both must outlive the writer.
  HubbleWriter(const ir::World& world, const ir::Resolved& resolved);

  // Lines for one replayed packet: one for each program that judged it, then one for the proxy
  // where it read a request; a reply is one line. Frames without IP have none.
  std::vector<nlohmann::ordered_json> lines(const bpf::ReplayPacket& packet,
                                            const bpf::PacketResult& result) const;

 private:
  friend class LineWriter;
  const ir::World& world_;
  const ir::Resolved& resolved_;
  std::map<ir::IpAddress, const ir::Pod*> pods_;
  std::map<ir::IpAddress, std::size_t> view_of_;  // where the pod with this address runs
};

}  // namespace policyc::cli
