// The program in the kernel says what the resolved tables say.
#include "backend-bpf/program.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "backend-bpf/image.h"
#include "backend-bpf/runner.h"
#include "ir/base/sha256.h"
#include "tests/backend-bpf/bpf_support.h"
#include "tests/backend-bpf/table_gen.h"

namespace policyc {
namespace {

using namespace testing;
using bpf::Outcome;

struct Said {
  Outcome outcome;
  std::uint32_t drop;
  const ir::VerdictRecord* record;
};

// What the tables say of a packet, written without regard to the program.
Said expected(const RandomPacket& random, bool ingress, const ir::NodeView& view,
              const ir::PolicyTable& table) {
  const bpf::Packet& p = random.packet;
  if (p.later_fragment && random.extensions <= 6) return {Outcome::Drop, 157, nullptr};
  if (random.extensions > 6) return {Outcome::Drop, 156, nullptr};
  if (p.protocol == ir::kProtoIcmp && p.icmp_type == 3 && p.icmp_code == 4) {
    return {Outcome::Pass, 0, nullptr};
  }
  const ir::IpAddress& peer = ingress ? p.from : p.to;
  bool known = false;
  for (const auto& [prefix, identity] : view.ipcache) known = known || prefix.contains(peer);
  if (!known) return {Outcome::Drop, 139, nullptr};
  const ir::VerdictRecord& r = table.lookup(view.identity_of(peer), p.protocol, p.policy_port());
  if (r.verdict == ir::VerdictKind::Deny) {
    return {Outcome::Drop, r.reason == ir::Reason::PolicyDeny ? 181U : 133U, &r};
  }
  if (r.auth && r.auth->type != ir::AuthType::Disabled) return {Outcome::Drop, 189, &r};
  return {r.verdict == ir::VerdictKind::Redirect ? Outcome::Redirect : Outcome::Pass, 0, &r};
}

std::vector<std::uint8_t> tcp_frame() {
  bpf::Packet p;
  p.from = *ir::parse_ip("10.0.0.1");
  p.to = *ir::parse_ip("10.0.0.2");
  p.destination_port = 80;
  return bpf::build_frame(p);
}

TEST(Program, SaysWhatTheTablesSay) {
  POLICYC_NEEDS_BPF();
  std::size_t asked = 0;
  const bool ok = rc::check("BPF run = PolicyTable::lookup", [&] {
    const std::size_t identities = 9;
    const ir::NodeView view = random_view(identities);
    const ir::PolicyTable tables[2] = {random_table(identities), random_table(identities)};
    const auto tries = bpf::encode_identities(view, numbered_identities(identities));
    const auto image = bpf::encode_policy(tables[0], tables[1]);
    RC_ASSERT(static_cast<bool>(image));
    const bpf::SizeClass sizes = bpf::size_class(tries, *image);
    const std::uint16_t proxy = below(2) == 0 ? 0 : 15001;
    auto loaded = bpf::LoadedObject::load(
        object_for(sizes), {{bpf::kTriesMap, bpf::tries_value(tries, sizes)},
                            {bpf::kTablesMap, bpf::tables_value(*image, sizes, proxy)}});
    if (!loaded) RC_FAIL(loaded.error());
    for (int i = 0; i < 40; ++i) {
      const RandomPacket p = random_packet();
      for (const bool ingress : {true, false}) {
        const auto run = loaded->run(ingress ? bpf::kIngressProgram : bpf::kEgressProgram, p.frame);
        if (!run) RC_FAIL(run.error());
        const Said want = expected(p, ingress, view, tables[ingress ? 0 : 1]);
        RC_ASSERT(run->cb[bpf::kCbOutcome] == static_cast<std::uint32_t>(want.outcome));
        RC_ASSERT(run->cb[bpf::kCbDrop] == want.drop);
        const bool shot =
            want.outcome == Outcome::Drop || (want.outcome == Outcome::Redirect && proxy == 0);
        RC_ASSERT(run->return_code == (shot ? 2U : 0U));
        const bool marked = want.outcome == Outcome::Redirect && proxy != 0;
        RC_ASSERT(run->mark == (marked ? 0x0200U | 0x993AU << 16U : 0U));
        RC_ASSERT((run->cb[bpf::kCbRecord] != 0) == (want.record != nullptr));
        if (want.record == nullptr) continue;
        ++asked;
        RC_ASSERT(bpf::decode_record(*image, run->cb[bpf::kCbRecord] - 1) == *want.record);
      }
    }
  });
  EXPECT_TRUE(ok);
  EXPECT_GT(asked, 1000U) << "too few packets reached the policy";
}

TEST(Program, OneChangedCellIsSeen) {
  POLICYC_NEEDS_BPF();
  ir::PolicyTable table;
  for (std::uint32_t c = 0; c < ir::kProtocolClasses; ++c) table.column_begin.push_back(c << 16U);
  table.classes = 1;
  table.class_of = {0};
  table.cells.assign(table.columns(), 0);
  table.records.resize(2);
  table.records[1].verdict = ir::VerdictKind::Allow;
  table.records[1].reason = ir::Reason::Rule;
  ir::NodeView view;
  view.ipcache = {{*ir::parse_prefix("0.0.0.0/0"), 0}};
  const auto tries = bpf::encode_identities(view, numbered_identities(1));
  auto image = bpf::encode_policy(table, table);
  ASSERT_TRUE(image);
  const bpf::SizeClass sizes = bpf::size_class(tries, *image);
  auto loaded = bpf::LoadedObject::load(object_for(sizes),
                                        {{bpf::kTriesMap, bpf::tries_value(tries, sizes)},
                                         {bpf::kTablesMap, bpf::tables_value(*image, sizes)}});
  ASSERT_TRUE(loaded) << loaded.error();
  const auto frame = tcp_frame();
  EXPECT_EQ(loaded->run(bpf::kIngressProgram, frame)->cb[bpf::kCbDrop], 133U);
  image->cells[ir::kTcp] = 1;
  ASSERT_TRUE(loaded->write({bpf::kTablesMap, bpf::tables_value(*image, sizes)}));
  EXPECT_EQ(loaded->run(bpf::kIngressProgram, frame)->return_code, 0U);
  EXPECT_EQ(loaded->run(bpf::kEgressProgram, frame)->cb[bpf::kCbDrop], 133U);
}

TEST(Program, FramesDecidedBeforeAnyPolicy) {
  POLICYC_NEEDS_BPF();
  ir::NodeView view;
  view.ipcache = {{*ir::parse_prefix("0.0.0.0/0"), 0}};
  const auto tries = bpf::encode_identities(view, numbered_identities(1));
  auto loaded =
      bpf::LoadedObject::load(object_for({}), {{bpf::kTriesMap, bpf::tries_value(tries, {})}});
  ASSERT_TRUE(loaded) << loaded.error();
  const auto run = [&](std::vector<std::uint8_t> frame) {
    return loaded->run(bpf::kIngressProgram, frame)->cb;
  };
  auto arp = tcp_frame();
  arp[12] = 0x08;
  arp[13] = 0x06;
  EXPECT_EQ(run(arp)[bpf::kCbOutcome], static_cast<std::uint32_t>(Outcome::NotSubject));
  auto tagged = tcp_frame();
  tagged[12] = 0x81;
  tagged[13] = 0x00;
  EXPECT_EQ(run(tagged)[bpf::kCbDrop], 182U);
  auto short_header = tcp_frame();
  short_header[14] = 0x44;
  EXPECT_EQ(run(short_header)[bpf::kCbDrop], 134U);
  auto no_ports = tcp_frame();
  no_ports.resize(14 + 20 + 3);
  EXPECT_EQ(run(no_ports)[bpf::kCbDrop], 134U);
  no_ports.resize(14 + 20 + 4);
  EXPECT_EQ(run(no_ports)[bpf::kCbDrop], 133U);
}

TEST(Program, EmptyTablesDropEverything) {
  POLICYC_NEEDS_BPF();
  auto loaded = bpf::LoadedObject::load(object_for({}), {});
  ASSERT_TRUE(loaded) << loaded.error();
  const auto run = loaded->run(bpf::kIngressProgram, tcp_frame());
  ASSERT_TRUE(run);
  EXPECT_EQ(run->return_code, 2U);
  EXPECT_EQ(run->cb[bpf::kCbDrop], 139U);
}

TEST(Program, ObjectsShareTheTries) {
  POLICYC_NEEDS_BPF();
  ir::NodeView view;
  view.ipcache = {{*ir::parse_prefix("0.0.0.0/0"), 0}};
  const auto tries = bpf::encode_identities(view, numbered_identities(1));
  const bpf::SizeClass sizes;
  auto first = bpf::LoadedObject::load(object_for(sizes),
                                       {{bpf::kTriesMap, bpf::tries_value(tries, sizes)}});
  ASSERT_TRUE(first) << first.error();
  auto second = bpf::LoadedObject::load(object_for(sizes), {}, &*first, {bpf::kTriesMap});
  ASSERT_TRUE(second) << second.error();
  // Not 139: the identity is known through the first object's map.
  EXPECT_EQ(second->run(bpf::kIngressProgram, tcp_frame())->cb[bpf::kCbDrop], 133U);
}

TEST(Program, ThePreludeSeesPacketsFirst) {
  POLICYC_NEEDS_BPF();
  const auto module = bpf::find_clang_module();
  const auto objects = bpf::compile_c(
      *module, {bpf::program_text({bpf::SizeClass{},
                                   "static int policyc_prelude(struct __sk_buff *skb) {\n"
                                   "  return skb->len > 100 ? TC_ACT_OK : PRELUDE_CONTINUE;\n}"})});
  ASSERT_TRUE(objects) << objects.error();
  auto loaded = bpf::LoadedObject::load(objects->front(), {});
  ASSERT_TRUE(loaded) << loaded.error();
  auto frame = tcp_frame();
  EXPECT_EQ(loaded->run(bpf::kIngressProgram, frame)->return_code, 2U);
  frame.resize(200);
  EXPECT_EQ(loaded->run(bpf::kIngressProgram, frame)->return_code, 0U);
}
TEST(Compiler, EqualTextGivesEqualBytes) {
  const auto module = bpf::find_clang_module();
  if (!module) GTEST_SKIP() << "skipped: " << module.error();
  const std::string text = bpf::program_text({bpf::SizeClass{}, {}});
  const auto objects = bpf::compile_c(*module, {text, text});
  ASSERT_TRUE(objects) << objects.error();
  const auto again = bpf::compile_c(*module, {text});
  ASSERT_TRUE(again);
  EXPECT_EQ(sha256_hex((*objects)[0]), sha256_hex((*objects)[1]));
  EXPECT_EQ(sha256_hex((*objects)[0]), sha256_hex((*again)[0]));
  EXPECT_EQ((*objects)[0].substr(1, 3), "ELF");
}

TEST(Compiler, MistakesAreReportedWithTheirLine) {
  const auto module = bpf::find_clang_module();
  if (!module) GTEST_SKIP() << "skipped: " << module.error();
  const auto objects = bpf::compile_c(*module, {"int a;\nint b = c;\n"});
  ASSERT_FALSE(objects);
  EXPECT_NE(objects.error().find("policy.bpf.c:2:9: error: use of undeclared identifier 'c'"),
            std::string::npos)
      << objects.error();
}

TEST(Compiler, AModuleThatIsNoneIsNamed) {
  const auto objects = bpf::compile_c("/dev/null", {"int a;"});
  ASSERT_FALSE(objects);
  EXPECT_NE(objects.error().find("/dev/null cannot be opened"), std::string::npos);
}

}  // namespace
}  // namespace policyc
