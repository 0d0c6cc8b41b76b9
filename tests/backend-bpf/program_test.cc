// The program in the kernel says what the resolved tables say.
#include "backend-bpf/program.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <regex>

#include "backend-bpf/event.h"
#include "backend-bpf/image.h"
#include "backend-bpf/kernel_events.h"
#include "backend-bpf/runner.h"
#include "ir/base/sha256.h"
#include "ir/bpf/object.h"
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
  if (random.extensions > 6) return {Outcome::Drop, 156, nullptr};
  if (p.protocol == ir::kProtoIcmp && p.icmp_type == 3 && p.icmp_code == 4 && !p.later_fragment) {
    return {Outcome::Pass, 0, nullptr};
  }
  const ir::IpAddress& peer = ingress ? p.from : p.to;
  bool known = false;
  for (const auto& [prefix, identity] : view.ipcache) known = known || prefix.contains(peer);
  if (!known) return {Outcome::Drop, 139, nullptr};
  // In a later fragment there is no port to be seen: what holds for port 0 decides.
  const ir::VerdictRecord& r =
      table.lookup(view.identity_of(peer), p.protocol, p.later_fragment ? 0 : p.policy_port());
  if (r.verdict == ir::VerdictKind::Deny) {
    const bool by_rule = r.reason == ir::Reason::PolicyDeny;
    return {Outcome::Drop, by_rule ? 181U : p.later_fragment ? 157U : 133U, &r};
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

// All images of one endpoint, alone on its node.
struct Images {
  bpf::IdentityImage identities;
  bpf::EncodedPolicy policy;
  bpf::ClassImage classes;
  bpf::SizeClass sizes;

  Images(const ir::NodeView& view, std::size_t count, const ir::PolicyTable& ingress,
         const ir::PolicyTable& egress, bool hash = false, bool intervals = false)
      : identities(
            bpf::encode_identities(view, numbered_identities(count), hash ? 0 : bpf::kTrieBlocks)),
        policy(*bpf::encode_policy(ingress, egress, intervals ? 0 : bpf::kCellBudget)),
        classes(bpf::encode_classes({&policy}, count)),
        sizes(bpf::size_class(identities, classes, policy.image)) {
    // Room for any random world: one program instead of one for each size.
    sizes.trie4_blocks = std::max(sizes.trie4_blocks, 256U);
    sizes.trie6_blocks = std::max(sizes.trie6_blocks, 256U);
    if (intervals) sizes.interval_steps = 8;
    EXPECT_TRUE(bpf::fits(identities, classes, policy.image, sizes));
  }

  bpf::MapValue node(const bpf::NodeSettings& settings = {0, true}) const {
    return {bpf::kNodeMap, bpf::node_value(identities, classes, sizes, settings)};
  }
  bpf::MapValue tables() const {
    return {bpf::kPolicyMap, bpf::policy_value(policy.image, classes, 0, sizes)};
  }
};

// One identity everywhere, one class, one column a protocol class: default deny.
ir::PolicyTable closed_table() {
  ir::PolicyTable table;
  for (std::uint32_t c = 0; c < ir::kProtocolClasses; ++c) table.column_begin.push_back(c << 16U);
  table.classes = 1;
  table.class_of = {0};
  table.cells.assign(table.columns(), 0);
  table.records.resize(2);
  table.records[1].verdict = ir::VerdictKind::Allow;
  table.records[1].reason = ir::Reason::Rule;
  return table;
}

ir::NodeView everything_is_one() {
  ir::NodeView view;
  view.ipcache = {{*ir::parse_prefix("0.0.0.0/0"), 0}};
  return view;
}

TEST(Program, SaysWhatTheTablesSay) {
  POLICYC_NEEDS_BPF();
  std::size_t asked = 0;
  const bool ok = rc::check("BPF run = PolicyTable::lookup", [&] {
    const std::size_t identities = 9;
    const ir::NodeView view = random_view(identities);
    const ir::PolicyTable tables[2] = {random_table(identities), random_table(identities)};
    const Images images(view, identities, tables[0], tables[1], below(2) == 0, below(2) == 0);
    const std::uint16_t proxy = below(2) == 0 ? 0 : 15001;
    auto loaded = bpf::LoadedObject::load(object_for(images.sizes),
                                          {images.node({proxy, true}), images.tables()});
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
        RC_ASSERT(bpf::decode_record(images.policy.image, run->cb[bpf::kCbRecord]) == *want.record);
      }
    }
  });
  EXPECT_TRUE(ok);
  EXPECT_GT(asked, 1000U) << "too few packets reached the policy";
}

