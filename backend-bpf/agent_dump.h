// Numbers that a running agent has allocated, read from dumps of its maps.
//
// Accepted, each as JSON:
//   cilium-dbg bpf ipcache list -o json      {"10.0.0.1/32": ["identity=123 …"]}
//   cilium-dbg bpf policy get --all -o json  [{"EndpointID": "7", "Content": [{"Key": {…}, …}]}]
//   cilium-dbg bpf policy get ID -o json     [{"Key": {…}, "ProxyPortNetwork": …}]
//   a form of our own, every member optional:
//     {"node": "node-1", "ipcache": {"10.0.0.1/32": 123}, "endpoints": {"ns/pod": 7},
//      "proxy_ports": {"http/egress": 12345}, "policy": <either of the two above>}
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "backend-bpf/cilium_image.h"
#include "ir/base/expected.h"
#include "ir/inventory.h"
#include "ir/ip.h"
#include "ir/resolved.h"

namespace policyc::bpf {

// What is known of one node's agent.
struct AgentDump {
  std::map<ir::Prefix, std::uint32_t> ipcache;
  std::map<std::string, std::uint16_t> endpoints;    // "ns/pod" → endpoint number
  std::map<std::string, std::uint16_t> proxy_ports;  // as proxy_names, host order
  // Redirecting entries of its policy maps: egress, protocol, port, prefix length → proxy ports.
  std::map<std::tuple<bool, std::uint8_t, std::uint16_t, std::uint32_t>, std::vector<std::uint16_t>>
      redirects;
};

// Adds a dump. `node` receives the member of that name. Any text is safe to read; errors say which
// part is not as above.
Expected<bool> read_agent_dump(std::string_view text, AgentDump& out, std::string& node);

// The numbers for one node: from the dump, from CiliumIdentity objects, or stand-ins. Identity
// numbers that the dump gives twice differently are an error.
Expected<AgentNumbers> agent_numbers(const ir::Resolved& resolved, const ir::NodeView& view,
                                     const std::vector<ir::KnownIdentity>& known,
                                     const AgentDump& dump);

}  // namespace policyc::bpf
