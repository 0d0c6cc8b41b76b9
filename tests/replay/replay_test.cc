// Replay with a runner that reads the resolved tables, so that connections, the proxy model and the
// comparison are tested without a kernel. Kernel runs are in tests/backend-bpf.
#include "backend-bpf/replay.h"

#include <gtest/gtest.h>

#include "ir/resolve.h"
#include "tests/semantics/world_text.h"

namespace policyc::bpf {
namespace {

class TableRunner : public Runner {
 public:
  explicit TableRunner(const ir::Resolved& resolved) : resolved_(resolved) {}

  Expected<RunResult> run(std::size_t view, std::size_t endpoint, ir::Direction direction,
                          const std::vector<std::uint8_t>& frame, unsigned) override {
    const auto packet = parse_frame(frame);
    const ir::NodeView& v = resolved_.views[view];
    const ir::ResolvedEndpoint& ep = v.endpoints[endpoint];
    const bool ingress = direction == ir::Direction::Ingress;
    const auto& table = ingress ? *ep.ingress : *ep.egress;
    const auto& r = table.lookup(v.identity_of(ingress ? (*packet)->from : (*packet)->to),
                                 (*packet)->protocol, (*packet)->policy_port());
    RunResult out;
    out.outcome = r.verdict == ir::VerdictKind::Allow      ? Outcome::Pass
                  : r.verdict == ir::VerdictKind::Redirect ? Outcome::Redirect
                                                           : Outcome::Drop;
    if (lie && out.outcome == Outcome::Drop) out.outcome = Outcome::Pass;
    if (out.outcome == Outcome::Drop) {
      out.drop_reason = r.reason == ir::Reason::PolicyDeny ? 181 : 133;
    }
    return out;
  }

  bool lie = false;

 private:
  const ir::Resolved& resolved_;
};

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
  TableRunner runner_;
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

}  // namespace
}  // namespace policyc::bpf
