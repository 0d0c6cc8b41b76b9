// Two bodies of one meaning: our tables, and two lookups in maps of Cilium's layout filled from its
// images, give the same verdict on a million questions.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "backend-bpf/cilium_image.h"
#include "backend-bpf/two_lpm.h"
#include "ir/resolve.h"
#include "tests/backend-bpf/bpf_support.h"
#include "tests/backend-bpf/walk_support.h"
#include "tests/ir/world_gen.h"

namespace policyc {
namespace {

using namespace testing;

// The two-LPM walker of one layout, with its maps.
class TwoLpmWalker {
 public:
  explicit TwoLpmWalker(const char* layout, bool dual) : layout_(*bpf::find_cilium_layout(layout)) {
    bpf::TwoLpmSpec spec;
    spec.layout = layout_;
    if (!dual) spec.world_v4 = spec.world_v6 = 2;
    const auto objects =
        bpf::compile_c(*bpf::find_clang_module(), {bpf::two_lpm_walker_text(spec, kTuples)});
    if (!objects) throw std::runtime_error(objects.error());
    auto loaded = bpf::LoadedObject::load(objects->front(), {});
    if (!loaded) throw std::runtime_error(loaded.error());
    object_ = std::make_unique<bpf::LoadedObject>(std::move(*loaded));
  }
  const bpf::CiliumLayout& layout() const { return layout_; }

  void fill(const char* map, const bpf::CiliumImage& image) {
    auto open = bpf::KernelMap::of_descriptor(object_->map_descriptor(map));
    ASSERT_TRUE(open) << open.error();
    const auto old = open->dump();
    ASSERT_TRUE(old) << old.error();
    ASSERT_TRUE(open->remove(*old));
    const auto put = open->put(image.entries);
    ASSERT_TRUE(put) << put.error();
    const auto now = open->dump();
    ASSERT_TRUE(now);
    ASSERT_TRUE(bpf::compare(image, *now).empty());
  }

  void walk(std::vector<WalkTuple>& tuples) {
    std::string value(bpf::kWalkHeader, '\0');
    value.append(reinterpret_cast<const char*>(tuples.data()), sizeof(WalkTuple) * kTuples);
    ASSERT_TRUE(object_->write({bpf::kWalkMap, value}));
    const auto run = object_->run(bpf::kTwoLpmWalkProgram, std::vector<std::uint8_t>(64), kTuples);
    ASSERT_TRUE(run) << run.error();
    auto map = bpf::KernelMap::of_descriptor(object_->map_descriptor(bpf::kWalkMap));
    ASSERT_TRUE(map);
    const auto back = map->dump();
    ASSERT_TRUE(back) << back.error();
    std::memcpy(tuples.data(), back->front().second.data() + bpf::kWalkHeader,
                sizeof(WalkTuple) * kTuples);
  }

