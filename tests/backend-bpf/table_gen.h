// Random resolved policies and packets: few classes, few columns, nested prefixes.
#pragma once

#include <fmt/format.h>
#include <rapidcheck.h>

#include <algorithm>
#include <array>
#include <memory>
#include <set>

#include "backend-bpf/packet.h"
#include "ir/resolved.h"

namespace policyc::testing {

inline std::uint32_t below(std::uint32_t n) {
  return *rc::gen::inRange<std::uint32_t>(0, n);
}

inline ir::VerdictRecord random_record() {
  ir::VerdictRecord r;
  switch (below(5)) {
    case 0:
      r.reason = ir::Reason::PolicyDeny;
      break;
    case 1:
      break;  // default deny
    case 2:
      r.verdict = ir::VerdictKind::Redirect;
      r.reason = ir::Reason::Rule;
      r.priority = below(2) == 0 ? 1 : 200;
      r.parser = below(2) == 0 ? "http" : "dns";
      break;
    default:
      r.verdict = ir::VerdictKind::Allow;
      r.reason = below(2) == 0 ? ir::Reason::Rule : ir::Reason::NoPolicy;
      break;
  }
  if (r.verdict != ir::VerdictKind::Deny && below(5) == 0) {
    r.auth = ir::Auth{static_cast<ir::AuthType>(below(3)), below(2) == 0};
  }
  return r;
}

inline const std::vector<std::uint16_t>& interesting_ports() {
  static const std::vector<std::uint16_t> kPorts = {
      0,   1,   3,    4,    8,    53,   63,   64,    79,    80,    81,   127,
      128, 443, 1023, 1024, 8080, 8191, 8192, 32767, 32768, 65534, 65535};
  return kPorts;
}

inline std::uint16_t random_port_number() {
  const auto& ports = interesting_ports();
  return ports[below(static_cast<std::uint32_t>(ports.size()))];
}

inline ir::PolicyTable random_table(std::size_t identities) {
  ir::PolicyTable t;
  t.enforced = below(4) != 0;
  std::set<ir::L4Key> begins;
  for (std::uint32_t c = 0; c < ir::kProtocolClasses; ++c) begins.insert(c << 16U);
  for (std::uint32_t i = below(12); i > 0; --i) {
    begins.insert((1 + below(ir::kProtocolClasses - 1)) << 16U | random_port_number());
  }
  t.column_begin.assign(begins.begin(), begins.end());
  t.classes = 1 + below(5);
  for (std::size_t i = 0; i < identities; ++i) t.class_of.push_back(below(t.classes));
  for (std::uint32_t i = 1 + below(5); i > 0; --i) {
    ir::VerdictRecord r = random_record();
    if (std::find(t.records.begin(), t.records.end(), r) == t.records.end()) {
      t.records.push_back(std::move(r));
    }
  }
  for (std::size_t i = 0; i < t.classes * t.columns(); ++i) {
    t.cells.push_back(
        static_cast<std::uint16_t>(below(static_cast<std::uint32_t>(t.records.size()))));
  }
  return t;
}

inline ir::IpAddress random_address(ir::Family family) {
  static const char* const kV4[] = {"10.0.0.0", "10.0.0.1",    "10.0.1.255", "10.1.0.0",
                                    "10.1.2.3", "203.0.113.7", "0.0.0.0",    "255.255.255.255"};
  static const char* const kV6[] = {
      "::",        "2001:db8::1",   "2001:db8::1:0", "2001:db8:1::",
      "fd00::a:b", "fd00:0:0:1::1", "ff02::1",       "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"};
  return *ir::parse_ip(family == ir::Family::V4 ? kV4[below(8)] : kV6[below(8)]);
}

inline ir::NodeView random_view(std::size_t identities) {
  ir::NodeView view;
  view.node = "-";
  const auto identity = [&] { return below(static_cast<std::uint32_t>(identities)); };
  std::set<ir::Prefix> seen;
  for (const ir::Family family : {ir::Family::V4, ir::Family::V6}) {
    ir::IpAddress zero;
    zero.family = family;
    // A family that is not in use has no default route to an identity.
    if (below(4) != 0) seen.insert(ir::make_prefix(zero, 0));
    for (std::uint32_t i = below(10); i > 0; --i) {
      const ir::IpAddress ip = random_address(family);
      static constexpr int kV4[] = {1, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32};
      static constexpr int kV6[] = {1, 8, 9, 32, 47, 48, 64, 65, 112, 120, 127, 128};
      seen.insert(ir::make_prefix(ip, family == ir::Family::V4 ? kV4[below(12)] : kV6[below(12)]));
    }
  }
  for (const ir::Prefix& p : seen) view.ipcache.emplace_back(p, identity());
  return view;
}

inline std::vector<ir::Identity> numbered_identities(std::size_t count) {
  std::vector<ir::Identity> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i].number = static_cast<std::uint32_t>(256 + i);
  return out;
}