TEST(Program, TheGenerationSelectsTheHalf) {
  POLICYC_NEEDS_BPF();
  const ir::PolicyTable closed = closed_table();
  ir::PolicyTable open = closed;
  open.cells.assign(open.columns(), 1);
  const Images before(everything_is_one(), 1, closed, closed);
  const Images after(everything_is_one(), 1, open, closed);
  ASSERT_EQ(before.sizes, after.sizes);
  auto loaded = bpf::LoadedObject::load(object_for(before.sizes), {before.node(), before.tables()});
  ASSERT_TRUE(loaded) << loaded.error();
  const auto frame = tcp_frame();
  const auto drop = [&](const char* program) {
    return loaded->run(program, frame)->cb[bpf::kCbDrop];
  };
  EXPECT_EQ(drop(bpf::kIngressProgram), 133U);
  // The new policy in the half that is not in force changes nothing ...
  bpf::MapValue tables = before.tables();
  const std::string half = bpf::policy_half(after.policy.image, after.classes, 0, after.sizes);
  tables.bytes.replace(after.sizes.policy_half_offset(1), half.size(), half);
  ASSERT_TRUE(loaded->write(tables));
  EXPECT_EQ(drop(bpf::kIngressProgram), 133U);
  // ... until the word says so.
  bpf::MapValue node = before.node();
  node.bytes[bpf::kGenerationOffset] = 1;
  ASSERT_TRUE(loaded->write(node));
  EXPECT_EQ(drop(bpf::kIngressProgram), 0U);
  EXPECT_EQ(drop(bpf::kEgressProgram), 133U);
  node.bytes[bpf::kGenerationOffset] = 2;
  ASSERT_TRUE(loaded->write(node));
  EXPECT_EQ(drop(bpf::kIngressProgram), 133U);
}

TEST(Program, WithoutObservationTheVerdictsAreTheSame) {
  POLICYC_NEEDS_BPF();
  const Images images(everything_is_one(), 1, closed_table(), closed_table());
  auto loaded =
      bpf::LoadedObject::load(object_for(images.sizes), {images.node({0, false}), images.tables()});
  ASSERT_TRUE(loaded) << loaded.error();
  const auto run = loaded->run(bpf::kIngressProgram, tcp_frame());
  ASSERT_TRUE(run);
  EXPECT_EQ(run->return_code, 2U);
  EXPECT_EQ(run->cb, (std::array<std::uint32_t, 5>{}));
}

TEST(Program, EveryIdentityItsOwnClass) {
  POLICYC_NEEDS_BPF();
  // 70,000 identities, 9,000 of which the policy tells apart: too many for one leaf.
  const std::uint32_t count = 70000;
  ir::NodeView view;
  ir::PolicyTable t = closed_table();
  t.records.resize(1);
  for (std::uint32_t r = 0; r < 100; ++r) {
    ir::VerdictRecord redirect;
    redirect.verdict = ir::VerdictKind::Redirect;
    redirect.reason = ir::Reason::Rule;
    redirect.priority = static_cast<std::uint8_t>(1 + r);
    t.records.push_back(redirect);
  }
  t.classes = 9000;
  t.class_of.clear();
  t.cells.assign(t.classes * t.columns(), 0);
  for (std::uint32_t c = 0; c < t.classes; ++c) {
    t.cells[c * t.columns() + ir::kTcp] = static_cast<std::uint16_t>(1 + c % 100);
    t.cells[c * t.columns() + ir::kUdp] = static_cast<std::uint16_t>(1 + c / 100);
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    t.class_of.push_back(i % t.classes);
    view.ipcache.emplace_back(ir::host_prefix(ir::IpAddress::from_v4(0x0A000000U + i)), i);
  }
  const Images images(view, count, t, t);
  ASSERT_TRUE(images.classes.discrete());
  ASSERT_EQ(images.sizes.identity_shift, 0U);
  auto loaded = bpf::LoadedObject::load(object_for(images.sizes), {images.node(), images.tables()});
  ASSERT_TRUE(loaded) << loaded.error();
  for (const std::uint32_t i : {0U, 8999U, 9000U, 65535U, 65536U, 69999U}) {
    bpf::Packet p;
    p.from = ir::IpAddress::from_v4(0x0A000000U + i);
    p.to = *ir::parse_ip("10.255.0.1");
    p.destination_port = 80;
    const auto run = loaded->run(bpf::kIngressProgram, bpf::build_frame(p));
    ASSERT_TRUE(run);
    EXPECT_EQ(run->cb[bpf::kCbIdentity], i + 1);
    EXPECT_EQ(bpf::decode_record(images.policy.image, run->cb[bpf::kCbRecord]).priority,
              1 + i % t.classes % 100);
  }
}

