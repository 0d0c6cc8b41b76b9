// The resolved policy against the reference evaluator, on random worlds.
#include "ir/resolve.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

#include "ir/connectivity.h"
#include "ir/l7_match.h"
#include "tests/ir/world_gen.h"

namespace policyc::ir {
namespace {

using testing::Choice;

const ResolvedEndpoint* find_endpoint(const World& world, const Resolved& resolved,
                                      const Party& party, const NodeView** view_out) {
  for (const NodeView& view : resolved.views) {
    for (const ResolvedEndpoint& ep : view.endpoints) {
      bool mine = false;
      if (const auto* pod = std::get_if<PodParty>(&party)) {
        mine = std::find(ep.pods.begin(), ep.pods.end(), pod->pod) != ep.pods.end();
      } else if (const auto* node = std::get_if<NodeParty>(&party)) {
        mine = ep.host && view.node == world.inventory.nodes[node->node].name;
      }
      if (mine) {
        *view_out = &view;
        return &ep;
      }
    }
  }
  return nullptr;
}

IpAddress address_of(const World& world, const Party& party) {
  if (const auto* pod = std::get_if<PodParty>(&party)) return world.inventory.pods[pod->pod].ips[0];
  if (const auto* node = std::get_if<NodeParty>(&party)) {
    return world.inventory.nodes[node->node].addresses[0];
  }
  return std::get<AddressParty>(party).ip;
}

void compare(const World& world, const Resolved& resolved, const Flow& flow, Direction direction,
             const std::optional<DirectionVerdict>& want) {
  const bool ingress = direction == Direction::Ingress;
  const NodeView* view = nullptr;
  const ResolvedEndpoint* ep = find_endpoint(world, resolved, ingress ? flow.to : flow.from, &view);
  RC_ASSERT((ep != nullptr) == want.has_value());
  if (ep == nullptr) return;
  if (want->verdict == VerdictKind::Error) {
    RC_ASSERT(!ep->error.empty());
    return;
  }
  RC_ASSERT(ep->error.empty());
  const Party& peer = ingress ? flow.from : flow.to;
  const IdentityIndex identity = view->identity_of(address_of(world, peer));
  const PolicyTable& table = ingress ? *ep->ingress : *ep->egress;
  const VerdictRecord& got = table.lookup(identity, flow.protocol, flow.port);
  RC_LOG() << direction_name(direction) << " peer " << resolved.identities[identity].labels.str()
           << " " << protocol_name(flow.protocol) << "/" << flow.port << ": table "
           << verdict_name(got.verdict) << " " << reason_name(got.reason) << ", evaluator "
           << verdict_name(want->verdict) << " " << reason_name(want->reason) << "\n";
  RC_ASSERT(got.verdict == want->verdict);
  RC_ASSERT(got.reason == want->reason);
  RC_ASSERT(got.parser == want->parser);
  RC_ASSERT(got.auth == want->auth);
  const std::size_t cell =
      table.class_of[identity] * table.columns() + table.column(l4_key(flow.protocol, flow.port));
  const ProxyFilter* filter = table.filter(cell);
  RC_ASSERT((filter != nullptr) == (got.verdict == VerdictKind::Redirect));
  if (filter == nullptr || !want->l7 || want->l7->verdict == L7VerdictKind::Unknown) return;
  RC_LOG() << "the proxy's rules:\n" << filter->text();
  RC_ASSERT(proxy_passes(world.settings.release(), *filter, flow.l7) ==
            (want->l7->verdict == L7VerdictKind::Allow));
}

// What the random worlds contain: rapidcheck prints how often, when asked for verbose progress.
void classify(const World& world) {
  std::set<std::string> features;
  const auto note = [&](bool there, const char* name) {
    if (there) features.insert(name);
  };
  note(world.settings.host_firewall, "host firewall");
  note(world.settings.cidr_match_nodes, "cidr match nodes");
  note(!world.settings.ipv6, "single stack");
  note(world.settings.enforcement == Settings::Enforcement::Always, "enforcement always");
  for (const Rule& rule : world.policies.rules) {
    note(rule.host_subject, "host policy");
    note(!rule.default_deny_ingress || !rule.default_deny_egress, "no default deny");
    for (const RuleItem& item : rule.items) {
      note(item.deny, "deny");
      note(item.any_peer, "any peer");
      note(item.all_l4, "all protocols");
      note(item.auth.has_value(), "authentication");
      note(!item.requires_.empty(), "requires");
      for (const Peer& peer : item.peers) {
        note(peer.kind == PeerKind::Endpoint && peer.selector.wildcard(), "wildcard peer");
        note(peer.kind == PeerKind::Entity, "entity");
        note(peer.kind == PeerKind::Cidr, "prefix");
        note(peer.kind == PeerKind::CidrGroup, "prefix group");
        note(peer.kind == PeerKind::Fqdn, "name");
      }
      for (const PortRule& pr : item.ports) {
        note(!pr.server_names.empty(), "SNI");
        note(pr.listener.has_value(), "listener");
        note(pr.l7.parser == Parser::Http, "HTTP");
        note(pr.l7.parser == Parser::Dns, "DNS");
        note(pr.l7.parser == Parser::Kafka, "Kafka");
        for (const Port& port : pr.ports) {
          note(port.end != 0, "port range");
          note(!port.name.empty(), "named port");
          note(port.protocol == kProtoIcmp || port.protocol == kProtoIcmp6, "ICMP");
          note(port.protocol == kProtoSctp, "SCTP");
        }
      }
    }
  }
  for (const std::string& f : features) RC_CLASSIFY(true, f);
}

RC_GTEST_PROP(Resolve, AgreesWithTheEvaluator, ()) {
  const Choice pick;
  const World world = testing::random_world(pick);
  classify(world);
  const Resolved resolved = resolve(world);
  for (int i = 0; i < 20; ++i) {
    Flow flow = testing::random_flow(pick, world);
    flow.l7 = testing::random_request(pick);
    const FlowVerdict verdict = evaluate(world, flow);
    compare(world, resolved, flow, Direction::Egress, verdict.egress);
    compare(world, resolved, flow, Direction::Ingress, verdict.ingress);
  }
}

// The two-lookup algorithm of the datapath over the entries gives what the table gives.
RC_GTEST_PROP(Resolve, MapEntriesMeanTheSame, ()) {
  const Choice pick;
  const World world = testing::random_world(pick);
  const Resolved resolved = resolve(world);
  for (const NodeView& view : resolved.views) {
    for (const ResolvedEndpoint& ep : view.endpoints) {
      if (!ep.error.empty()) continue;
      for (const auto& table : {ep.ingress, ep.egress}) {
        const auto lpm = [&](const std::vector<PolicyTable::Entry>& entries, Protocol protocol,
                             std::uint16_t port) {
          const PolicyTable::Entry* best = nullptr;
          const auto length = [](const PolicyTable::Entry& e) {
            return e.protocol == kProtoAny ? 0 : 8 + e.block.length;
          };
          for (const auto& e : entries) {
            if (e.protocol != kProtoAny &&
                (e.protocol != protocol || port < e.block.port || port > e.block.last())) {
              continue;
            }
            if (best == nullptr || length(e) > length(*best)) best = &e;
          }
          return best == nullptr ? std::pair<const VerdictRecord*, int>{nullptr, -1}
                                 : std::pair<const VerdictRecord*, int>{
                                       &table->records[best->record], length(*best)};
        };
        for (IdentityIndex i = 0; i < resolved.identities.size(); ++i) {
          for (const L4Key key : table->column_begin) {
            const auto c = static_cast<ProtocolClass>(key >> 16U);
            const Protocol protocol = c == kOther ? Protocol{255} : class_protocol(c);
            const auto port = static_cast<std::uint16_t>(key);
            const VerdictRecord& want = table->lookup(i, protocol, port);
            const auto [l3, n3] = lpm(table->class_entries[table->class_of[i]], protocol, port);
            const auto [l4, n4] = lpm(table->wildcard_entries, protocol, port);
            const VerdictRecord* got = l3;
            const auto denies = [](const VerdictRecord* r) {
              return r != nullptr && r->verdict == VerdictKind::Deny;
            };
            if (!denies(l3) && l4 != nullptr &&
                (denies(l4) || l3 == nullptr || l4->priority > l3->priority ||
                 (l4->priority == l3->priority && n4 > n3))) {
              got = l4;
            }
            if (got == nullptr) {
              RC_ASSERT(want.verdict == VerdictKind::Deny);
              RC_ASSERT(want.reason == Reason::DefaultDeny);
            } else {
              RC_ASSERT(got->verdict == want.verdict);
              RC_ASSERT(got->priority == want.priority);
            }
          }
        }
      }
    }
  }
}

TEST(Resolve, NumbersArePodsFrom256InLabelOrder) {
  World world;
  world.inventory.pods = {
      {"n", "b", "Pod", {{"app", "b"}}, "", "", false, {}, false, {}, {}, "", ""},
      {"n", "a", "Pod", {{"app", "a"}}, "", "", false, {}, false, {}, {}, "", ""}};
  const Resolved resolved = resolve(world);
  const auto number = [&](const std::string& app) {
    for (const Identity& i : resolved.identities) {
      const std::string* value = i.labels.find("k8s", "app");
      if (value != nullptr && *value == app) return i.number;
    }
    return std::uint32_t{0};
  };
  EXPECT_EQ(number("a"), 256U);
  EXPECT_EQ(number("b"), 257U);
}

// Lists and graphs: what two parties may do is what the evaluator says of each flow, nodes under
// the host firewall included.
RC_GTEST_PROP(Connections, SayWhatTheEvaluatorSays, ()) {
  const Choice pick;
  const World world = testing::random_world(pick);
  const Resolved resolved = resolve(world);
  const Connectivity connectivity(world.settings, resolved);
  const auto party = [](const GraphParty& p) -> Party {
    if (p.pod != SIZE_MAX) return PodParty{p.pod};
    if (p.node != SIZE_MAX) return NodeParty{p.node};
    if (p.kind == "entity" && !p.id.starts_with("world")) return EntityParty{p.id};
    return AddressParty{p.address};
  };
  const auto parties = graph_parties(world, resolved);
  std::size_t nodes = 0;
  for (const GraphParty& a : parties) {
    if (a.kind == "node") ++nodes;
    for (const GraphParty& b : parties) {
      if (a.id == b.id || (!a.subject() && !b.subject())) continue;
      if (!a.unknown.empty() || !b.unknown.empty()) continue;
      RC_ASSERT(Connectivity::open_question(connectivity.place(a), connectivity.place(b)).empty());
      const Connection c = connectivity.between(a, b);
      for (int i = 0; i < 6; ++i) {
        Flow flow = testing::random_flow(pick, world);
        flow.from = party(a);
        flow.to = party(b);
        const VerdictKind said = evaluate(world, flow).final;
        const bool listed = std::any_of(c.spans.begin(), c.spans.end(), [&](const PortSpan& s) {
          return s.protocol == flow.protocol && s.from <= flow.port && flow.port <= s.to;
        });
        RC_LOG() << a.id << " to " << b.id << " " << protocol_name(flow.protocol) << "/"
                 << flow.port << ": " << verdict_name(said) << "\n";
        RC_ASSERT(listed == (said != VerdictKind::Deny));
      }
    }
  }
  RC_ASSERT((nodes == 2) == world.settings.host_firewall);
  RC_TAG(world.settings.host_firewall ? "host firewall" : "no host firewall");
}

// A pod of which nobody told the node, under the host firewall: whether a node is its own host is
// open, and not taken for a no.
TEST(Connections, OfPodsWithoutANodeWithNodesAreOpen) {
  World world;
  world.settings.host_firewall = true;
  for (int i = 0; i < 2; ++i) {
    Node node;
    node.name = fmt::format("node-{}", i);
    node.addresses = {*parse_ip(fmt::format("192.168.10.{}", i + 1))};
    world.inventory.nodes.push_back(node);
    Pod pod;
    pod.ns = "m";
    pod.name = fmt::format("p{}", i);
    if (i == 0) pod.node = "node-0";
    pod.ips = {*parse_ip(fmt::format("10.0.0.{}", i + 1))};
    world.inventory.pods.push_back(pod);
  }
  const Resolved resolved = resolve(world);
  const Connectivity connectivity(world.settings, resolved);
  std::vector<std::string> open;
  const auto parties = graph_parties(world, resolved);
  for (const GraphParty& a : parties) {
    for (const GraphParty& b : parties) {
      const auto why = Connectivity::open_question(connectivity.place(a), connectivity.place(b));
      if (!why.empty()) open.push_back(a.id + " " + b.id);
    }
  }
  std::sort(open.begin(), open.end());
  EXPECT_EQ(open, (std::vector<std::string>{"m/Pod/p1 node/node-0", "m/Pod/p1 node/node-1",
                                            "node/node-0 m/Pod/p1", "node/node-1 m/Pod/p1"}));
}

// A name that only the pods of one node ask for: to the other node the address behind it is any
// other address.
TEST(Connections, OfAddressesBehindNamesAreToldByNode) {
  World world;
  world.inventory.fqdn.emplace();
  const IpAddress behind = *parse_ip("198.51.7.7");
  (*world.inventory.fqdn)["api.example.com"] = {behind};
  for (int i = 0; i < 2; ++i) {
    Node node;
    node.name = fmt::format("node-{}", i);
    node.addresses = {*parse_ip(fmt::format("192.168.10.{}", i + 1))};
    world.inventory.nodes.push_back(node);
    Pod pod;
    pod.ns = "m";
    pod.name = fmt::format("p{}", i);
    pod.node = node.name;
    pod.labels["app"] = i == 0 ? "server" : "client";
    pod.ips = {*parse_ip(fmt::format("10.0.0.{}", i + 1))};
    world.inventory.pods.push_back(pod);
  }
  const auto with = [](const char* source, const char* key, Operator op,
                       std::vector<std::string> values) {
    return testing::label_requirement(source, key, op, std::move(values));
  };
  const auto add = [&](const char* app, RuleItem item) {
    Rule rule;
    rule.policy = world.policies.policies.size();
    rule.subject.requirements = {with("k8s", "app", Operator::In, {app})};
    const bool in = item.direction == Direction::Ingress;
    (in ? rule.has_ingress : rule.has_egress) = true;
    (in ? rule.default_deny_ingress : rule.default_deny_egress) = true;
    rule.items = {std::move(item)};
    world.policies.policies.emplace_back().ref = {"CiliumClusterwideNetworkPolicy", "", app};
    world.policies.rules.push_back(std::move(rule));
  };
  // The client may talk to the name; the server lets in what has not got it.
  RuleItem to_name;
  to_name.direction = Direction::Egress;
  to_name.all_l4 = true;
  Peer name;
  name.kind = PeerKind::Fqdn;
  name.text = "api.example.com";
  name.selector.requirements = {with("fqdn", "api.example.com", Operator::Exists, {})};
  to_name.peers = {name};
  add("client", to_name);
  RuleItem from_world;
  from_world.direction = Direction::Ingress;
  from_world.all_l4 = true;
  Peer outside;
  outside.kind = PeerKind::Entity;
  outside.selector.requirements = {with("reserved", "world", Operator::Exists, {}),
                                   with("fqdn", "api.example.com", Operator::DoesNotExist, {})};
  from_world.peers = {outside};
  add("server", from_world);

  const Resolved resolved = resolve(world);
  const Connectivity connectivity(world.settings, resolved);
  const auto parties = graph_parties(world, resolved);
  const auto party = [&](const std::string& id) {
    const auto it = std::find_if(parties.begin(), parties.end(),
                                 [&](const GraphParty& p) { return p.id == id; });
    EXPECT_NE(it, parties.end()) << id;
    return it == parties.end() ? GraphParty() : *it;
  };
  const GraphParty address = party("198.51.7.7/32");
  EXPECT_EQ(connection_text(connectivity.between(party("m/Pod/p1"), address)), "everything");
  EXPECT_EQ(connection_text(connectivity.between(address, party("m/Pod/p0"))), "everything");
}

}  // namespace
}  // namespace policyc::ir
