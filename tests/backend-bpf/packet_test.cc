// Packets: built ones parse back, checksums are right, any bytes are safe.
#include "backend-bpf/packet.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "ir/base/sha256.h"
#include "tests/backend-bpf/table_gen.h"

namespace policyc {
namespace {

using namespace testing;
using Kind = bpf::ParsedPacket::Kind;

RC_GTEST_PROP(Packet, ParsesBack, ()) {
  const bpf::PacketSpec spec = random_packet();
  const std::string frame = bpf::build_packet(spec);
  const bpf::ParsedPacket p = bpf::parse_packet(frame);
  if (spec.fragment_offset != 0) {
    RC_ASSERT(p.kind == Kind::LaterFragment);
    return;
  }
  if (spec.ipv6_extensions.size() > 6) {
    RC_ASSERT(p.kind == Kind::TooManyHeaders);
    return;
  }
  RC_ASSERT(p.kind == Kind::Flow);
  RC_ASSERT(p.source == spec.source);
  RC_ASSERT(p.target == spec.target);
  RC_ASSERT(p.protocol == spec.protocol);
  const bool icmp = spec.protocol == 1 || spec.protocol == 58;
  const bool ports = spec.protocol == 6 || spec.protocol == 17 || spec.protocol == 132;
  RC_ASSERT(p.target_port == (icmp ? spec.icmp_type : ports ? spec.target_port : 0));
  if (ports) RC_ASSERT(p.source_port == spec.source_port);
  if (spec.protocol != 132) RC_ASSERT(p.payload == spec.payload);
}

RC_GTEST_PROP(Packet, AnyBytesAreSafe, ()) {
  std::string frame = bpf::build_packet(random_packet());
  for (std::uint32_t i = below(6); i > 0; --i) {
    frame[below(static_cast<std::uint32_t>(frame.size()))] = static_cast<char>(below(256));
  }
  frame.resize(below(static_cast<std::uint32_t>(frame.size() + 1)));
  const bpf::ParsedPacket p = bpf::parse_packet(frame);
  RC_ASSERT(p.payload.size() <= frame.size());
  if (frame.size() < 14) RC_ASSERT(p.kind == Kind::Malformed);
}

TEST(Packet, ChecksumsOfAKnownFrame) {
  bpf::PacketSpec spec;
  spec.source = *ir::parse_ip("192.0.2.1");
  spec.target = *ir::parse_ip("192.0.2.2");
  spec.protocol = ir::kProtoUdp;
  spec.source_port = 1;
  spec.target_port = 2;
  spec.payload = "ab";
  const std::string frame = bpf::build_packet(spec);
  // By hand: 4500 001e 4000 4011 c000 0201 c000 0202 sum to 0x249... and its complement.
  std::uint32_t sum = 0;
  for (std::size_t i = 14; i < 34; i += 2) {
    sum += static_cast<std::uint32_t>(static_cast<unsigned char>(frame[i])) << 8U |
           static_cast<unsigned char>(frame[i + 1]);
  }
  while (sum >> 16U != 0) sum = (sum & 0xFFFFU) + (sum >> 16U);
  EXPECT_EQ(sum, 0xFFFFU);
  // Pseudo header, UDP header, "ab": the one's complement sum of all is 0xFFFF.
  sum = 0xC000 + 0x0201 + 0xC000 + 0x0202 + 17 + 10;
  for (std::size_t i = 34; i < frame.size(); i += 2) {
    sum += static_cast<std::uint32_t>(static_cast<unsigned char>(frame[i])) << 8U |
           static_cast<unsigned char>(frame[i + 1]);
  }
  while (sum >> 16U != 0) sum = (sum & 0xFFFFU) + (sum >> 16U);
  EXPECT_EQ(sum, 0xFFFFU);
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