// A packet and its bytes, with IPv4 options or IPv6 extension headers put in between.
struct RandomPacket {
  bpf::Packet packet;
  std::size_t extensions = 0;  // IPv6 extension headers
  std::vector<std::uint8_t> frame;
};

inline RandomPacket random_packet() {
  RandomPacket out;
  bpf::Packet& p = out.packet;
  const auto family = below(2) == 0 ? ir::Family::V4 : ir::Family::V6;
  p.from = random_address(family);
  p.to = random_address(family);
  static constexpr ir::Protocol kProtocols[] = {6, 6, 17, 132, 1, 58, 47, 2, 59};
  p.protocol = kProtocols[below(9)];
  p.source_port = random_port_number();
  p.destination_port = random_port_number();
  p.icmp_type = static_cast<std::uint8_t>(below(2) == 0 ? below(5) : 128 + below(9));
  p.icmp_code = static_cast<std::uint8_t>(below(6));
  p.later_fragment = below(12) == 0;
  p.payload.assign(below(40), 'x');
  out.frame = bpf::build_frame(p);
  constexpr std::size_t kIp = 14;
  if (family == ir::Family::V4 && below(3) == 0) {
    const std::uint32_t words = 1 + below(10);
    out.frame.insert(out.frame.begin() + kIp + 20, 4 * words, 1);
    out.frame[kIp] = static_cast<std::uint8_t>(0x45U + words);
    const std::size_t length = out.frame.size() - kIp;
    out.frame[kIp + 2] = static_cast<std::uint8_t>(length >> 8U);
    out.frame[kIp + 3] = static_cast<std::uint8_t>(length);
  }
  if (family == ir::Family::V6 && below(3) == 0) {
    for (std::uint32_t i = below(8); i > 0; --i) {
      // Hop-by-hop, routing, first fragment, authentication, destination options; each put in
      // front.
      const std::uint8_t kind = std::array<std::uint8_t, 5>{0, 43, 44, 51, 60}[below(5)];
      const std::uint32_t units = kind == 44 ? 0 : below(4);
      std::vector<std::uint8_t> header(kind == 51 ? 4 * (units + 2) : 8 * (units + 1), 0);
      header[0] = out.frame[kIp + 6];
      if (kind != 44) header[1] = static_cast<std::uint8_t>(units);
      out.frame[kIp + 6] = kind;
      out.frame.insert(out.frame.begin() + kIp + 40, header.begin(), header.end());
      ++out.extensions;
    }
    const std::size_t length = out.frame.size() - kIp - 40;
    out.frame[kIp + 4] = static_cast<std::uint8_t>(length >> 8U);
    out.frame[kIp + 5] = static_cast<std::uint8_t>(length);
    if (p.later_fragment) ++out.extensions;
  }
  return out;
}

}  // namespace policyc::testing
