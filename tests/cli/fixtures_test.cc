// YAML fixtures become the frames that they describe; mistakes are shown at their place.
#include "cli/fixtures.h"

#include <gtest/gtest.h>

#include "tests/semantics/world_text.h"

namespace policyc::cli {
namespace {

class Fixtures : public ::testing::Test {
 protected:
  Expected<std::vector<bpf::Fixture>> read(const std::string& packets) {
    return read_fixtures("f.yaml", "- name: t\n  packets:\n" + packets, world_->world, "red");
  }
  // The packets of the one fixture, parsed back.
  std::vector<bpf::Packet> packets(const std::string& text) {
    std::vector<bpf::Packet> out;
    const auto fixtures = read(text);
    EXPECT_TRUE(fixtures) << fixtures.error();
    if (!fixtures) return out;
    for (const bpf::ReplayPacket& p : fixtures->at(0).packets) {
      const auto parsed = bpf::parse_frame(p.frame);
      EXPECT_TRUE(parsed && *parsed) << out.size() << (parsed ? "" : parsed.error());
      out.push_back(parsed && *parsed ? **parsed : bpf::Packet{});
    }
    return out;
  }
  std::string error(const std::string& text) {
    const auto fixtures = read(text);
    EXPECT_FALSE(fixtures);
    return fixtures ? "" : fixtures.error();
  }