 private:
  const bpf::CiliumLayout& layout_;
  std::unique_ptr<bpf::LoadedObject> object_;
};

bpf::AgentNumbers numbers_of(const ir::Resolved& resolved, const ir::ResolvedEndpoint& endpoint) {
  bpf::AgentNumbers out;
  for (const ir::Identity& i : resolved.identities) out.identities.push_back({i.number, false});
  std::uint32_t port = 10000;
  for (const auto& name : bpf::proxy_names(*endpoint.ingress, ir::Direction::Ingress)) {
    out.proxy_ports[name] = {++port, false};
  }
  for (const auto& name : bpf::proxy_names(*endpoint.egress, ir::Direction::Egress)) {
    out.proxy_ports[name] = {++port, false};
  }
  return out;
}

TEST(TwoBodies, AgreeOnAMillionQuestions) {
  POLICYC_NEEDS_BPF();
  bpf::SizeClass sizes;
  sizes.trie4_blocks = 256;
  sizes.trie6_blocks = 1024;
  sizes.hosts6 = 256;
  sizes.hash4_bits = sizes.hash6_bits = 8;
  sizes.classes = 1024;
  sizes.identity_shift = 10;
  sizes.pages = 512;
  sizes.cells = 65536;
  sizes.records = 256;
  Walker tables(sizes);
  std::vector<std::unique_ptr<TwoLpmWalker>> others;
  for (const bool dual : {false, true}) {
    for (const char* layout : {"1.17", "1.18", "1.19"}) {
      others.push_back(std::make_unique<TwoLpmWalker>(layout, dual));
    }
  }
  std::size_t asked = 0, endpoints = 0, inexpressible = 0;
  const bool ok = rc::check("tables and two lookups agree", [&] {
    const Choice pick;
    const ir::World world = random_world(pick);
    const ir::Resolved resolved = ir::resolve(world);
    TwoLpmWalker& other =
        *others[static_cast<std::size_t>(pick(3)) + (world.settings.dual_stack() ? 3U : 0U)];
    const bpf::CiliumLayout& layout = other.layout();
    const auto lending = layout.precedence ? ir::AuthLending::SameRank : ir::AuthLending::Always;
    Dice random{std::mt19937(static_cast<unsigned>(pick(1 << 30)))};
    for (const ir::NodeView& view : resolved.views) {
      const auto identities = bpf::encode_identities(view, resolved.identities);
      const auto known = ir::agent_identities(resolved, view);
      // One endpoint of each node: all would be five million questions.
      if (view.endpoints.empty()) continue;
      const auto chosen = static_cast<std::size_t>(pick(static_cast<int>(view.endpoints.size())));
      const ir::ResolvedEndpoint& endpoint = view.endpoints[chosen];
      if (!endpoint.error.empty()) continue;
      ++endpoints;
      const auto ingress = ir::fewest_entries(*endpoint.ingress, lending);
      const auto egress = ir::fewest_entries(*endpoint.egress, lending);
      if (!ingress || !egress) {
        ++inexpressible;
        continue;
      }
      const auto policy = bpf::encode_policy(*endpoint.ingress, *endpoint.egress);
      RC_ASSERT(static_cast<bool>(policy));
      const auto classes = bpf::encode_classes({&*policy}, resolved.identities.size());
      RC_ASSERT(bpf::fits(identities, classes, policy->image, sizes));
      const bpf::AgentNumbers numbers = numbers_of(resolved, endpoint);
      other.fill(bpf::kTwoLpmIpcacheMap, bpf::ipcache_image(layout, view, numbers));
      other.fill(bpf::kTwoLpmPolicyMap,
                 bpf::policy_map_image(layout, 16384, endpoint, *ingress, *egress, known, numbers));
      std::vector<WalkTuple> ours;
      for (std::size_t i = 0; i < kTuples; ++i) ours.push_back(some_tuple(view, endpoint, random));
      std::vector<WalkTuple> theirs = ours;
      tables.walk({bpf::kNodeMap, bpf::node_value(identities, classes, sizes)},
                  {bpf::kPolicyMap, bpf::policy_value(policy->image, classes, 0, sizes)}, ours);
      other.walk(theirs);
      for (std::size_t i = 0; i < kTuples; ++i) {
        const WalkTuple& a = ours[i];
        const WalkTuple& b = theirs[i];
        if (a.outcome == b.outcome && a.drop == b.drop) continue;
        RC_FAIL(fmt::format(
            "{} {} protocol {} port {} fragment {}: outcome {} drop {} by tables, "
            "{} {} by two lookups (identity {})",
            ir::IpAddress{a.family == 4 ? ir::Family::V4 : ir::Family::V6, a.address}.str(),
            a.direction == 0 ? "ingress" : "egress", a.protocol, a.port, a.fragment, a.outcome,
            a.drop, b.outcome, b.drop, b.identity));
      }
      asked += ours.size();
    }
  });
  EXPECT_TRUE(ok);
  EXPECT_GE(asked, 1000000U);
  EXPECT_LE(inexpressible * 50, endpoints) << inexpressible << " of " << endpoints;
  RecordProperty("questions", static_cast<int>(asked));
  RecordProperty("inexpressible", static_cast<int>(inexpressible));
  RecordProperty("endpoints", static_cast<int>(endpoints));
}

}  // namespace
}  // namespace policyc
