// Entries of Cilium's policy map against the tables they come from, on random worlds.
#include "ir/map_entries.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "ir/entry_cost.h"
#include "ir/resolve.h"
#include "tests/ir/world_gen.h"

namespace policyc::ir {
namespace {

using testing::Choice;

// What the datapath does, in words: the same for everything that it cannot tell apart.
std::string deed(const VerdictRecord& r) {
  if (r.verdict == VerdictKind::Deny) {
    return r.reason == Reason::PolicyDeny ? "denied by a rule" : "denied by default";
  }
  std::string out = r.verdict == VerdictKind::Redirect ? "redirected to " + r.parser : "allowed";
  if (r.verdict == VerdictKind::Redirect) out += " rank " + std::to_string(r.priority);
  if (r.auth && r.auth->type != AuthType::Disabled) {
    out += " after " + std::string(auth_name(r.auth->type));
  }
  return out;
}

// The first verdict that the entries get wrong; empty where there is none. Classes beyond the
// table's are identities that nobody knows: there `before` says what is right.
std::string wrong(const PolicyTable& table, const MapEntries& map, const MapEntries& before,
                  AuthLending lending) {
  for (std::size_t c = 0; c <= table.classes; ++c) {
    for (std::size_t k = 0; k < table.columns(); ++k) {
      const L4Key key = table.column_begin[k];
      const std::string got = deed(map_lookup(map, lending, c, key));
      const std::string want = c < table.classes
                                   ? deed(table.records[table.cells[c * table.columns() + k]])
                                   : deed(map_lookup(before, lending, c, key));
      if (got != want) {
        return fmt::format("class {} {}/{}: {}, not {}", c, key >> 16U, key & 0xFFFFU, got, want);
      }
    }
  }
  return "";
}

void check(const PolicyTable& table, AuthLending lending, std::size_t& refused,
           std::size_t& tables) {
  ++tables;
  auto found = fewest_entries(table, lending);
  if (!found) {
    ++refused;
    return;
  }
  MapEntries agent{table.records, table.wildcard_entries, table.class_entries};
  agent.classes.resize(table.classes);
  const std::string what = wrong(table, *found, agent, lending);
  if (!what.empty()) RC_FAIL(what);
  // Each is the agent's, and each is needed.
  const auto each = [&](auto& list, const auto& of_agent) {
    for (std::size_t i = 0; i < list.size(); ++i) {
      RC_ASSERT(std::find(of_agent.begin(), of_agent.end(), list[i]) != of_agent.end());
      const PolicyTable::Entry taken = list[i];
      list.erase(list.begin() + static_cast<std::ptrdiff_t>(i));
      RC_ASSERT(!wrong(table, *found, agent, lending).empty());
      list.insert(list.begin() + static_cast<std::ptrdiff_t>(i), taken);
    }
  };
  MapEntries& map = *found;
  each(map.wildcard, agent.wildcard);
  for (std::size_t c = 0; c < table.classes; ++c) {
    each(map.classes[c], agent.classes[c]);
  }
}

TEST(MapEntries, TwoLookupsSayWhatTheTableSaysAndNoEntryIsIdle) {
  std::size_t refused = 0, tables = 0;
  const bool ok = rc::check("fewest entries", [&] {
    const World world = testing::random_world(Choice{});
    const Resolved resolved = resolve(world);
    for (const NodeView& view : resolved.views) {
      for (const ResolvedEndpoint& ep : view.endpoints) {
        if (!ep.error.empty()) continue;
        for (const PolicyTable* table : {ep.ingress.get(), ep.egress.get()}) {
          check(*table, AuthLending::SameRank, refused, tables);
          check(*table, AuthLending::Always, refused, tables);
        }
      }
    }
  });
  EXPECT_TRUE(ok);
  RecordProperty("tables", static_cast<int>(tables));
  RecordProperty("refused", static_cast<int>(refused));
  // Authentication lent across ranks is the one thing that can go wrong, and does so rarely.
  EXPECT_LE(refused * 100, tables) << refused << " of " << tables;
}

PolicyTable::Entry entry(Protocol protocol, std::uint16_t port, std::uint8_t length,
                         std::uint16_t record) {
  return {protocol, {port, length}, record};
}

// Three records: allow, redirect, denied by a rule.
MapEntries small_map() {
  MapEntries map;
  map.records.resize(3);
  map.records[0].verdict = VerdictKind::Allow;
  map.records[1].verdict = VerdictKind::Redirect;
  map.records[1].priority = 1;
  map.records[1].parser = "http";
  map.records[2].reason = Reason::PolicyDeny;
  map.classes.resize(1);
  return map;
}

TEST(MapEntries, LookupFollowsTheDatapath) {
  MapEntries map = small_map();
  const L4Key http = l4_key(kProtoTcp, 80);
  const auto says = [&] { return deed(map_lookup(map, AuthLending::SameRank, 0, http)); };
  EXPECT_EQ(says(), "denied by default");
  map.wildcard = {entry(kProtoTcp, 80, 16, 0)};
  EXPECT_EQ(says(), "allowed");
  // The identity's deny is seen first, whatever the wildcard's length.
  map.classes[0] = {entry(kProtoAny, 0, 0, 2)};
  EXPECT_EQ(says(), "denied by a rule");
  // Within one lookup only the longest match is seen: this is why covered entries must go.
  map.classes[0].push_back(entry(kProtoTcp, 80, 16, 0));
  EXPECT_EQ(says(), "allowed");
  // A wildcard deny beats an allow of the identity, and a redirect beats a longer allow.
  map.classes[0] = {entry(kProtoTcp, 80, 16, 0)};
  map.wildcard = {entry(kProtoAny, 0, 0, 2)};
  EXPECT_EQ(says(), "denied by a rule");
  map.wildcard = {entry(kProtoTcp, 0, 0, 1)};
  EXPECT_EQ(says(), "redirected to http rank 1");
}

TEST(MapEntries, CostsNameTheRuleThatFillsTheMap) {
  World world;
  world.settings.ipv6 = false;
  world.inventory.namespaces.push_back({"n", {}, {}});
  for (int i = 0; i < 20; ++i) {
    Pod pod;
    pod.ns = "n";
    pod.name = fmt::format("p{:02}", i);
    pod.labels["app"] = fmt::format("a{:02}", i);
    pod.ips = {*parse_ip(fmt::format("10.0.0.{}", i + 1))};
    world.inventory.pods.push_back(pod);
  }
  world.policies.policies.push_back({});
  Rule rule;
  rule.has_ingress = true;
  rule.subject.requirements = {testing::label_requirement("k8s", "app", Operator::In, {"a00"})};
  for (const auto& [path, peers] :
       {std::pair{"spec.ingress[0]", 2}, std::pair{"spec.ingress[1]", 7}}) {
    RuleItem item;
    item.all_l4 = false;
    Peer peer;
    std::vector<std::string> apps;
    for (int i = 0; i < peers; ++i) apps.push_back(fmt::format("a{:02}", i + 1));
    peer.selector.requirements = {testing::label_requirement("k8s", "app", Operator::In, apps)};
    item.peers.push_back(peer);
    PortRule ports;
    Port port;  // 1000-2000 makes eight blocks
    port.number = 1000;
    port.end = 2000;
    port.text = "1000";
    ports.ports.push_back(port);
    item.ports.push_back(ports);
    item.origin = {0, path, {}};
    rule.items.push_back(item);
  }
  world.policies.rules.push_back(rule);
  const Resolved resolved = resolve(world);
  const NodeView& view = resolved.views.front();
  for (const ResolvedEndpoint& ep : view.endpoints) {
    if (ep.pods != std::vector<std::size_t>{0}) continue;
    // Seven peers in all with eight blocks each, the local host, and egress's one wildcard.
    EXPECT_EQ(agent_entries(ep, agent_identities(resolved, view)), 7U * 8 + 1 + 1);
    const std::vector<RuleCost> costs = entry_costs(world, resolved, view, ep);
    ASSERT_EQ(costs.size(), 2U);
    EXPECT_EQ(costs[0].origin.path, "spec.ingress[1]");
    EXPECT_EQ(costs[0].entries, 56U);
    EXPECT_EQ(costs[1].entries, 16U);
    return;
  }
  FAIL() << "no endpoint";
}

}  // namespace
}  // namespace policyc::ir
