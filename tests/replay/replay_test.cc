// Replay with a runner that reads the resolved tables, so that connections, the proxy model and the
// comparison are tested without a kernel. Kernel runs are in tests/backend-bpf.
#include "backend-bpf/replay.h"

#include <gtest/gtest.h>

#include "ir/resolve.h"
#include "tests/replay/table_runner.h"
#include "tests/semantics/world_text.h"

namespace policyc::bpf {
namespace {

class Replay : public ::testing::Test {
 protected:
  Replay()
      : world_(testing::world_of(
            std::string(testing::kPods) +
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: "
            "red}\nspec:\n  endpointSelector: {matchLabels: {app: b}}\n  ingress:\n  - "
            "fromEndpoints: "
            "[{matchLabels: {app: a}}]\n    toPorts:\n    - ports: [{port: \"80\", protocol: "
            "TCP}]\n      rules: {http: [{method: GET, path: \"/.*\"}]}\n")),
        resolved_(ir::resolve(world_->world)),
        runner_(resolved_) {}

  static Packet tcp(const char* from, const char* to, std::uint16_t port, std::uint8_t flags,
                    std::uint32_t sequence, const std::string& payload = "") {
    Packet p;
    p.from = *ir::parse_ip(from);
    p.to = *ir::parse_ip(to);
    p.source_port = 40000;
    p.destination_port = port;
    p.tcp_flags = flags;
    p.sequence = sequence;
    p.payload.assign(payload.begin(), payload.end());
    return p;
  }

  std::vector<PacketResult> run(const std::vector<Packet>& packets) {
    Fixture f{"t", {}};
    for (const Packet& p : packets) f.packets.push_back({build_frame(p), std::nullopt});
    auto out = replay(world_->world, resolved_, runner_, {f});
    EXPECT_TRUE(out) << out.error();
    return out ? *out : std::vector<PacketResult>{};
  }

