// Differences of connections against the reference evaluator, flow by flow.
#include "verifier/connectivity_diff.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "frontend/load.h"
#include "frontend/lower.h"
#include "ir/connectivity.h"
#include "ir/resolve.h"
#include "tests/ir/world_gen.h"

namespace policyc {
namespace {

using testing::Choice;

ir::World without(ir::World world, std::size_t policy) {
  std::erase_if(world.policies.rules, [&](const ir::Rule& r) { return r.policy == policy; });
  world.policies.policies[policy].accepted = false;
  return world;
}

// The id under which a party stands in changes; blocks by their longest prefix.
bool stands_for(const std::vector<std::string>& ids, const ir::World& world, const ir::Party& party,
                const std::vector<ir::Prefix>& blocks) {
  std::string id;
  if (const auto* pod = std::get_if<ir::PodParty>(&party)) {
    const ir::Pod& p = world.inventory.pods[pod->pod];
    id = p.ns + "/" + p.kind + "/" + p.name;
  } else {
    const ir::IpAddress ip = std::get<ir::AddressParty>(party).ip;
    const ir::Prefix* best = nullptr;
    for (const ir::Prefix& b : blocks) {
      if (b.contains(ip) && (best == nullptr || b.length > best->length)) best = &b;
    }
    id = best->str();
    if (best->length == 0) {
      id = !world.settings.dual_stack()  ? "world"
           : ip.family == ir::Family::V4 ? "world-ipv4"
                                         : "world-ipv6";
    }
  }
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

bool covers(const ConnectionChange& c, const ir::Flow& flow) {
  return std::any_of(c.spans.begin(), c.spans.end(), [&](const ir::PortSpan& s) {
    return s.protocol == flow.protocol && s.from <= flow.port && flow.port <= s.to;
  });
}

// L3 and L4 only.
bool passes(const ir::FlowVerdict& v) {
  const auto stops = [](const std::optional<ir::DirectionVerdict>& half) {
    return half && half->verdict == ir::VerdictKind::Deny;
  };
  return !stops(v.egress) && !stops(v.ingress);
}

RC_GTEST_PROP(ConnectivityDiff, IsTheDifferenceOfTheVerdicts, ()) {
  const Choice pick;
  const ir::World base = testing::random_world(pick);
  if (base.policies.policies.empty()) return;
  const ir::World head = without(
      base, static_cast<std::size_t>(pick(static_cast<int>(base.policies.policies.size()))));
  const std::vector<std::string> names = names_of(base, head);
  const ir::Resolved was = ir::resolve(base, {names});
  const ir::Resolved is = ir::resolve(head, {names});
  const ConnectivityDiff diff = compare({&base, &was}, {&head, &is});
  std::vector<ir::Prefix> blocks;
  for (const ir::Resolved* r : {&was, &is}) {
    for (const ir::NodeView& view : r->views) {
      for (const auto& [prefix, identity] : view.ipcache) blocks.push_back(prefix);
    }
  }
  for (int i = 0; i < 20; ++i) {
    ir::Flow flow = testing::random_flow(pick, base);
    const auto judged = [&](const ir::Party& p) {
      if (const auto* pod = std::get_if<ir::PodParty>(&p)) {
        return !base.inventory.pods[pod->pod].host_network;
      }
      if (const auto* address = std::get_if<ir::AddressParty>(&p)) {
        // Addresses outside; pods and nodes are parties of their own.
        const ir::LabelSet& labels = was.identities[was.views[0].identity_of(address->ip)].labels;
        return labels.has("reserved", "world") || labels.has("reserved", "world-ipv4") ||
               labels.has("reserved", "world-ipv6");
      }
      return false;
    };
    if (!judged(flow.from) || !judged(flow.to) || flow.from == flow.to) continue;
    const ir::FlowVerdict before = ir::evaluate(base, flow);
    const ir::FlowVerdict after = ir::evaluate(head, flow);
    if (before.final == ir::VerdictKind::Error || after.final == ir::VerdictKind::Error) continue;
    const bool passed = passes(before);
    const bool passing = passes(after);
    bool opened = false;
    bool closed = false;
    bool changed = false;
    for (const ConnectionChange& c : diff.changes) {
      if (!covers(c, flow) || !stands_for(c.sources, base, flow.from, blocks) ||
          !stands_for(c.targets, base, flow.to, blocks)) {
        continue;
      }
      opened = opened || c.kind == ChangeKind::Opened;
      closed = closed || c.kind == ChangeKind::Closed;
      changed = changed || c.kind == ChangeKind::Changed;
    }
    RC_LOG() << ir::protocol_name(flow.protocol) << "/" << flow.port << " passed " << passed
             << " passing " << passing << " opened " << opened << " closed " << closed << "\n";
    RC_ASSERT(opened == (!passed && passing));
    RC_ASSERT(closed == (passed && !passing));
    // A request that fares differently is a change of conditions.
    flow.l7 = testing::random_request(pick);
    const auto request = [&](const ir::World& world) {
      const ir::FlowVerdict v = ir::evaluate(world, flow);
      return v.final == ir::VerdictKind::Allow;
    };
    if (passed && passing && request(base) != request(head)) RC_ASSERT(changed);
  }
  const auto some = [&](ChangeKind kind) {
    return std::any_of(diff.changes.begin(), diff.changes.end(),
                       [&](const ConnectionChange& c) { return c.kind == kind; });
  };
  RC_CLASSIFY(some(ChangeKind::Opened), "opened");
  RC_CLASSIFY(some(ChangeKind::Closed), "closed");
  RC_CLASSIFY(some(ChangeKind::Changed), "changed");
}

RC_GTEST_PROP(ConnectivityDiff, EqualWorldsDoNotDiffer, ()) {
  const Choice pick;
  const ir::World world = testing::random_world(pick);
  const std::vector<std::string> names = names_of(world, world);
  const ir::Resolved one = ir::resolve(world, {names});
  const ir::Resolved other = ir::resolve(world, {names});
  const ConnectivityDiff diff = compare({&world, &one}, {&world, &other});
  RC_ASSERT(diff.changes.empty());
  RC_ASSERT(diff.isolation.empty());
  RC_ASSERT(diff.added.empty());
  RC_ASSERT(diff.removed.empty());
}

// Worlds with recorded verdicts, each policy taken away in turn: pair by pair, what passes.
TEST(ConnectivityDiff, AgreesPairByPairOnRecordedWorlds) {
  namespace fs = std::filesystem;
  std::size_t pairs = 0;
  std::size_t differing = 0;
  std::vector<fs::path> folders;
  for (const char* set : {"testdata/conformance/worlds", "testdata/conformance/handmade",
                          "../shared/conformance/worlds", "../shared/conformance/handmade"}) {
    const fs::path root = fs::path(POLICYC_SOURCE_DIR) / set;
    if (!fs::exists(root)) continue;
    std::vector<fs::path> found;
    for (const auto& e : fs::directory_iterator(root)) {
      if (fs::exists(e.path() / "cluster.yaml")) found.push_back(e.path());
    }
    std::sort(found.begin(), found.end());
    // All of them take a minute: POLICYC_ALL_PAIRS=1 (docs/testing.md).
    constexpr std::size_t kFew = 12;
    if (std::getenv("POLICYC_ALL_PAIRS") == nullptr && found.size() > kFew) found.resize(kFew);
    folders.insert(folders.end(), found.begin(), found.end());
  }
  ASSERT_FALSE(folders.empty());
  for (const fs::path& folder : folders) {
    frontend::LoadOptions options;
    options.world = folder.string();
    DiagnosticSink sink;
    const frontend::Loaded loaded = frontend::load(options, {}, sink);
    ir::World base;
    base.settings = loaded.settings.value_or(ir::Settings{});
    base.inventory = loaded.inventory;
    base.policies = frontend::lower(loaded, base.settings);
    for (std::size_t policy = 0; policy < base.policies.policies.size(); ++policy) {
      if (!base.policies.policies[policy].accepted) continue;
      const ir::World head = without(base, policy);
      const std::vector<std::string> names = names_of(base, head);
      const ir::Resolved was = ir::resolve(base, {names});
      const ir::Resolved is = ir::resolve(head, {names});
      const ConnectivityDiff diff = compare({&base, &was}, {&head, &is});
      const ir::Connectivity before(base.settings, was);
      const ir::Connectivity after(head.settings, is);
      // Parties of the base are fine enough: the head mentions fewer prefixes.
      const auto then = ir::graph_parties(base, was);
      for (const ir::GraphParty& a : then) {
        for (const ir::GraphParty& b : then) {
          if (a.id == b.id || (!a.subject() && !b.subject())) continue;
          if (!a.unknown.empty() || !b.unknown.empty()) continue;
          const auto uncomputable = [&](const ir::GraphParty& p) {
            return std::any_of(diff.unknown.begin(), diff.unknown.end(),
                               [&](const std::string& u) { return u.rfind(p.id + ":", 0) == 0; });
          };
          if (uncomputable(a) || uncomputable(b)) continue;
          ++pairs;
          // One bit a port of each protocol class.
          using Ports = std::vector<bool>;
          const auto add = [](Ports& to, const std::vector<ir::PortSpan>& spans) {
            for (const ir::PortSpan& s : spans) {
              const ir::L4Key first = ir::l4_key(s.protocol, s.from);
              std::fill_n(to.begin() + static_cast<std::ptrdiff_t>(first), s.to - s.from + 1, true);
            }
          };
          ir::GraphParty a2 = a;
          ir::GraphParty b2 = b;
          // Blocks are looked up by address in the head, whose identities differ.
          for (ir::GraphParty* p : {&a2, &b2}) {
            if (p->kind == "cidr" || p->id.rfind("world", 0) == 0) p->labels = ir::LabelSet();
          }
          const ir::Connection c1 = before.between(a, b);
          const ir::Connection c2 = after.between(a2, b2);
          Ports opened(ir::kL4KeyEnd);
          Ports closed(ir::kL4KeyEnd);
          bool reported = false;
          for (const ConnectionChange& c : diff.changes) {
            const auto has = [](const std::vector<std::string>& ids, const std::string& id) {
              return std::find(ids.begin(), ids.end(), id) != ids.end();
            };
            if (!has(c.sources, a.id) || !has(c.targets, b.id)) continue;
            if (c.kind == ChangeKind::Changed) continue;
            reported = true;
            add(c.kind == ChangeKind::Opened ? opened : closed, c.spans);
          }
          if (c1 == c2 && !reported) continue;
          ++differing;
          Ports p1(ir::kL4KeyEnd);
          Ports p2(ir::kL4KeyEnd);
          add(p1, c1.spans);
          add(p2, c2.spans);
          Ports gained(ir::kL4KeyEnd);
          Ports lost(ir::kL4KeyEnd);
          for (std::size_t i = 0; i < p1.size(); ++i) {
            gained[i] = p2[i] && !p1[i];
            lost[i] = p1[i] && !p2[i];
          }
          ASSERT_TRUE(gained == opened) << folder << " " << a.id << " -> " << b.id;
          ASSERT_TRUE(lost == closed) << folder << " " << a.id << " -> " << b.id;
        }
      }
    }
  }
  EXPECT_GT(pairs, 1000U);
  EXPECT_GT(differing, 100U);
  std::cout << pairs << " pairs, " << differing << " of them differ\n";
}

}  // namespace
}  // namespace policyc