TEST(Program, FramesDecidedBeforeAnyPolicy) {
  POLICYC_NEEDS_BPF();
  const Images images(everything_is_one(), 1, closed_table(), closed_table());
  auto loaded = bpf::LoadedObject::load(object_for(images.sizes), {images.node(), images.tables()});
  ASSERT_TRUE(loaded) << loaded.error();
  const auto run = [&](const std::vector<std::uint8_t>& frame) {
    return loaded->run(bpf::kIngressProgram, frame)->cb;
  };
  auto arp = tcp_frame();
  arp[12] = 0x08;
  arp[13] = 0x06;
  EXPECT_EQ(run(arp)[bpf::kCbOutcome], static_cast<std::uint32_t>(Outcome::NotSubject));
  auto short_header = tcp_frame();
  short_header[14] = 0x44;
  EXPECT_EQ(run(short_header)[bpf::kCbDrop], 134U);
  auto no_ports = tcp_frame();
  no_ports.resize(14 + 20 + 3);
  EXPECT_EQ(run(no_ports)[bpf::kCbDrop], 134U);
  no_ports.resize(14 + 20 + 4);
  EXPECT_EQ(run(no_ports)[bpf::kCbDrop], 133U);
}

TEST(Program, VlanTagsAreDroppedUnlessAllowed) {
  POLICYC_NEEDS_BPF();
  const Images images(everything_is_one(), 1, closed_table(), closed_table());
  auto loaded = bpf::LoadedObject::load(object_for(images.sizes), {images.node(), images.tables()});
  ASSERT_TRUE(loaded) << loaded.error();
  const auto tagged = [](int tags) {
    auto frame = tcp_frame();
    for (int i = 0; i < tags; ++i) {
      const std::uint8_t tag[] = {static_cast<std::uint8_t>(i == 0 ? 0x81 : 0x88),
                                  static_cast<std::uint8_t>(i == 0 ? 0x00 : 0xa8), 0, 7};
      frame.insert(frame.begin() + 12, std::begin(tag), std::end(tag));
    }
    return frame;
  };
  const auto drop = [&](int tags) {
    return loaded->run(bpf::kIngressProgram, tagged(tags))->cb[bpf::kCbDrop];
  };
  EXPECT_EQ(drop(0), 133U);
  EXPECT_EQ(drop(1), 182U);
  EXPECT_EQ(drop(2), 182U);
  const auto looking = bpf::compile_c(*bpf::find_clang_module(),
                                      {bpf::program_text({.sizes = images.sizes, .vlan = true})});
  ASSERT_TRUE(looking) << looking.error();
  loaded = bpf::LoadedObject::load(looking->front(), {images.node(), images.tables()});
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(drop(0), 133U);
  EXPECT_EQ(drop(1), 133U);
  EXPECT_EQ(drop(2), 133U);
  EXPECT_EQ(drop(3), 182U);
}

