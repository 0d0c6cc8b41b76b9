// Ethernet frames: built from their parts, and taken apart again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ir/base/expected.h"
#include "ir/ip.h"
#include "ir/l4.h"

namespace policyc::bpf {

// TCP flags as bits of the header's byte 13.
enum TcpFlag : std::uint8_t { kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16, kUrg = 32 };

// Ports and ICMP fields in host order. Which of them count is decided by `protocol`.
struct Packet {
  ir::IpAddress from, to;  // one family
  ir::Protocol protocol = ir::kProtoTcp;
  std::uint16_t source_port = 0, destination_port = 0;  // TCP, UDP, SCTP
  std::uint8_t tcp_flags = 0;
  std::uint32_t sequence = 0, acknowledgement = 0;
  std::uint8_t icmp_type = 0, icmp_code = 0;  // ICMP, ICMPv6
  std::uint16_t icmp_id = 0;                  // echo request and reply
  bool vlan = false;                          // behind an 802.1Q or 802.1ad tag; see add_vlan()
  bool later_fragment = false;                // no transport header in it
  bool first_fragment = false;                // more follow
  std::uint8_t option_words = 0;              // IPv4: 32-bit words of options, at most 10
  // IPv6 in the order of the frame: 0 hop-by-hop, 43 routing, 51 authentication, 60 destination
  // options. Eight bytes each when built. The header of a fragment is not among them.
  std::vector<ir::Protocol> extensions;
  bool too_many_headers = false;  // IPv6: more than six extension headers, the rest is not read
  std::vector<std::uint8_t> payload;

  // The port that policies see: destination port, or the ICMP type.
  std::uint16_t policy_port() const;
  std::string str() const;  // "10.0.0.1:1234 > 10.0.0.2:80 TCP [PA] 20 bytes"
};

// "SA" → flags; letters S A P F R U in any order. nullopt for another letter.
std::optional<std::uint8_t> parse_tcp_flags(const std::string& text);

// Ethernet, IP and transport headers with valid checksums (SCTP: none). Payload as given.
std::vector<std::uint8_t> build_frame(const Packet& packet);

// Puts an 802.1Q tag in front of the frame's EtherType; `id` from 0 to 4095.
void add_vlan(std::vector<std::uint8_t>& frame, std::uint16_t id);

// nullopt for frames that carry no IP (ARP and the like). An error where headers are cut off.
Expected<std::optional<Packet>> parse_frame(const std::vector<std::uint8_t>& frame);

// ICMP errors quote the start of the packet they are about: its addresses, protocol and ports (or
// echo id). nullopt where `packet` is no such error, or quotes a later fragment.
std::optional<Packet> quoted_packet(const Packet& packet);

// What its payload begins with, up to the end of a line, where that is printable ASCII:
// "GET /items HTTP/1.1". Empty otherwise.
std::string first_line(const Packet& packet);

}  // namespace policyc::bpf
