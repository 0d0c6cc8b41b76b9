// The verdict core in the kernel against the resolved tables and the evaluator: a million questions
// on random worlds, both families, both directions, most of them at the edges of prefixes and
// ports.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "backend-bpf/image.h"
#include "backend-bpf/judge.h"
#include "backend-bpf/runner.h"
#include "ir/resolve.h"
#include "tests/backend-bpf/bpf_support.h"
#include "tests/backend-bpf/walk_support.h"
#include "tests/ir/world_gen.h"

namespace policyc {
namespace {

using namespace testing;
using bpf::Outcome;

constexpr std::size_t kEvaluated = 2730;  // of kTuples, by the reference evaluator

std::string complaint(const WalkTuple& t, const ir::NodeView& view,
                      const ir::ResolvedEndpoint& endpoint, const bpf::PolicyImage& image) {
  const ir::IpAddress ip{t.family == 4 ? ir::Family::V4 : ir::Family::V6, t.address};
  const auto fail = [&](const char* what) {
    return fmt::format("{} {} protocol {} port {} fragment {}: {}; outcome {} drop {}", ip.str(),
                       t.direction == 0 ? "ingress" : "egress", t.protocol, t.port, t.fragment,
                       what, t.outcome, t.drop);
  };
  const bool known = std::any_of(view.ipcache.begin(), view.ipcache.end(),
                                 [&](const auto& entry) { return entry.first.contains(ip); });
  if (!known) {
    const bool right = t.identity == 0 && t.drop == 139 && t.record == 0;
    return right ? "" : fail("nobody has this address");
  }
  const ir::IdentityIndex who = view.identity_of(ip);
  if (t.identity != who + 1) return fail("another identity");
  const ir::PolicyTable& table = t.direction == 0 ? *endpoint.ingress : *endpoint.egress;
  const ir::VerdictRecord& want = table.lookup(who, t.protocol, static_cast<std::uint16_t>(t.port));
  if (t.record == 0 || t.record > image.records.size()) return fail("no record");
  if (bpf::decode_record(image, t.record) != want) return fail("another record");
  std::uint32_t drop = 0;
  if (want.verdict == ir::VerdictKind::Deny) {
    drop = want.reason == ir::Reason::PolicyDeny ? 181 : t.fragment != 0 ? 157 : 133;
  } else if (want.auth && want.auth->type != ir::AuthType::Disabled) {
    drop = 189;
  }
  const Outcome outcome = drop != 0                                   ? Outcome::Drop
                          : want.verdict == ir::VerdictKind::Redirect ? Outcome::Redirect
                                                                      : Outcome::Pass;
  if (t.drop != drop || t.outcome != static_cast<std::uint32_t>(outcome)) {
    return fail("another outcome");
  }
  return "";
}

// The same by the reference evaluator, which knows no tables. A later fragment is asked about as
// port 0, which only rules for all ports match.
std::string evaluated(const WalkTuple& t, const ir::World& world, const bpf::Judge& judge,
                      const ir::Party& subject) {
  const ir::IpAddress ip{t.family == 4 ? ir::Family::V4 : ir::Family::V6, t.address};
  const ir::Direction direction = t.direction == 0 ? ir::Direction::Ingress : ir::Direction::Egress;
  const bool ingress = direction == ir::Direction::Ingress;
  ir::Flow flow;
  flow.from = ingress ? judge.party(ip) : subject;
  flow.to = ingress ? subject : judge.party(ip);
  flow.protocol = t.protocol;
  flow.port = static_cast<std::uint16_t>(t.port);
  const ir::FlowVerdict verdict = ir::evaluate(world, flow);
  const auto& half = ingress ? verdict.ingress : verdict.egress;
  if (!half) return "the evaluator says nothing";
  std::uint32_t drop = 0;
  if (half->verdict == ir::VerdictKind::Deny) {
    drop = half->reason == ir::Reason::PolicyDeny ? 181 : t.fragment != 0 ? 157 : 133;
  } else if (half->auth && half->auth->type != ir::AuthType::Disabled) {
    drop = 189;
  }
  const Outcome outcome = drop != 0                                    ? Outcome::Drop
                          : half->verdict == ir::VerdictKind::Redirect ? Outcome::Redirect
                                                                       : Outcome::Pass;
  if (t.drop == drop && t.outcome == static_cast<std::uint32_t>(outcome)) return "";
  return fmt::format(
      "{} {} protocol {} port {} fragment {}: outcome {} drop {}, the evaluator: {} ({})", ip.str(),
      ir::direction_name(direction), t.protocol, t.port, t.fragment, t.outcome, t.drop,
      ir::verdict_name(half->verdict), ir::reason_name(half->reason));
}

TEST(Walk, AMillionQuestionsHaveOneAnswer) {
  POLICYC_NEEDS_BPF();
  // Sizes that hold any of these worlds, so that two programs do for all.
  bpf::SizeClass dense;
  dense.trie4_blocks = 256;
  dense.trie6_blocks = 1024;
  dense.hosts6 = 256;
  dense.hash4_bits = dense.hash6_bits = 8;
  dense.classes = 1024;
  dense.identity_shift = 10;
  dense.pages = 512;
  dense.cells = 65536;
  dense.records = 256;
  bpf::SizeClass listed = dense;
  listed.pages = listed.cells = 0;
  listed.intervals = 16384;
  listed.interval_steps = 12;
  Walker by_cells(dense), by_intervals(listed);
  std::size_t asked = 0, evaluations = 0;
  const bool ok = rc::check("the core says what the tables say", [&] {
    const Choice pick;
    const ir::World world = random_world(pick);
    const ir::Resolved resolved = ir::resolve(world);
    const bpf::Judge judge(world, resolved);
    Dice random{std::mt19937(static_cast<unsigned>(pick(1 << 30)))};
    for (const ir::NodeView& view : resolved.views) {
      const auto identities =
          bpf::encode_identities(view, resolved.identities, pick.flip() ? 0 : bpf::kTrieBlocks);
      for (const ir::ResolvedEndpoint& endpoint : view.endpoints) {
        if (!endpoint.error.empty()) continue;
        const bool intervals = pick.flip();
        const auto policy = bpf::encode_policy(*endpoint.ingress, *endpoint.egress,
                                               intervals ? 0 : bpf::kCellBudget);
        RC_ASSERT(static_cast<bool>(policy));
        const auto classes = bpf::encode_classes({&*policy}, resolved.identities.size());
        Walker& walker = intervals ? by_intervals : by_cells;
        RC_ASSERT(bpf::fits(identities, classes, policy->image, walker.sizes()));
        std::vector<WalkTuple> tuples;
        for (std::size_t i = 0; i < kTuples; ++i) {
          tuples.push_back(some_tuple(view, endpoint, random));
        }
        walker.walk({bpf::kNodeMap, bpf::node_value(identities, classes, walker.sizes())},
                    {bpf::kPolicyMap, bpf::policy_value(policy->image, classes, 0, walker.sizes())},
                    tuples);
        for (const WalkTuple& t : tuples) {
          const std::string what = complaint(t, view, endpoint, policy->image);
          if (!what.empty()) RC_FAIL(what);
        }
        // Every third one, because the evaluator takes its time.
        if (!endpoint.pods.empty() && endpoint.depends_on.empty()) {
          const ir::Party subject = ir::PodParty{endpoint.pods.front()};
          for (std::size_t i = 0; i < tuples.size(); i += kTuples / kEvaluated) {
            if (tuples[i].identity == 0) continue;  // nobody has this address
            const std::string what = evaluated(tuples[i], world, judge, subject);
            if (!what.empty()) RC_FAIL(what);
            ++evaluations;
          }
        }
        asked += tuples.size();
      }
    }
  });
  EXPECT_TRUE(ok);
  EXPECT_GE(asked, 1000000U);
  EXPECT_GE(evaluations, 1000000U);
  RecordProperty("questions", static_cast<int>(asked));
  RecordProperty("evaluations", static_cast<int>(evaluations));
}

TEST(Walk, OneChangedCellIsSeen) {
  POLICYC_NEEDS_BPF();
  ir::NodeView view;
  view.ipcache = {{*ir::parse_prefix("0.0.0.0/0"), 0}};
  ir::PolicyTable table;
  for (std::uint32_t c = 0; c < ir::kProtocolClasses; ++c) table.column_begin.push_back(c << 16U);
  table.classes = 1;
  table.class_of = {0};
  table.cells = {0, 0, 1, 0, 0, 0};
  table.records.resize(2);
  table.records[1].verdict = ir::VerdictKind::Allow;
  ir::ResolvedEndpoint endpoint;
  endpoint.ingress = endpoint.egress = std::make_shared<const ir::PolicyTable>(table);
  const auto identities = bpf::encode_identities(view, std::vector<ir::Identity>(1));
  auto policy = bpf::encode_policy(table, table);
  ASSERT_TRUE(policy);
  const auto classes = bpf::encode_classes({&*policy}, 1);
  Walker walker(bpf::size_class(identities, classes, policy->image));
  Dice random{std::mt19937(1)};
  std::vector<WalkTuple> tuples;
  for (std::size_t i = 0; i < kTuples; ++i) tuples.push_back(some_tuple(view, endpoint, random));
  const auto wrong = [&] {
    walker.walk({bpf::kNodeMap, bpf::node_value(identities, classes, walker.sizes())},
                {bpf::kPolicyMap, bpf::policy_value(policy->image, classes, 0, walker.sizes())},
                tuples);
    return std::count_if(tuples.begin(), tuples.end(), [&](const WalkTuple& t) {
      return !complaint(t, view, endpoint, policy->image).empty();
    });
  };
  EXPECT_EQ(wrong(), 0);
  policy->image.cells.back() ^= 0x8003;
  EXPECT_GT(wrong(), 0);
}

}  // namespace
}  // namespace policyc