TEST(Program, EmptyTablesDropEverything) {
  POLICYC_NEEDS_BPF();
  const Images images(everything_is_one(), 1, closed_table(), closed_table());
  auto loaded = bpf::LoadedObject::load(object_for(images.sizes), {});
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(loaded->run(bpf::kIngressProgram, tcp_frame())->return_code, 2U);
  // The reason, where it can be seen: the node is there, the endpoint's tables are not.
  ASSERT_TRUE(loaded->write(images.node()));
  EXPECT_EQ(loaded->run(bpf::kIngressProgram, tcp_frame())->cb[bpf::kCbDrop], 203U);
}

TEST(Program, ObjectsShareTheNodeMap) {
  POLICYC_NEEDS_BPF();
  const Images images(everything_is_one(), 1, closed_table(), closed_table());
  auto first = bpf::LoadedObject::load(object_for(images.sizes), {images.node()});
  ASSERT_TRUE(first) << first.error();
  auto second = bpf::LoadedObject::load(object_for(images.sizes), {images.tables()}, &*first,
                                        {bpf::kNodeMap});
  ASSERT_TRUE(second) << second.error();
  // Not 139: the identity is known through the first object's map.
  EXPECT_EQ(second->run(bpf::kIngressProgram, tcp_frame())->cb[bpf::kCbDrop], 133U);
}

TEST(Program, ThePreludeSeesPacketsFirst) {
  POLICYC_NEEDS_BPF();
  const auto module = bpf::find_clang_module();
  const auto objects = bpf::compile_c(
      *module, {bpf::program_text(
                   {.prelude = "static int policyc_prelude(struct __sk_buff *skb) {\n"
                               "  return skb->len > 100 ? TC_ACT_OK : PRELUDE_CONTINUE;\n}"})});
  ASSERT_TRUE(objects) << objects.error();
  auto loaded = bpf::LoadedObject::load(objects->front(), {});
  ASSERT_TRUE(loaded) << loaded.error();
  auto frame = tcp_frame();
  EXPECT_EQ(loaded->run(bpf::kIngressProgram, frame)->return_code, 2U);
  frame.resize(200);
  EXPECT_EQ(loaded->run(bpf::kIngressProgram, frame)->return_code, 0U);
}

// Without --events the instructions are those of a text that has never heard of events.
TEST(Program, EventsCostNothingWhereTheyAreOff) {
  const auto module = bpf::find_clang_module();
  if (!module) GTEST_SKIP() << "skipped: " << module.error();
  for (const bool stateful : {false, true}) {
    const std::string text = bpf::program_text({.stateful = stateful});
    EXPECT_EQ(text.find("ringbuf"), std::string::npos);
    std::string without =
        std::regex_replace(text, std::regex("\n#if[^\n]*EVENTS[^\n]*\n[^#]*#endif"), "\n");
    without = std::regex_replace(without, std::regex("u32 tell = 0;|tell \\|= "), "");
    EXPECT_EQ(without.find("tell |"), std::string::npos);
    EXPECT_EQ(without.find("EVENTS)"), std::string::npos);
    const auto objects = bpf::compile_c(*module, {text, without});
    ASSERT_TRUE(objects) << objects.error();
    const auto one = ebpf::read_object((*objects)[0]), other = ebpf::read_object((*objects)[1]);
    ASSERT_TRUE(one && other);
    ASSERT_EQ(one->programs.size(), 2U);
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_TRUE(one->programs[i].code == other->programs[i].code) << one->programs[i].name;
    }
    EXPECT_EQ(one->map(bpf::kEventsMap), nullptr);
    EXPECT_EQ(one->maps.size(), other->maps.size());
  }
}