  std::unique_ptr<testing::TextWorld> world_ = testing::world_of(testing::kPods);
};

TEST_F(Fixtures, RepliesTurnTheConnectionRound) {
  const auto p = packets(
      "  - {from: a, to: b, tcp: {sport: 5000, dport: 80, seq: 10}}\n"
      "  - {reply: 1}\n"
      "  - {reply: 1, tcp: {flags: F}}\n"
      "  - {from: a, to: b, icmp: {id: 9}}\n"
      "  - {reply: 4}\n");
  ASSERT_EQ(p.size(), 5U);
  EXPECT_EQ(p[1].str(), "10.0.0.2:80 > 10.0.0.1:5000 TCP [SA]");
  EXPECT_EQ(p[1].acknowledgement, 11U);
  EXPECT_EQ(p[2].tcp_flags, bpf::kFin);
  EXPECT_EQ(p[4].icmp_type, 0);
  EXPECT_EQ(p[4].icmp_id, 9);
  EXPECT_EQ(p[4].to, p[3].from);
}

TEST_F(Fixtures, ErrorsQuoteTheirPacket) {
  const auto p = packets(
      "  - {from: a, to: 203.0.113.7, udp: {sport: 5000, dport: 53}}\n"
      "  - {from: 198.51.100.1, about: 1, icmp: {type: 11}}\n");
  ASSERT_EQ(p.size(), 2U);
  EXPECT_EQ(p[1].to.str(), "10.0.0.1");
  const auto quoted = bpf::quoted_packet(p[1]);
  ASSERT_TRUE(quoted);
  EXPECT_EQ(quoted->str(), "10.0.0.1:5000 > 203.0.113.7:53 UDP");
}

TEST_F(Fixtures, FramesOfEveryKind) {
  const auto p = packets(
      "  - {from: a, to: b, sctp: {dport: 9899}}\n"
      "  - {from: a, to: b, vlan: 12, tcp: {dport: 80}}\n"
      "  - {from: a, to: b, fragment: first, udp: {dport: 53}}\n"
      "  - {from: a, to: b, fragment: later, udp: {dport: 53}}\n"
      "  - {from: a, to: b, options: 8, tcp: {dport: 80}}\n"
      "  - {from: 2001:db8::1, to: 2001:db8::2, extensions: [hop-by-hop, destination], fragment: "
      "first, tcp: {dport: 80}}\n"
      "  - {from: a, to: b, protocol: 47}\n"
      "  - {hex: \"02:00:00:00:00:01 020000000002 0800 4500001c 00000000 40110000 0a000001 "
      "0a000002 "
      "1388 0050 00080000\"}\n");
  ASSERT_EQ(p.size(), 8U);
  EXPECT_EQ(p[0].protocol, ir::kProtoSctp);
  EXPECT_EQ(p[0].destination_port, 9899);
  EXPECT_TRUE(p[1].vlan);
  EXPECT_EQ(p[1].destination_port, 80);
  EXPECT_TRUE(p[2].first_fragment);
  EXPECT_EQ(p[2].destination_port, 53);
  EXPECT_TRUE(p[3].later_fragment);
  EXPECT_EQ(p[4].option_words, 2);
  EXPECT_EQ(p[4].destination_port, 80);
  EXPECT_EQ(p[5].extensions, (std::vector<ir::Protocol>{0, 60}));
  EXPECT_TRUE(p[5].first_fragment);
  EXPECT_EQ(p[5].destination_port, 80);
  EXPECT_EQ(p[6].protocol, 47);
}

TEST_F(Fixtures, RepeatedPacketsShareTheirExpectation) {
  const auto fixtures = read(
      "  - {from: a, to: b, repeat: 3, tcp: {dport: 80}}\n"
      "  - {from: b, to: a, tcp: {dport: 81}}\n"
      "  expect: [pass, drop]\n");
  ASSERT_TRUE(fixtures) << fixtures.error();
  const auto& p = fixtures->at(0).packets;
  ASSERT_EQ(p.size(), 4U);
  EXPECT_EQ(p[0].frame, p[2].frame);
  EXPECT_EQ(p[2].expect, bpf::Fate::Pass);
  EXPECT_EQ(p[3].expect, bpf::Fate::Drop);
}

TEST_F(Fixtures, MistakesHaveAPlace) {
  const auto at = [&](const std::string& packet) { return error("  - " + packet + "\n"); };
  EXPECT_EQ(at("{reply: 1}"),
            "f.yaml:3:13: `1` is no number of an earlier packet of this fixture (1 to 0)");
  EXPECT_EQ(at("{from: a, to: b, protocol: 47}\n  - {reply: 1, from: a}"),
            "f.yaml:4:22: `from` and `reply` do not go together");
  EXPECT_EQ(at("{hex: 0g}"), "f.yaml:3:11: `0g` is no byte in hexadecimal");
  EXPECT_EQ(at("{hex: \"000\"}"), "f.yaml:3:11: a digit without its second half");
  EXPECT_EQ(at("{hex: \"00\"}"),
            "f.yaml:3:11: 1 bytes: a frame has an Ethernet header of 14 bytes and at most 3712 in "
            "all");
  EXPECT_EQ(at("{hex: \"00\", to: b}"), "f.yaml:3:21: unknown key `to`; known are hex, repeat");
  EXPECT_EQ(at("{from: a, to: b, options: 6, tcp: {dport: 1}}"),
            "f.yaml:3:31: IPv4 options: a multiple of 4 bytes, at most 40");
  EXPECT_EQ(at("{from: a, to: b, extensions: [routing], tcp: {dport: 1}}"),
            "f.yaml:3:34: `extensions` is a list of IPv6 extension headers");
  EXPECT_EQ(at("{from: a, to: b, vlan: 4096, tcp: {dport: 1}}"),
            "f.yaml:3:28: `4096` is no number from 0 to 4095");
  EXPECT_EQ(at("{from: a, to: b, repeat: 0, tcp: {dport: 1}}"),
            "f.yaml:3:5: `repeat: 0` sends nothing");
  EXPECT_EQ(at("{from: a, to: b, icmp: {type: 3}}\n  - {reply: 1}"),
            "f.yaml:4:13: an ICMP packet that is no echo request has no reply");
  EXPECT_EQ(at("nonsense"), "f.yaml:3:5: a packet is a mapping, like {from: a, to: b, tcp: …}");
}

TEST_F(Fixtures, TheFamilyFollowsFromWhatIsWritten) {
  const auto p = packets(
      "  - {from: \"2001:db8::7\", to: \"2001:db8::1\", tcp: {dport: 80}}\n"
      "  - {from: \"2001:db8::7\", to: \"2001:db8::1\", icmpv6: {}}\n"
      "  - {from: a, to: 203.0.113.7, icmp: {}}\n");
  ASSERT_EQ(p.size(), 3U);
  EXPECT_EQ(p[0].to.str(), "2001:db8::1");
  EXPECT_EQ(p[1].icmp_type, 128);
  EXPECT_EQ(p[2].from.str(), "10.0.0.1");
}

TEST_F(Fixtures, FamiliesThatDoNotFitAreRefused) {
  EXPECT_NE(error("  - {from: a, to: b, family: 5, tcp: {dport: 80}}\n").find("4 or 6"),
            std::string::npos);
  EXPECT_NE(error("  - {from: a, to: b, family: 0, tcp: {dport: 80}}\n").find("4 or 6"),
            std::string::npos);
  EXPECT_NE(error("  - {from: a, to: b, family: 4, icmpv6: {}}\n").find("belongs to IPv6"),
            std::string::npos);
  EXPECT_NE(error("  - {from: 10.0.0.1, to: 10.0.0.2, icmpv6: {}}\n").find("no IPv6 address"),
            std::string::npos);
  EXPECT_NE(
      error("  - {from: 10.0.0.1, to: \"2001:db8::1\", tcp: {dport: 80}}\n").find("one IP family"),
      std::string::npos);
  EXPECT_NE(error("  - {from: a, to: 203.0.113.7, udp: {dport: 53}}\n"
                  "  - {from: b, about: 1, icmpv6: {type: 1}}\n")
                .find("ICMPv6 to IPv6"),
            std::string::npos);
}

}  // namespace
}  // namespace policyc::cli