  std::unique_ptr<testing::TextWorld> world_;
  ir::Resolved resolved_;
  testing::TableRunner runner_;
};

TEST_F(Replay, GetPassesPostIsRefused) {
  const auto r = run(
      {tcp("10.0.0.1", "10.0.0.2", 80, kSyn, 9),
       tcp("10.0.0.1", "10.0.0.2", 80, kPsh | kAck, 10, "GET /x HTTP/1.1\r\nHost: b\r\n\r\n"),
       tcp("10.0.0.1", "10.0.0.2", 80, kPsh | kAck, 38, "POST /x HTTP/1.1\r\nHost: b\r\n\r\n")});
  ASSERT_EQ(r.size(), 3U);
  EXPECT_EQ(r[0].fate, Fate::Redirect);
  EXPECT_EQ(r[1].fate, Fate::Pass);
  EXPECT_EQ(r[2].fate, Fate::Refused);
  EXPECT_NE(r[2].reason.find("POST /x"), std::string::npos);
  ASSERT_FALSE(r[2].rules.empty());
  EXPECT_EQ(world_->world.policies.policies[r[2].rules[0].policy].ref.name, "p");
  for (const PacketResult& p : r) EXPECT_EQ(p.mismatch, "");
}

TEST_F(Replay, UnlistedPortsAndPeersAreDropped) {
  const auto r =
      run({tcp("10.0.0.1", "10.0.0.2", 81, kSyn, 1), tcp("10.0.0.3", "10.0.0.2", 80, kSyn, 1),
           tcp("203.0.113.7", "10.0.0.2", 80, kSyn, 1)});
  for (const PacketResult& p : r) {
    EXPECT_EQ(p.fate, Fate::Drop);
    EXPECT_EQ(p.mismatch, "");
    EXPECT_FALSE(p.rules.empty());  // the rule that isolates
  }
}

TEST_F(Replay, RepliesPassOnlyForWhatWasLetThrough) {
  Packet reply = tcp("10.0.0.2", "10.0.0.1", 40000, kSyn | kAck, 1);
  reply.source_port = 80;
  const auto with = run({tcp("10.0.0.1", "10.0.0.2", 80, kSyn, 1), reply});
  EXPECT_EQ(with[1].reason, "reply of a connection that was let through");
  const auto without = run({reply});
  EXPECT_EQ(without[0].programs.size(), 2U);
}

TEST_F(Replay, AProgramThatLiesIsCaught) {
  runner_.lie = true;
  const auto r = run({tcp("10.0.0.1", "10.0.0.2", 81, kSyn, 1)});
  EXPECT_NE(r[0].mismatch, "");
}

TEST_F(Replay, ExpectationsAreChecked) {
  Fixture f{"t", {{build_frame(tcp("10.0.0.1", "10.0.0.2", 81, kSyn, 1)), Fate::Pass}}};
  const auto out = replay(world_->world, resolved_, runner_, {f});
  ASSERT_TRUE(out);
  EXPECT_EQ((*out)[0].unmet, "expected pass, got drop");
}

TEST_F(Replay, EchoRepliesAndErrorsBelongToTheirConnection) {
  Packet ping = tcp("10.0.0.2", "10.0.0.1", 0, 0, 0);
  ping.protocol = ir::kProtoIcmp;
  ping.icmp_type = 8;
  ping.icmp_id = 7;
  Packet pong = ping;
  std::swap(pong.from, pong.to);
  pong.icmp_type = 0;
  Packet other = pong;
  other.icmp_id = 8;
  const auto r = run({ping, pong, other});
  EXPECT_EQ(r[0].fate, Fate::Pass);
  EXPECT_TRUE(r[1].reply);
  EXPECT_EQ(r[2].fate, Fate::Drop);  // nobody asked
  // A router says that the packet could not be delivered; it quotes headers and eight bytes.
  const Packet asked = tcp("10.0.0.2", "203.0.113.7", 443, kSyn, 1);
  const auto quote = build_frame(asked);
  Packet error = tcp("198.51.100.1", "10.0.0.2", 0, 0, 0);
  error.protocol = ir::kProtoIcmp;
  error.icmp_type = 3;
  error.icmp_code = 1;
  error.payload.assign(quote.begin() + 14, quote.begin() + 14 + 28);
  EXPECT_EQ(run({asked, error})[1].reason, "error about a connection that was let through");
  EXPECT_EQ(run({error})[0].fate, Fate::Drop);
}

TEST_F(Replay, AMismatchNamesBothSides) {
  runner_.lie = true;
  const auto r = run({tcp("10.0.0.1", "10.0.0.2", 81, kSyn, 1)});
  ASSERT_EQ(r[0].mismatches.size(), 1U);
  const Mismatch& m = r[0].mismatches[0];
  EXPECT_EQ(m.run, 1U);
  EXPECT_NE(m.what.find("ingress program of red/b says pass"), std::string::npos) << m.what;
  EXPECT_NE(m.took.find("k8s:app=a"), std::string::npos) << m.took;
  EXPECT_NE(m.took.find("its table says deny (default-deny)"), std::string::npos) << m.took;
  EXPECT_FALSE(m.took_rules.empty());
  EXPECT_EQ(r[0].programs[1].rules, m.took_rules);
  // The peer is taken for c.
  runner_.lie = false;
  runner_.takes_everybody_for = resolved_.views[0].identity_of(*ir::parse_ip("10.0.0.3"));
  const auto wrong = run({tcp("10.0.0.1", "10.0.0.2", 80, kSyn, 1)});
  ASSERT_EQ(wrong[0].mismatches.size(), 1U);
  EXPECT_NE(wrong[0].mismatches[0].took.find(", which is "), std::string::npos);
}

TEST_F(Replay, ProgressIsTold) {
  Fixture f{"t", {}};
  for (int i = 0; i < 3; ++i) {
    f.packets.push_back({build_frame(tcp("10.0.0.1", "10.0.0.2", 80, kSyn, 1)), std::nullopt});
  }
  std::vector<std::size_t> seen;
  ASSERT_TRUE(replay(world_->world, resolved_, runner_, {f},
                     {1, [&](std::size_t done) { seen.push_back(done); }}));
  EXPECT_EQ(seen, (std::vector<std::size_t>{1, 2, 3}));
}

}  // namespace
}  // namespace policyc::bpf