TEST(Program, AnEventTellsWhatBecameOfThePacket) {
  POLICYC_NEEDS_BPF();
  const auto module = bpf::find_clang_module();
  const auto objects = bpf::compile_c(
      *module, {bpf::program_text(
                   {.events = true,
                    .prelude = "static int policyc_prelude(struct __sk_buff *skb) {\n"
                               "  if (skb->len > 100) policyc_event(skb, 7);\n"
                               "  return skb->len > 400 ? TC_ACT_OK : PRELUDE_CONTINUE;\n}"})});
  ASSERT_TRUE(objects) << objects.error();
  auto loaded = bpf::LoadedObject::load(objects->front(), {});
  ASSERT_TRUE(loaded) << loaded.error();
  auto ring = bpf::RingReader::open({loaded->map_descriptor(bpf::kEventsMap)});
  ASSERT_TRUE(ring) << ring.error();
  const auto read = [&] {
    std::vector<bpf::Event> out;
    const auto entries = ring->read(0);
    EXPECT_TRUE(entries) << entries.error();
    for (const auto& entry : *entries) {
      const auto event = bpf::read_event(entry.bytes);
      EXPECT_TRUE(event);
      if (event) out.push_back(*event);
    }
    return out;
  };
  auto frame = tcp_frame();
  ASSERT_EQ(loaded->run(bpf::kEgressProgram, frame)->return_code, 2U);
  auto events = read();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].kind, bpf::EventKind::Verdict);
  EXPECT_EQ(events[0].verdict, -bpf::kDropNotReady);
  EXPECT_FALSE(events[0].ingress);
  EXPECT_EQ(events[0].length, frame.size());
  EXPECT_EQ(events[0].packet, frame);
  EXPECT_GT(events[0].time, 0U);
  EXPECT_EQ(events[0].lost, 0U);
  frame.resize(300);
  ASSERT_EQ(loaded->run(bpf::kIngressProgram, frame)->return_code, 2U);
  events = read();
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].kind, bpf::EventKind::Note);
  EXPECT_EQ(events[0].note, 7U);
  EXPECT_TRUE(events[0].ingress);
  EXPECT_EQ(events[0].length, 300U);
  EXPECT_EQ(events[0].packet, std::vector<std::uint8_t>(frame.begin(), frame.begin() + 256));
  EXPECT_EQ(events[1].kind, bpf::EventKind::Verdict);
  frame.resize(500);
  ASSERT_EQ(loaded->run(bpf::kIngressProgram, frame)->return_code, 0U);
  EXPECT_EQ(read().size(), 1U) << "the prelude decided: no verdict";
  // Nobody reads: what does not fit is counted, and the packets fare as ever.
  for (int i = 0; i < 2000; ++i)
    ASSERT_EQ(loaded->run(bpf::kIngressProgram, tcp_frame())->return_code, 2U);
  const std::size_t kept = read().size();
  EXPECT_LT(kept, 2000U);
  EXPECT_GT(kept, 500U);
  ASSERT_TRUE(loaded->run(bpf::kIngressProgram, tcp_frame()));
  events = read();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].lost + kept, 2000U);
}

TEST(Program, APreludeMayNoteWhereNobodyReads) {
  POLICYC_NEEDS_BPF();
  const auto module = bpf::find_clang_module();
  const auto objects = bpf::compile_c(
      *module,
      {bpf::program_text({.prelude = "static int policyc_prelude(struct __sk_buff *skb) {\n"
                                     "  policyc_event(skb, 7);\n"
                                     "  return PRELUDE_CONTINUE;\n}"})});
  ASSERT_TRUE(objects) << objects.error();
  const auto loaded = bpf::LoadedObject::load(objects->front(), {});
  ASSERT_TRUE(loaded) << loaded.error();
  EXPECT_EQ(loaded->map_descriptor(bpf::kEventsMap), -1);
}

TEST(Program, MistakesInAPreludeHaveItsFileAndLine) {
  const auto module = bpf::find_clang_module();
  if (!module) GTEST_SKIP() << "skipped: " << module.error();
  const auto objects = bpf::compile_c(
      *module, {bpf::program_text({.prelude = "int policyc_prelude(struct __sk_buff *skb)\n"
                                              "{ return nowhere; }\n",
                                   .prelude_file = "mine/block.c"})});
  ASSERT_FALSE(objects);
  EXPECT_NE(objects.error().find("mine/block.c:2:10: error: use of undeclared identifier"),
            std::string::npos)
      << objects.error();
  // What stands behind it keeps its own name.
  const auto missing = bpf::compile_c(
      *module, {bpf::program_text({.prelude = "// no function", .prelude_file = "mine/block.c"})});
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().find("policy.bpf.c:"), std::string::npos) << missing.error();
}

TEST(Compiler, EqualTextGivesEqualBytes) {
  const auto module = bpf::find_clang_module();
  if (!module) GTEST_SKIP() << "skipped: " << module.error();
  const std::string text = bpf::program_text({});
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
