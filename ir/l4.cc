#include "ir/l4.h"

namespace policyc::ir {

std::string_view direction_name(Direction direction) {
  return direction == Direction::Ingress ? "ingress" : "egress";
}

std::string protocol_name(Protocol protocol) {
  switch (protocol) {
    case kProtoAny:
      return "ANY";
    case kProtoTcp:
      return "TCP";
    case kProtoUdp:
      return "UDP";
    case kProtoSctp:
      return "SCTP";
    case kProtoIcmp:
      return "ICMP";
    case kProtoIcmp6:
      return "ICMPv6";
    default:
      return std::to_string(protocol);
  }
}

ProtocolClass protocol_class(Protocol protocol) {
  switch (protocol) {
    case kProtoTcp:
      return kTcp;
    case kProtoUdp:
      return kUdp;
    case kProtoSctp:
      return kSctp;
    case kProtoIcmp:
      return kIcmp;
    case kProtoIcmp6:
      return kIcmp6;
    default:
      return kOther;
  }
}

Protocol class_protocol(ProtocolClass c) {
  switch (c) {
    case kTcp:
      return kProtoTcp;
    case kUdp:
      return kProtoUdp;
    case kSctp:
      return kProtoSctp;
    case kIcmp:
      return kProtoIcmp;
    case kIcmp6:
      return kProtoIcmp6;
    case kOther:
    case kProtocolClasses:
      return kProtoAny;
  }
  return kProtoAny;
}

std::vector<PortBlock> port_blocks(std::uint16_t first, std::uint16_t last) {
  if (first == 0 && (last == 0 || last == 0xFFFF)) return {{0, 0}};
  if (last <= first) return {{first, 16}};
  std::vector<PortBlock> blocks;
  std::uint32_t at = first;
  while (at <= last) {
    // The largest aligned block that starts here and does not pass the end.
    std::uint32_t size = 1;
    std::uint8_t length = 16;
    while ((at & size) == 0 && at + 2 * size - 1 <= last && length > 0) {
      size *= 2;
      --length;
    }
    blocks.push_back({static_cast<std::uint16_t>(at), length});
    at += size;
  }
  return blocks;
}

}  // namespace policyc::ir
