#include "backend-bpf/packet.h"

#include <fmt/format.h>

#include <algorithm>

namespace policyc::bpf {
namespace {

using Bytes = std::vector<std::uint8_t>;

void put16(Bytes& out, std::uint32_t v) {
  out.push_back(static_cast<std::uint8_t>(v >> 8U));
  out.push_back(static_cast<std::uint8_t>(v));
}

void put32(Bytes& out, std::uint32_t v) {
  put16(out, v >> 16U);
  put16(out, v & 0xFFFFU);
}

void set16(Bytes& out, std::size_t at, std::uint32_t v) {
  out[at] = static_cast<std::uint8_t>(v >> 8U);
  out[at + 1] = static_cast<std::uint8_t>(v);
}

std::uint32_t get16(const Bytes& in, std::size_t at) {
  return (std::uint32_t{in[at]} << 8U) | in[at + 1];
}

std::uint32_t get32(const Bytes& in, std::size_t at) {
  return (get16(in, at) << 16U) | get16(in, at + 2);
}

// One's complement sum of RFC 1071.
std::uint32_t sum(const Bytes& data, std::size_t begin, std::size_t end) {
  std::uint32_t total = 0;
  for (std::size_t i = begin; i < end; i += 2) {
    total += std::uint32_t{data[i]} << 8U;
    if (i + 1 < end) total += data[i + 1];
  }
  return total;
}

std::uint32_t fold(std::uint32_t total) {
  while (total >> 16U != 0) total = (total & 0xFFFFU) + (total >> 16U);
  return ~total & 0xFFFFU;
}

std::size_t address_bytes(const ir::IpAddress& ip) {
  return ip.family == ir::Family::V4 ? 4 : 16;
}

bool is_icmp(ir::Protocol p) {
  return p == ir::kProtoIcmp || p == ir::kProtoIcmp6;
}

Bytes transport(const Packet& p) {
  Bytes out;
  switch (p.protocol) {
    case ir::kProtoTcp:
      put16(out, p.source_port);
      put16(out, p.destination_port);
      put32(out, p.sequence);
      put32(out, p.acknowledgement);
      out.push_back(5U << 4U);  // header of five words
      out.push_back(p.tcp_flags);
      put16(out, 65535);
      put32(out, 0);  // checksum, urgent pointer
      break;
    case ir::kProtoUdp:
      put16(out, p.source_port);
      put16(out, p.destination_port);
      put16(out, static_cast<std::uint32_t>(8 + p.payload.size()));
      put16(out, 0);
      break;
    case ir::kProtoSctp:
      put16(out, p.source_port);
      put16(out, p.destination_port);
      put32(out, 0);
      put32(out, 0);
      break;
    case ir::kProtoIcmp:
    case ir::kProtoIcmp6:
      out.push_back(p.icmp_type);
      out.push_back(p.icmp_code);
      put16(out, 0);
      put16(out, p.icmp_id);
      put16(out, 0);
      break;
    default:
      break;
  }
  out.insert(out.end(), p.payload.begin(), p.payload.end());
  return out;
}

// Where the checksum stands in the transport header; SIZE_MAX where there is none.
std::size_t checksum_offset(ir::Protocol protocol) {
  switch (protocol) {
    case ir::kProtoTcp:
      return 16;
    case ir::kProtoUdp:
      return 6;
    case ir::kProtoIcmp:
    case ir::kProtoIcmp6:
      return 2;
    default:
      return SIZE_MAX;
  }
}

constexpr ir::Protocol kFragmentHeader = 44;

bool fragmented(const Packet& p) {
  return p.first_fragment || p.later_fragment;
}

// IPv6: what the fixed header says comes next.
ir::Protocol first_header(const Packet& p) {
  return !p.extensions.empty() ? p.extensions.front()
         : fragmented(p)       ? kFragmentHeader
                               : p.protocol;
}

Bytes extension_headers(const Packet& p) {
  Bytes out;
  for (std::size_t i = 0; i < p.extensions.size(); ++i) {
    out.push_back(i + 1 < p.extensions.size() ? p.extensions[i + 1]
                  : fragmented(p)             ? kFragmentHeader
                                              : p.protocol);
    out.push_back(0);    // eight bytes
    put16(out, 0x0104);  // padding of four bytes, where options are looked for
    put32(out, 0);
  }
  if (fragmented(p)) {
    out.push_back(p.protocol);
    out.push_back(0);
    put16(out, p.later_fragment ? 100U << 3U : 1U);  // offset, or "more follow"
    put32(out, 1);
  }
  return out;
}

}  // namespace

std::uint16_t Packet::policy_port() const {
  return is_icmp(protocol) ? icmp_type : destination_port;
}

std::string Packet::str() const {
  if (is_icmp(protocol)) {
    return fmt::format("{} > {} {} type {} code {}", from.str(), to.str(),
                       ir::protocol_name(protocol), icmp_type, icmp_code);
  }
  std::string flags;
  if (protocol == ir::kProtoTcp) {
    for (const auto& [bit, letter] :
         {std::pair{kSyn, 'S'}, {kFin, 'F'}, {kRst, 'R'}, {kPsh, 'P'}, {kAck, 'A'}, {kUrg, 'U'}}) {
      if ((tcp_flags & bit) != 0) flags += letter;
    }
    flags = " [" + flags + "]";
  }
  const auto side = [](const ir::IpAddress& ip, std::uint16_t port) {
    return ip.family == ir::Family::V4 ? fmt::format("{}:{}", ip.str(), port)
                                       : fmt::format("[{}]:{}", ip.str(), port);
  };
  std::string out = fmt::format("{} > {} {}{}", side(from, source_port), side(to, destination_port),
                                ir::protocol_name(protocol), flags);
  if (!payload.empty()) out += fmt::format(" {} bytes", payload.size());
  if (first_fragment) out += " first fragment";
  if (later_fragment) out += " later fragment";
  return out;
}

std::optional<std::uint8_t> parse_tcp_flags(const std::string& text) {
  std::uint32_t out = 0;
  for (const char c : text) {
    switch (c) {
      case 'S':
        out |= kSyn;
        break;
      case 'A':
        out |= kAck;
        break;
      case 'P':
        out |= kPsh;
        break;
      case 'F':
        out |= kFin;
        break;
      case 'R':
        out |= kRst;
        break;
      case 'U':
        out |= kUrg;
        break;
      default:
        return std::nullopt;
    }
  }
  return static_cast<std::uint8_t>(out);
}

std::vector<std::uint8_t> build_frame(const Packet& p) {
  const bool v4 = p.from.family == ir::Family::V4;
  Bytes body = transport(p);
  const std::size_t size = address_bytes(p.from);
  // Pseudo header: addresses, length, protocol; ICMP over IPv4 has none.
  if (const std::size_t at = checksum_offset(p.protocol); at != SIZE_MAX) {
    std::uint32_t total = sum(body, 0, body.size());
    if (p.protocol != ir::kProtoIcmp) {
      Bytes pseudo(p.from.bytes.begin(), p.from.bytes.begin() + static_cast<std::ptrdiff_t>(size));
      pseudo.insert(pseudo.end(), p.to.bytes.begin(),
                    p.to.bytes.begin() + static_cast<std::ptrdiff_t>(size));
      put16(pseudo, p.protocol);
      put16(pseudo, static_cast<std::uint32_t>(body.size()));
      total += sum(pseudo, 0, pseudo.size());
    }
    std::uint32_t checksum = fold(total);
    if (checksum == 0 && p.protocol == ir::kProtoUdp) checksum = 0xFFFF;
    set16(body, at, checksum);
  }
  Bytes out = {0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1};  // locally administered addresses
  put16(out, v4 ? 0x0800 : 0x86DD);
  const std::size_t ip = out.size();
  const Bytes between = v4 ? Bytes(4U * p.option_words, 1) : extension_headers(p);  // 1: no-op
  const std::size_t length = between.size() + body.size();
  if (v4) {
    out.push_back(static_cast<std::uint8_t>(0x45U + p.option_words));
    out.push_back(0);
    put16(out, static_cast<std::uint32_t>(20 + length));
    put16(out, 0);
    // Offset in eight-byte units, more fragments, or don't fragment.
    put16(out, p.later_fragment ? 100 : p.first_fragment ? 0x2000 : 0x4000);
    out.push_back(64);
    out.push_back(p.protocol);
    put16(out, 0);
  } else {
    put32(out, 6U << 28U);
    put16(out, static_cast<std::uint32_t>(length));
    out.push_back(first_header(p));
    out.push_back(64);
  }
  for (const ir::IpAddress* a : {&p.from, &p.to}) {
    out.insert(out.end(), a->bytes.begin(), a->bytes.begin() + static_cast<std::ptrdiff_t>(size));
  }
  out.insert(out.end(), between.begin(), between.end());
  if (v4) set16(out, ip + 10, fold(sum(out, ip, out.size())));
  out.insert(out.end(), body.begin(), body.end());
  return out;
}

void add_vlan(Bytes& frame, std::uint16_t id) {
  Bytes tag;
  put16(tag, 0x8100);
  put16(tag, id);
  frame.insert(frame.begin() + 12, tag.begin(), tag.end());
}

Expected<std::optional<Packet>> parse_frame(const std::vector<std::uint8_t>& frame) {
  if (frame.size() < 14) return Error{"the frame is shorter than an Ethernet header"};
  std::uint32_t type = get16(frame, 12);
  Packet p;
  std::size_t at = 14;
  while ((type == 0x8100 || type == 0x88A8) && frame.size() >= at + 4) {
    p.vlan = true;
    type = get16(frame, at + 2);
    at += 4;
  }
  std::size_t end = frame.size();
  if (type == 0x0800) {
    if (frame.size() < at + 20) return Error{"the IPv4 header is cut off"};
    const std::size_t header = (frame[at] & 15U) * 4U;
    if (frame[at] >> 4U != 4 || header < 20 || frame.size() < at + header) {
      return Error{"the IPv4 header is malformed"};
    }
    end = std::min(end, at + std::max<std::size_t>(get16(frame, at + 2), header));
    p.protocol = frame[at + 9];
    p.later_fragment = (get16(frame, at + 6) & 0x1FFFU) != 0;
    p.first_fragment = !p.later_fragment && (get16(frame, at + 6) & 0x2000U) != 0;
    p.option_words = static_cast<std::uint8_t>(header / 4 - 5);
    std::copy_n(frame.begin() + static_cast<std::ptrdiff_t>(at + 12), 4, p.from.bytes.begin());
    std::copy_n(frame.begin() + static_cast<std::ptrdiff_t>(at + 16), 4, p.to.bytes.begin());
    at += header;
  } else if (type == 0x86DD) {
    if (frame.size() < at + 40 || frame[at] >> 4U != 6) return Error{"the IPv6 header is cut off"};
    end = std::min(end, at + 40 + get16(frame, at + 4));
    p.from.family = p.to.family = ir::Family::V6;
    p.protocol = frame[at + 6];
    std::copy_n(frame.begin() + static_cast<std::ptrdiff_t>(at + 8), 16, p.from.bytes.begin());
    std::copy_n(frame.begin() + static_cast<std::ptrdiff_t>(at + 24), 16, p.to.bytes.begin());
    at += 40;
    // Extension headers: hop-by-hop, routing, fragment, authentication, destination options.
    for (int i = 0;; ++i) {
      const bool fragment = p.protocol == 44;
      const bool known =
          p.protocol == 0 || p.protocol == 43 || fragment || p.protocol == 51 || p.protocol == 60;
      if (!known) break;
      if (i == 6) {
        p.too_many_headers = true;
        return std::optional(p);
      }
      if (end < at + 8) return Error{"an IPv6 extension header is cut off"};
      if (fragment && (get16(frame, at + 2) & 0xFFF8U) != 0) {
        p.later_fragment = true;
        p.protocol = frame[at];
        return std::optional(p);
      }
      if (fragment) {
        p.first_fragment = (frame[at + 3] & 1U) != 0;
      } else {
        p.extensions.push_back(p.protocol);
      }
      const std::size_t length = fragment           ? 8
                                 : p.protocol == 51 ? (frame[at + 1] + 2U) * 4U
                                                    : (frame[at + 1] + 1U) * 8U;
      p.protocol = frame[at];
      at += length;
    }
  } else {
    return std::optional<Packet>{};
  }
  if (p.later_fragment) return std::optional(p);
  std::size_t header = 0;
  switch (p.protocol) {
    case ir::kProtoTcp:
      header = 20;
      break;
    case ir::kProtoUdp:
      header = 8;
      break;
    case ir::kProtoSctp:
      header = 12;
      break;
    case ir::kProtoIcmp:
    case ir::kProtoIcmp6:
      header = 8;
      break;
    default:
      return std::optional(p);
  }
  if (end < at + header || end > frame.size()) return Error{"the transport header is cut off"};
  if (is_icmp(p.protocol)) {
    p.icmp_type = frame[at];
    p.icmp_code = frame[at + 1];
    p.icmp_id = static_cast<std::uint16_t>(get16(frame, at + 4));
  } else {
    p.source_port = static_cast<std::uint16_t>(get16(frame, at));
    p.destination_port = static_cast<std::uint16_t>(get16(frame, at + 2));
  }
  if (p.protocol == ir::kProtoTcp) {
    p.sequence = get32(frame, at + 4);
    p.acknowledgement = get32(frame, at + 8);
    p.tcp_flags = frame[at + 13];
    header = (frame[at + 12] >> 4U) * 4U;
    if (header < 20 || end < at + header) return Error{"the TCP header is malformed"};
  }
  p.payload.assign(frame.begin() + static_cast<std::ptrdiff_t>(at + header),
                   frame.begin() + static_cast<std::ptrdiff_t>(end));
  return std::optional(p);
}

std::optional<Packet> quoted_packet(const Packet& packet) {
  const Bytes& ip = packet.payload;
  const bool v4 = packet.protocol == ir::kProtoIcmp;
  // Destination unreachable, time exceeded, parameter problem; ICMPv6 has its errors below 128.
  const bool error =
      v4 ? packet.icmp_type == 3 || packet.icmp_type == 11 || packet.icmp_type == 12
         : packet.protocol == ir::kProtoIcmp6 && packet.icmp_type >= 1 && packet.icmp_type <= 4;
  if (!error || ip.size() < (v4 ? 28U : 48U)) return std::nullopt;
  Packet out;
  std::size_t at = 40;
  const auto address = [&](ir::IpAddress& to, std::size_t from, std::size_t size) {
    to.family = v4 ? ir::Family::V4 : ir::Family::V6;
    std::copy_n(ip.begin() + static_cast<std::ptrdiff_t>(from), size, to.bytes.begin());
  };
  if (v4) {
    at = (ip[0] & 15U) * 4U;
    if (ip[0] >> 4U != 4 || at < 20 || ip.size() < at + 8) return std::nullopt;
    if ((get16(ip, 6) & 0x1FFFU) != 0) return std::nullopt;
    out.protocol = ip[9];
    address(out.from, 12, 4);
    address(out.to, 16, 4);
  } else {
    if (ip[0] >> 4U != 6) return std::nullopt;
    out.protocol = ip[6];
    address(out.from, 8, 16);
    address(out.to, 24, 16);
  }
  if (is_icmp(out.protocol)) {
    out.icmp_type = ip[at];
    out.icmp_id = static_cast<std::uint16_t>(get16(ip, at + 4));
  } else {
    out.source_port = static_cast<std::uint16_t>(get16(ip, at));
    out.destination_port = static_cast<std::uint16_t>(get16(ip, at + 2));
  }
  return out;
}

std::string first_line(const Packet& packet) {
  std::string out;
  for (const std::uint8_t c : packet.payload) {
    if (c == '\r' || c == '\n') break;
    if (c < 0x20 || c > 0x7E) return "";
    out += static_cast<char>(c);
  }
  return out;
}

}  // namespace policyc::bpf
