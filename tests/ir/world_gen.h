// Random worlds for property tests: few labels, few ports and nested prefixes, so that rules
// collide.
#pragma once

#include <fmt/format.h>
#include <rapidcheck.h>

#include "ir/evaluate.h"
#include "ir/identity.h"

namespace policyc::testing {

inline ir::Requirement label_requirement(const std::string& source, const std::string& key,
                                         ir::Operator op, std::vector<std::string> values) {
  ir::Requirement r;
  r.source = source;
  r.key = key;
  r.op = op;
  std::sort(values.begin(), values.end());
  r.values = std::move(values);
  return r;
}

// A source of choices: rapidcheck shrinks the numbers it draws.
struct Choice {
  int operator()(int below) const { return *rc::gen::inRange(0, below); }
  bool flip() const { return (*this)(2) == 1; }
  template <class T>
  T of(std::initializer_list<T> items) const {
    return *(items.begin() + (*this)(static_cast<int>(items.size())));
  }
};

inline ir::Selector random_selector(const Choice& pick) {
  ir::Selector s;
  const int n = pick(3);
  for (int i = 0; i < n; ++i) {
    const std::string key = pick.of<std::string>({"app", "tier"});
    const std::string a = pick.of<std::string>({"a", "b", "c"});
    switch (pick(5)) {
      case 0:
        s.requirements.push_back(label_requirement("any", key, ir::Operator::Exists, {}));
        break;
      case 1:
        s.requirements.push_back(label_requirement("k8s", key, ir::Operator::DoesNotExist, {}));
        break;
      case 2:
        s.requirements.push_back(label_requirement("any", key, ir::Operator::NotIn, {a}));
        break;
      default:
        s.requirements.push_back(label_requirement("k8s", key, ir::Operator::In, {a}));
        break;
    }
  }
  return s;
}

inline ir::Prefix random_prefix(const Choice& pick, bool v6) {
  static const char* const kV4[] = {"203.0.113.0/24", "203.0.113.0/25", "203.0.113.128/26",
                                    "203.0.113.7/32", "198.51.0.0/16",  "198.51.100.0/24"};
  static const char* const kV6[] = {"2001:db8:1::/48", "2001:db8:1:2::/64", "2001:db8:1:2::7/128"};
  return *ir::parse_prefix(v6 ? kV6[pick(3)] : kV4[pick(6)]);
}

inline ir::Peer random_peer(const Choice& pick) {
  ir::Peer peer;
  switch (pick(8)) {
    case 0: {  // an entity
      const std::string e = pick.of<std::string>(
          {"host", "remote-node", "world-ipv4", "world-ipv6", "world", "kube-apiserver", "health"});
      peer.kind = ir::PeerKind::Entity;
      peer.selector.requirements = {label_requirement("reserved", e, ir::Operator::Exists, {})};
      return peer;
    }
    case 1:  // everybody
      return peer;
    case 4:
      if (pick.flip()) {  // names
        peer.kind = ir::PeerKind::Fqdn;
        peer.text = pick.of<std::string>({"api.example.com", "*.example.com", "*"});
        peer.selector.requirements = {
            label_requirement("fqdn", peer.text, ir::Operator::Exists, {})};
      } else {  // a group of prefixes
        peer.kind = ir::PeerKind::CidrGroup;
        peer.selector.requirements = {label_requirement(
            "cidrgroup", std::string(ir::kCidrGroupNamePrefix) + "g", ir::Operator::Exists, {})};
      }
      return peer;
    case 2:
    case 3: {  // a prefix, perhaps with an exception
      peer.kind = ir::PeerKind::Cidr;
      const bool v6 = pick(4) == 0;
      for (int i = 0; i < 1 + pick(2); ++i) {
        const ir::Prefix p = random_prefix(pick, v6);
        ir::Requirement r = label_requirement(
            "cidr", p.str(), i == 0 ? ir::Operator::Exists : ir::Operator::DoesNotExist, {});
        r.cidr = p;
        peer.selector.requirements.push_back(std::move(r));
      }
      return peer;
    }
    default:
      peer.selector = random_selector(pick);
      if (pick.flip()) {
        peer.selector.requirements.push_back(
            label_requirement("k8s", std::string(ir::kNamespaceKey), ir::Operator::In,
                              {pick.of<std::string>({"n", "m"})}));
      }
      peer.takes_requires = true;
      return peer;
  }
}

inline ir::Port random_port(const Choice& pick) {
  ir::Port port;
  if (pick(6) == 0) {
    port.protocol = pick.flip() ? ir::kProtoIcmp : ir::kProtoIcmp6;
    port.number = pick.of<std::uint16_t>({8, 0, 3, 128});
    port.text = std::to_string(port.number);
    return port;
  }
  port.protocol =
      pick.of<ir::Protocol>({ir::kProtoTcp, ir::kProtoTcp, ir::kProtoUdp, ir::kProtoSctp});
  switch (pick(5)) {
    case 0:
      break;  // all ports
    case 1:
      port.name = pick.of<std::string>({"http", "dns", "nosuch"});
      port.text = port.name;
      break;
    case 2:
      port.number = pick.of<std::uint16_t>({78, 80, 1000});
      port.end = static_cast<std::uint16_t>(port.number + 1 + pick(70));
      break;
    default:
      port.number = pick.of<std::uint16_t>({79, 80, 81, 443, 8080});
      break;
  }
  if (port.name.empty()) port.text = std::to_string(port.number);
  return port;
}

// What looks inside connections: HTTP mostly, so that parsers conflict only now and then.
inline void random_l7(const Choice& pick, ir::PortRule& rule) {
  switch (pick(12)) {
    case 0:
    case 1:
    case 2: {
      rule.l7.parser = ir::Parser::Http;
      ir::HttpRule http;
      http.method = pick.of<std::string>({"GET", "POST", ""});
      http.path = pick.of<std::string>({"", "/a/.*", "/b"});
      rule.l7.http.push_back(http);
      break;
    }
    case 3:
      rule.l7.parser = ir::Parser::Dns;
      rule.l7.dns.push_back({pick.of<std::string>({"*", "*.example.com"}), "", {}});
      break;
    case 4:
      rule.l7.parser = ir::Parser::Kafka;
      rule.l7.kafka.push_back({{0, 3, 18}, std::nullopt, "", "orders", {}});
      break;
    case 5:
      rule.server_names = {"a.example"};
      break;
    case 6:
      rule.listener = ir::Listener{"CiliumEnvoyConfig", "c", "l", pick(4) * 30};
      break;
    default:
      break;
  }
}

inline ir::RuleItem random_item(const Choice& pick, ir::Direction direction) {
  ir::RuleItem item;
  item.direction = direction;
  item.deny = pick(4) == 0;
  item.all_l4 = pick(4) == 0;
  if (pick(6) == 0 && !item.all_l4) {
    item.any_peer = true;
  } else {
    for (int i = 0; i < pick(4); ++i) item.peers.push_back(random_peer(pick));
  }
  if (!item.all_l4) {
    for (int i = 0; i < 1 + pick(2); ++i) {
      ir::PortRule rule;
      bool tcp_only = true;
      for (int k = 0; k < 1 + pick(2); ++k) {
        rule.ports.push_back(random_port(pick));
        tcp_only = tcp_only && rule.ports.back().protocol == ir::kProtoTcp &&
                   rule.ports.back().text != "0";
      }
      if (!item.deny && tcp_only) random_l7(pick, rule);
      item.ports.push_back(std::move(rule));
    }
  }
  if (!item.deny && pick(8) == 0)
    item.auth = pick.of({ir::AuthType::Spire, ir::AuthType::Disabled});
  if (pick(12) == 0) {
    item.requires_ = {label_requirement("k8s", "tier", ir::Operator::In, {"a"})};
  }
  return item;
}

inline ir::World random_world(const Choice& pick) {
  ir::World world;
  world.settings.ipv6 = pick(4) != 0;
  world.settings.host_firewall = pick(4) == 0;
  world.settings.allow_localhost_policy = pick(5) == 0;
  world.settings.cidr_match_nodes = pick(6) == 0;
  using Enforcement = ir::Settings::Enforcement;
  world.settings.enforcement = pick.of(
      {Enforcement::Default, Enforcement::Default, Enforcement::Default, Enforcement::Always});
  ir::Inventory& inv = world.inventory;
  inv.fqdn.emplace();
  (*inv.fqdn)["api.example.com"] = {*ir::parse_ip("203.0.113.7"), *ir::parse_ip("198.51.7.7")};
  (*inv.fqdn)["other.test"] = {*ir::parse_ip("8.8.8.8")};
  inv.cidr_groups.push_back({"g", {{"team", "x"}}, {*ir::parse_prefix("203.0.113.0/25")}, {}});
  for (const char* ns : {"m", "n"}) {
    inv.namespaces.push_back({ns, {{"kubernetes.io/metadata.name", ns}}, {}});
  }
  for (int i = 0; i < 2; ++i) {
    ir::Node node;
    node.name = fmt::format("node-{}", i);
    node.addresses = {*ir::parse_ip(fmt::format("192.168.10.{}", i + 1)),
                      *ir::parse_ip(fmt::format("2001:db8:ff::{}", i + 1))};
    inv.nodes.push_back(std::move(node));
  }
  if (pick.flip()) {
    inv.endpoints.push_back({"default", "kubernetes", {*ir::parse_ip("192.168.10.1")}, {}});
  }
  for (int i = 0; i < 5; ++i) {
    ir::Pod pod;
    pod.ns = i < 2 ? "m" : "n";
    pod.name = fmt::format("p{}", i);
    pod.node = pick.flip() ? "node-0" : "node-1";
    if (pick(4) != 0) pod.labels["app"] = pick.of<std::string>({"a", "b", "c"});
    if (pick.flip()) pod.labels["tier"] = pick.of<std::string>({"a", "b"});
    pod.ips = {*ir::parse_ip(fmt::format("10.0.0.{}", i + 10)),
               *ir::parse_ip(fmt::format("fd00::{}", i + 10))};
    if (pick.flip()) {
      pod.ports.push_back({"http", pick.of<std::uint16_t>({80, 8080}), ir::kProtoTcp});
    }
    if (pick(3) == 0) pod.ports.push_back({"dns", 53, ir::kProtoUdp});
    inv.pods.push_back(std::move(pod));
  }
  const int policies = 1 + pick(5);
  for (int i = 0; i < policies; ++i) {
    ir::Policy policy;
    policy.ref = {"CiliumClusterwideNetworkPolicy", "", fmt::format("c{}", i)};
    world.policies.policies.push_back(policy);
    ir::Rule rule;
    rule.policy = static_cast<std::size_t>(i);
    rule.host_subject = world.settings.host_firewall && pick(5) == 0;
    if (!rule.host_subject) rule.subject = random_selector(pick);
    for (int k = 0; k < 1 + pick(3); ++k) {
      const auto d = pick.flip() ? ir::Direction::Ingress : ir::Direction::Egress;
      rule.items.push_back(random_item(pick, d));
      rule.items.back().origin = {rule.policy, fmt::format("spec.items[{}]", k), {}};
      (d == ir::Direction::Ingress ? rule.has_ingress : rule.has_egress) = true;
    }
    rule.default_deny_ingress = pick(4) != 0;
    rule.default_deny_egress = pick(4) != 0;
    world.policies.rules.push_back(std::move(rule));
  }
  return world;
}

// A party that policies tell apart from others.
inline ir::Party random_party(const Choice& pick, const ir::World& world) {
  switch (pick(4)) {
    case 0: {
      static const char* const kOutside[] = {"203.0.113.7",     "203.0.113.9",   "203.0.113.130",
                                             "198.51.100.3",    "198.51.7.7",    "8.8.8.8",
                                             "192.168.10.1",    "192.168.10.2",  "2001:db8:1:2::7",
                                             "2001:db8:1:2::8", "2001:db8:ff::2"};
      const int n = world.settings.ipv6 ? 11 : 8;
      return ir::AddressParty{*ir::parse_ip(kOutside[pick(n)])};
    }
    case 1:
      if (world.settings.host_firewall) {
        return ir::NodeParty{static_cast<std::size_t>(pick(2))};
      }
      [[fallthrough]];
    default:
      return ir::PodParty{
          static_cast<std::size_t>(pick(static_cast<int>(world.inventory.pods.size())))};
  }
}

inline ir::Flow random_flow(const Choice& pick, const ir::World& world) {
  ir::Flow flow;
  flow.id = "f";
  flow.from = random_party(pick, world);
  flow.to = random_party(pick, world);
  flow.protocol = pick.of<ir::Protocol>({ir::kProtoTcp, ir::kProtoTcp, ir::kProtoUdp,
                                         ir::kProtoSctp, ir::kProtoIcmp, ir::kProtoIcmp6});
  const bool icmp = flow.protocol == ir::kProtoIcmp || flow.protocol == ir::kProtoIcmp6;
  flow.port = icmp ? pick.of<std::uint16_t>({8, 0, 3, 128})
                   : pick.of<std::uint16_t>({78, 79, 80, 81, 100, 443, 1000, 1040, 8080, 53, 9999});
  return flow;
}

// A request near those that random rules list.
inline ir::L7Request random_request(const Choice& pick) {
  switch (pick(5)) {
    case 0:
    case 1: {
      ir::HttpRequest http;
      http.method = pick.of<std::string>({"GET", "POST", "PUT"});
      http.path = pick.of<std::string>({"/", "/a/x", "/b", "/b/"});
      return http;
    }
    case 2:
      return ir::DnsQuery{pick.of<std::string>({"a.example.com", "example.com", "other.org"})};
    case 3:
      return ir::KafkaRequest{pick.of<std::string>({"produce", "fetch"}), 0, "",
                              pick.of<std::string>({"orders", "logs"})};
    default:
      return ir::TlsHello{pick.of<std::string>({"a.example", "b.example"})};
  }
}

}  // namespace policyc::testing
