// Packets: built ones parse back, checksums are right, any bytes are safe.
#include "backend-bpf/packet.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "ir/base/sha256.h"
#include "tests/backend-bpf/table_gen.h"

namespace policyc {
namespace {

using namespace testing;
RC_GTEST_PROP(Packet, ParsesBack, ()) {
  const RandomPacket random = random_packet();
  const bpf::Packet& p = random.packet;
  const auto parsed = bpf::parse_frame(random.frame);
  RC_ASSERT(static_cast<bool>(parsed));
  RC_ASSERT(parsed->has_value());
  const bpf::Packet& back = **parsed;
  RC_ASSERT(back.from == p.from);
  RC_ASSERT(back.to == p.to);
  RC_ASSERT(back.too_many_headers == (random.extensions > 6));
  if (back.too_many_headers) return;
  RC_ASSERT(back.later_fragment == p.later_fragment);
  if (p.later_fragment) return;
  RC_ASSERT(back.protocol == p.protocol);
  const bool icmp = p.protocol == 1 || p.protocol == 58;
  const bool ports = p.protocol == 6 || p.protocol == 17 || p.protocol == 132;
  if (icmp || ports) {
    RC_ASSERT(back.policy_port() == p.policy_port());
    RC_ASSERT(back.payload == p.payload);
  }
  if (ports) RC_ASSERT(back.source_port == p.source_port);
}

RC_GTEST_PROP(Packet, AnyBytesAreSafe, ()) {
  std::vector<std::uint8_t> frame = random_packet().frame;
  for (std::uint32_t i = below(6); i > 0; --i) {
    frame[below(static_cast<std::uint32_t>(frame.size()))] = static_cast<std::uint8_t>(below(256));
  }
  frame.resize(below(static_cast<std::uint32_t>(frame.size() + 1)));
  const auto parsed = bpf::parse_frame(frame);
  if (frame.size() < 14) RC_ASSERT(!parsed);
  if (parsed && *parsed) RC_ASSERT((*parsed)->payload.size() <= frame.size());
}

TEST(Packet, Checksums) {
  bpf::Packet p;
  p.from = *ir::parse_ip("192.0.2.1");
  p.to = *ir::parse_ip("192.0.2.2");
  p.protocol = ir::kProtoUdp;
  p.source_port = 1;
  p.destination_port = 2;
  p.payload = {'a', 'b'};
  const auto frame = bpf::build_frame(p);
  // RFC 1071: header and checksum together sum to 0xFFFF.
  const auto sum = [&](std::size_t begin, std::size_t end, std::uint32_t start) {
    for (std::size_t i = begin; i < end; i += 2) {
      start += std::uint32_t{frame[i]} << 8U | frame[i + 1];
    }
    while (start >> 16U != 0) start = (start & 0xFFFFU) + (start >> 16U);
    return start;
  };
  EXPECT_EQ(sum(14, 34, 0), 0xFFFFU);
  // Pseudo header by hand: addresses, protocol 17, length 10.
  EXPECT_EQ(sum(34, frame.size(), 0xC000 + 0x0201 + 0xC000 + 0x0202 + 17 + 10), 0xFFFFU);
}

// FIPS 180-2 appendix B.
TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

}  // namespace
}  // namespace policyc
