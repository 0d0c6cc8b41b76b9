// Protocols, ports and the one-dimensional key space that images and resolved policies use.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace policyc::ir {

enum class Direction : std::uint8_t { Ingress, Egress };
std::string_view direction_name(Direction direction);  // "ingress", "egress"

// IP protocol numbers; 0 stands for "any protocol" where a wildcard is allowed.
using Protocol = std::uint8_t;
inline constexpr Protocol kProtoAny = 0;
inline constexpr Protocol kProtoIcmp = 1;
inline constexpr Protocol kProtoTcp = 6;
inline constexpr Protocol kProtoUdp = 17;
inline constexpr Protocol kProtoIcmp6 = 58;
inline constexpr Protocol kProtoSctp = 132;
std::string protocol_name(Protocol protocol);  // "TCP", …, "ANY", or the number

// The (protocol, port) plane laid out on a line, so that port sets are interval sets: key =
// protocol class << 16 | port (host order; ICMP: the type). Protocols without ports or types share
// class 0, in which every port value behaves alike.
enum ProtocolClass : std::uint32_t { kOther, kTcp, kUdp, kSctp, kIcmp, kIcmp6, kProtocolClasses };
ProtocolClass protocol_class(Protocol protocol);
Protocol class_protocol(ProtocolClass c);  // kOther gives 0
using L4Key = std::uint32_t;
inline constexpr L4Key kL4KeyEnd = kProtocolClasses << 16U;  // exclusive
inline L4Key l4_key(Protocol protocol, std::uint16_t port) {
  auto c = protocol_class(protocol);
  return (static_cast<L4Key>(c) << 16U) | (c == kOther ? 0U : port);
}

// An aligned power-of-two block of ports: the top `length` bits (0..16) of `port` are fixed.
struct PortBlock {
  std::uint16_t port = 0;
  std::uint8_t length = 0;

  std::uint16_t last() const { return static_cast<std::uint16_t>(port | (0xFFFFU >> length)); }
  friend auto operator<=>(const PortBlock&, const PortBlock&) = default;
};

// Smallest cover of the inclusive range by blocks, ascending, disjoint, at most 30. `0-0` and
// `0-65535` give the wildcard block {0,0}; last <= first gives the single port, as the agent has
// it.
std::vector<PortBlock> port_blocks(std::uint16_t first, std::uint16_t last);

}  // namespace policyc::ir
