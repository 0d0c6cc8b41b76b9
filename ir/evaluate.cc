#include "ir/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>

#include "ir/decide.h"
#include "ir/filters.h"
#include "ir/identity.h"
#include "ir/l7_match.h"
#include "ir/print.h"

// One flow at a time, nothing kept between flows, every step a sentence of the specification:
//
//   1. who are the two sides, in labels
//   2. which rules select the side that is judged
//   3. merge those rules into filters (ir/filters)
//   4. expand the filters into atoms that match the packet
//   5. deny wins; else the best allow; else default deny
//   6. authentication from the covering entries (ir/decide)
//   7. the proxy's answer to the request
//
// Unknowns (placeholders, labels that a hypothetical pod may or may not carry, names not resolved)
// are symbols. The flow is judged once for every assignment of the symbols it meets; where all
// agree the symbols do not matter, else the answer is `depends`.
namespace policyc::ir {
namespace {

constexpr std::size_t kMaxJudgements = 512;

// Truth values of the symbols met so far. A symbol not decided yet reads as false and is
// remembered.
struct Assumptions {
  std::map<std::string, bool> decided;
  std::optional<std::string> undecided;

  bool holds(const std::string& symbol) {
    auto it = decided.find(symbol);
    if (it != decided.end()) return it->second;
    if (!undecided) undecided = symbol;
    return false;
  }
};

// One side of a flow as the other side sees it.
struct Side {
  LabelSet labels;
  std::vector<IpAddress> addresses;  // as far as known; read by --semantics kubernetes
  bool in_cluster = false;           // a pod or node of the inventory
  bool host = false;                 // the local host's identity
  bool bare_world = false;           // reserved world-ipv4/-ipv6 without any further label
  std::string open;  // name of a hypothetical pod: labels it does not name are symbols
  std::optional<std::string> dns_name;               // a name outside the cluster, not an address
  const AddressParty* unresolved_address = nullptr;  // outside address, and no DNS cache is known
};

// The judged end of a flow: what selects it and whom it faces.
struct Judged {
  std::vector<const Rule*> rules;
  Side peer;
  NamedPorts named;
  LabelSet host_labels;  // the local host, as this node sees it
  bool host = false;     // the judged end is the host itself
  bool init = false;
};

struct Judge {
  const World& world;
  const Flow& flow;
  Assumptions& assume;

  bool requirement(const Requirement& r, const Side& side) const;
  bool selects(const Selector& s, const Side& side) const;
  bool subject(const Rule& rule, const Party& party, const Side& side) const;
  bool request_matches(const HttpRule& rule, const HttpRequest& request) const;
  bool lists_name(const std::set<std::string>& server_names, const std::string& sni) const;

  int covers(const Filter& filter, const NamedPorts& named) const;
  std::size_t node_of(const Party& party) const;
  Side side(const Party& party, const AddressBook& book, std::size_t view_node) const;

  std::optional<Judged> judged(Direction direction) const;
  EndpointPolicy merge(const Judged& j, Direction direction) const;
  std::optional<DirectionVerdict> direction(Direction direction) const;
  DirectionVerdict verdict(Direction direction, const EndpointPolicy& policy, const Side& peer,
                           const NamedPorts& named, bool host_subject) const;
  L7Verdict proxy(const EndpointPolicy& policy, const Side& peer, const NamedPorts& named,
                  Parser parser) const;
  FlowVerdict run() const;
};

bool Judge::requirement(const Requirement& r, const Side& side) const {
  if (!r.symbol.empty()) return assume.holds(r.symbol);
  if (side.dns_name && r.source == "fqdn") {
    return dns_pattern_matches(dns_pattern(world.settings.release(), r.key), *side.dns_name) ==
           (r.op == Operator::Exists);
  }
  if (side.unresolved_address != nullptr && r.source == "fqdn") {
    return assume.holds("fqdn:" + r.key) == (r.op == Operator::Exists);
  }
  if (side.dns_name && world.settings.dual_stack() && r.source == "reserved" &&
      (r.key == "world-ipv4" || r.key == "world-ipv6")) {
    const bool v4 = assume.holds(fmt::format("whether {} is reached over IPv4", *side.dns_name));
    return (v4 == (r.key == "world-ipv4")) == (r.op == Operator::Exists);
  }
  if (side.dns_name && r.cidr) {
    const bool inside = assume.holds(fmt::format("addresses of {} in {}", *side.dns_name, r.key));
    return inside == (r.op == Operator::Exists);
  }
  if (r.cidr && world.settings.kubernetes_semantics) {
    // The API leaves ipBlock against addresses inside the cluster to the plugin.
    const bool inside = std::any_of(side.addresses.begin(), side.addresses.end(),
                                    [&](const IpAddress& ip) { return r.cidr->contains(ip); });
    const bool holds =
        inside &&
        (!side.in_cluster || assume.holds(fmt::format(
                                 "whether ipBlock {} covers addresses inside the cluster", r.key)));
    return holds == (r.op == Operator::Exists);
  }
  const bool could_carry = r.source == "k8s" || r.source == "any";
  if (!side.open.empty() && could_carry && is_identity_label(world.settings, "k8s", r.key) &&
      side.labels.find(r.source, r.key) == nullptr) {
    // A label that nobody told us of. In/NotIn and Exists/DoesNotExist are each other's negation.
    Requirement positive = r;
    if (r.op == Operator::NotIn) positive.op = Operator::In;
    if (r.op == Operator::DoesNotExist) positive.op = Operator::Exists;
    const bool holds = assume.holds(fmt::format("label {} of {}", positive.str(), side.open));
    return holds == (positive.op == r.op);
  }
  // A label whose value is a placeholder.
  if (r.op == Operator::In || r.op == Operator::NotIn) {
    const std::string* value = r.cidr ? nullptr : side.labels.find(r.source, r.key);
    if (value != nullptr && value->find("${") != std::string::npos) {
      Requirement positive = r;
      positive.op = Operator::In;
      const bool holds = assume.holds(fmt::format("whether {} is {}", *value, positive.str()));
      return holds == (r.op == Operator::In);
    }
  }
  return r.matches(side.labels);
}

bool Judge::selects(const Selector& s, const Side& side) const {
  return std::all_of(s.requirements.begin(), s.requirements.end(),
                     [&](const Requirement& r) { return requirement(r, side); });
}

// Endpoint rules never apply to the host, node rules to nothing else.
bool Judge::subject(const Rule& rule, const Party& party, const Side& side) const {
  if (const auto* node = std::get_if<NodeParty>(&party)) {
    return rule.host_subject && rule.subject.matches(node_selector_labels(
                                    world.settings, world.inventory.nodes[node->node]));
  }
  if (rule.host_subject) return false;
  if (!rule.symbol.empty()) {
    if (!assume.holds(rule.symbol)) return false;
    // The namespace is what we do not know: leave its requirement out.
    return std::all_of(
        rule.subject.requirements.begin(), rule.subject.requirements.end(),
        [&](const Requirement& r) { return r.key == kNamespaceKey || requirement(r, side); });
  }
  return selects(rule.subject, side);
}

std::size_t Judge::node_of(const Party& party) const {
  const auto& nodes = world.inventory.nodes;
  if (const auto* node = std::get_if<NodeParty>(&party)) return node->node;
  if (const auto* pod = std::get_if<PodParty>(&party)) {
    const std::string& name = world.inventory.pods[pod->pod].node;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (nodes[i].name == name) return i;
    }
  }
  return nodes.size() == 1 ? 0 : SIZE_MAX;
}

// What a party is as a peer, seen from the node where the other side is judged.
Side Judge::side(const Party& party, const AddressBook& book, std::size_t view_node) const {
  Side out;
  auto from_address = [&](const IpAddress& ip) {
    out.labels = book.identity_of(ip);
    out.host = out.labels.has("reserved", "host");
  };
  if (const auto* pod = std::get_if<PodParty>(&party)) {
    const Pod& p = world.inventory.pods[pod->pod];
    out.addresses = p.ips;
    out.in_cluster = true;
    if (p.host_network && !p.ips.empty()) {
      from_address(p.ips.front());
    } else {
      out.labels = pod_identity(world.inventory, world.settings, p);
    }
  } else if (const auto* address = std::get_if<AddressParty>(&party)) {
    from_address(address->ip);
    out.addresses = {address->ip};
    const bool outside = out.labels.has("reserved", "world") ||
                         out.labels.has("reserved", "world-ipv4") ||
                         out.labels.has("reserved", "world-ipv6");
    out.in_cluster = !outside;
    if (outside && !world.inventory.fqdn) out.unresolved_address = address;
  } else if (const auto* entity = std::get_if<EntityParty>(&party)) {
    out.host = entity->entity == "host";
    out.labels = out.host ? book.host() : entity_identity(entity->entity);
  } else if (const auto* node = std::get_if<NodeParty>(&party)) {
    const auto& addresses = world.inventory.nodes[node->node].addresses;
    out.addresses = addresses;
    out.in_cluster = true;
    if (node->node == view_node || addresses.empty()) {
      out.labels = book.host();
      out.host = true;
    } else {
      from_address(addresses.front());
    }
  } else if (const auto* labels = std::get_if<LabelsParty>(&party)) {
    out.labels = labels->labels;
    out.open = labels->labels.str();
  } else if (const auto* name = std::get_if<NameParty>(&party)) {
    out.labels = entity_identity(world.settings.dual_stack() ? "world-ipv4" : "world");
    out.dns_name = name->name;
  }
  const auto& l = out.labels.labels();
  out.bare_world = world.settings.dual_stack() && l.size() == 1 && l[0].source == "reserved" &&
                   (l[0].key == "world-ipv4" || l[0].key == "world-ipv6");
  return out;
}

bool block_contains(const PortBlock& block, std::uint16_t port) {
  return port >= block.port && port <= block.last();
}

// The L4 prefix length at which a filter covers the packet, or -1.
int Judge::covers(const Filter& filter, const NamedPorts& named) const {
  if (filter.port.protocol == kProtoAny) return 0;
  if (filter.port.protocol != flow.protocol) return -1;
  if (!filter.port.symbol.empty()) return assume.holds(filter.port.symbol) ? 8 + 16 : -1;
  for (const PortBlock& block : filter_blocks(filter, named)) {
    if (block_contains(block, flow.port)) return 8 + block.length;
  }
  return -1;
}

DirectionVerdict Judge::verdict(Direction direction, const EndpointPolicy& policy, const Side& peer,
                                const NamedPorts& named, bool host_subject) const {
  DirectionVerdict out;
  std::vector<Atom> allows;
  std::vector<Origin> denied_by;
  for (const Filter& filter : policy.filters) {
    const int length = covers(filter, named);
    if (length < 0) continue;
    for (const SelectorPolicy& p : filter.policies) {
      // Identity 2 stands for 9 and 10 as well in a dual-stack map.
      const bool world_alias = peer.bare_world && p.selector.matches(entity_identity("world"));
      if (!selects(p.selector, peer) && !world_alias) continue;
      if (p.deny) {
        denied_by.insert(denied_by.end(), p.origins.begin(), p.origins.end());
      } else {
        allows.push_back({&filter, &p, !p.selector.wildcard(), length, p.priority});
      }
    }
  }
  // The local host may always reach local pods: a plain entry of its own.
  if (direction == Direction::Ingress && peer.host && !host_subject &&
      !world.settings.allow_localhost_policy) {
    allows.push_back({nullptr, nullptr, true, 0, 0});
  }
  if (!denied_by.empty()) {
    out.verdict = VerdictKind::Deny;
    out.reason = Reason::PolicyDeny;
    out.rules = std::move(denied_by);
    return out;
  }
  if (!policy.enforced) {
    out.reason = allows.empty() ? Reason::NoPolicy : Reason::Localhost;
    return out;
  }
  const Decision decision = decide(allows);
  const Atom* best = decision.best;
  const bool ported =
      flow.protocol == kProtoTcp || flow.protocol == kProtoUdp || flow.protocol == kProtoSctp;
  if (best == nullptr && world.settings.kubernetes_semantics && !ported &&
      !assume.holds("whether NetworkPolicy covers protocols other than TCP, UDP and SCTP")) {
    out.reason = Reason::NoPolicy;
    return out;
  }
  if (best == nullptr) {
    out.verdict = VerdictKind::Deny;
    out.reason = Reason::DefaultDeny;
    return out;
  }
  out.reason = decision.reason;
  out.auth = decision.auth;
  for (const Atom& a : allows) {
    if (a.specific != best->specific || a.length != best->length || a.policy == nullptr) continue;
    out.rules.insert(out.rules.end(), a.policy->origins.begin(), a.policy->origins.end());
  }
  if (best->priority == 0) return out;
  out.verdict = VerdictKind::Redirect;
  out.parser = best->filter->parser_text;
  if (flow.l7.index() != 0) out.l7 = proxy(policy, peer, named, best->filter->parser);
  return out;
}

// What kind of rules a request can satisfy.
Parser request_parser(const L7Request& request) {
  switch (request.index()) {
    case 1:
      return Parser::Http;
    case 2:
      return Parser::Dns;
    case 3:
      return Parser::Kafka;
    case 4:
      return Parser::Tls;
    default:
      return Parser::None;
  }
}

// What a question leaves open of a request is unknown wherever a rule looks at it.
bool Judge::request_matches(const HttpRule& rule, const HttpRequest& request) const {
  if (!rule.symbol.empty()) return assume.holds(rule.symbol);
  HttpRule told = rule;
  const auto any = [](const std::string& regex) { return regex == ".*" || regex == "/.*"; };
  if (request.any_path) told.path.clear();
  if (request.any_host) told.host.clear();
  if (!http_matches(told, request)) return false;
  if (request.any_path && !rule.path.empty() && !any(rule.path) &&
      !assume.holds(fmt::format("whether the path matches `{}`", rule.path))) {
    return false;
  }
  return !request.any_host || rule.host.empty() || rule.host == ".*" ||
         assume.holds(fmt::format("whether the host matches `{}`", rule.host));
}

bool Judge::lists_name(const std::set<std::string>& server_names, const std::string& sni) const {
  return std::any_of(server_names.begin(), server_names.end(), [&](const std::string& name) {
    if (name.find("${") != std::string::npos) return assume.holds(name);
    return sni_matches(world.settings.release(), name, sni);
  });
}

// The request passes if some allow atom of this direction that selects the peer has no L7
// rules or one that matches. The implicit localhost entry is no rule.
L7Verdict Judge::proxy(const EndpointPolicy& policy, const Side& peer, const NamedPorts& named,
                       Parser parser) const {
  L7Verdict out;
  out.verdict = L7VerdictKind::Deny;
  out.reason = parser == Parser::Dns ? "dns-name" : "no-l7-rule";
  const Parser request = request_parser(flow.l7);
  auto allow = [&](const std::vector<Origin>& rules) {
    if (out.verdict != L7VerdictKind::Allow) out.rules.clear();
    out.verdict = L7VerdictKind::Allow;
    out.reason.clear();
    out.rules.insert(out.rules.end(), rules.begin(), rules.end());
  };
  auto at = [](const SelectorPolicy& p, SourceRange range) {
    Origin origin = p.origins.empty() ? Origin{} : p.origins.front();
    for (const Origin& o : p.origins) {
      if (o.range.file == range.file && o.range.begin <= range.begin && range.end <= o.range.end) {
        origin = o;
      }
    }
    origin.range = range;
    return std::vector<Origin>{origin};
  };
  if (parser == Parser::Crd || parser == Parser::Generic) {
    out.verdict = L7VerdictKind::Unknown;
    out.reason = "the proxy of this rule is not modelled";
    return out;
  }
  for (const Filter& filter : policy.filters) {
    if (covers(filter, named) < 0) continue;
    // The DNS proxy looks at the very filter that carries the DNS rules.
    if (parser == Parser::Dns && filter.parser != Parser::Dns) continue;
    for (const SelectorPolicy& p : filter.policies) {
      if (p.deny || !selects(p.selector, peer)) continue;
      const bool sni = !p.server_names.empty();
      if (!sni && (!p.has_l7_rules() || p.l7_match_all)) {
        allow(p.origins);
        continue;
      }
      if (sni) {
        const auto* tls = std::get_if<TlsHello>(&flow.l7);
        if (tls != nullptr && lists_name(p.server_names, tls->sni)) allow(p.origins);
        continue;
      }
      if (const auto* http = std::get_if<HttpRequest>(&flow.l7)) {
        for (const HttpRule& rule : p.l7.http) {
          if (request_matches(rule, *http)) {
            allow(at(p, rule.range));
          } else if (out.verdict == L7VerdictKind::Deny) {
            out.rules.push_back(at(p, rule.range).front());
          }
        }
      } else if (const auto* dns = std::get_if<DnsQuery>(&flow.l7)) {
        for (const DnsRule& rule : p.l7.dns) {
          if (!rule.symbol.empty() ? assume.holds(rule.symbol)
                                   : dns_pattern_matches(rule.pattern, dns->name)) {
            allow(at(p, rule.range));
          } else if (out.verdict == L7VerdictKind::Deny) {
            out.rules.push_back(at(p, rule.range).front());
          }
        }
      } else if (const auto* kafka = std::get_if<KafkaRequest>(&flow.l7)) {
        for (const KafkaRule& rule : p.l7.kafka) {
          if (!rule.symbol.empty() ? assume.holds(rule.symbol) : kafka_matches(rule, *kafka)) {
            allow(at(p, rule.range));
          }
        }
      }
    }
  }
  if (request != parser && out.verdict == L7VerdictKind::Deny) out.reason = "no-l7-rule";
  return out;
}

std::optional<Judged> Judge::judged(Direction direction) const {
  const bool ingress = direction == Direction::Ingress;
  const Party& subject_party = ingress ? flow.to : flow.from;
  const Party& peer_party = ingress ? flow.from : flow.to;

  const auto* pod = std::get_if<PodParty>(&subject_party);
  const bool host = std::holds_alternative<NodeParty>(subject_party);
  if (host && !world.settings.host_firewall) return std::nullopt;
  if (pod != nullptr && world.inventory.pods[pod->pod].host_network) return std::nullopt;
  if (pod == nullptr && !host && !std::holds_alternative<LabelsParty>(subject_party)) {
    return std::nullopt;
  }
  Judged out;
  out.host = host;
  const std::size_t node = node_of(subject_party);
  const AddressBook book(world.inventory, world.settings, world.policies, node);
  const Side subject_side = side(subject_party, book, node);
  out.peer = side(peer_party, book, node);
  out.init = subject_side.labels.has("reserved", "init");
  out.host_labels = book.host();
  for (const Rule& rule : world.policies.rules) {
    if (subject(rule, subject_party, subject_side)) out.rules.push_back(&rule);
  }
  if (!ingress) {
    out.named = egress_ports(world.inventory);
  } else if (pod != nullptr) {
    out.named = ingress_ports(world.inventory.pods[pod->pod]);
  }
  return out;
}

EndpointPolicy Judge::merge(const Judged& j, Direction direction) const {
  // An unknown authentication mode takes part in the merging: rules are merged as assumed.
  std::deque<Rule> assumed;
  std::vector<const Rule*> rules = j.rules;
  for (const Rule*& rule : rules) {
    const auto unknown = [](const RuleItem& item) { return !item.auth_symbol.empty(); };
    if (std::none_of(rule->items.begin(), rule->items.end(), unknown)) continue;
    assumed.push_back(*rule);
    rule = &assumed.back();
    for (RuleItem& item : assumed.back().items) {
      if (!unknown(item)) continue;
      item.auth = assume.holds(item.auth_symbol + " is `required`")           ? AuthType::Spire
                  : assume.holds(item.auth_symbol + " is `test-always-fail`") ? AuthType::AlwaysFail
                                                                              : AuthType::Disabled;
    }
  }
  return merge_rules(rules, direction, world.settings, j.host_labels, j.host, j.init);
}

std::optional<DirectionVerdict> Judge::direction(Direction direction) const {
  const std::optional<Judged> j = judged(direction);
  if (!j) return std::nullopt;
  DirectionVerdict out;
  // By the Kubernetes API a pod cannot be kept from itself.
  const auto* pod = std::get_if<PodParty>(&flow.from);
  if (world.settings.kubernetes_semantics && pod != nullptr && flow.from == flow.to &&
      world.inventory.pods[pod->pod].kind == "Pod") {
    return out;
  }
  const EndpointPolicy policy = merge(*j, direction);
  // A conflict in either direction freezes the whole endpoint.
  const bool ingress = direction == Direction::Ingress;
  const EndpointPolicy other = merge(*j, ingress ? Direction::Egress : Direction::Ingress);
  for (const EndpointPolicy* p : {&policy, &other}) {
    if (p->error.empty()) continue;
    out.verdict = VerdictKind::Error;
    out.reason = Reason::Error;
    out.error = p->error;
    out.rules = p->error_origins;
    return out;
  }
  return verdict(direction, policy, j->peer, j->named, j->host);
}

// The first direction that denies or fails decides; then the proxies.
FlowVerdict Judge::run() const {
  FlowVerdict out;
  out.id = flow.id;
  out.egress = direction(Direction::Egress);
  out.ingress = direction(Direction::Ingress);
  struct Half {
    const char* name;
    const std::optional<DirectionVerdict>& verdict;
  };
  const Half halves[] = {{"egress", out.egress}, {"ingress", out.ingress}};
  for (const Half& half : halves) {
    if (!half.verdict) continue;
    const VerdictKind kind = half.verdict->verdict;
    if (kind == VerdictKind::Deny || kind == VerdictKind::Error) {
      out.final = kind;
      out.final_reason = fmt::format("{}:{}", half.name, reason_name(half.verdict->reason));
      return out;
    }
  }
  for (const Half& half : halves) {
    if (half.verdict && half.verdict->verdict == VerdictKind::Depends) {
      out.final = VerdictKind::Depends;
      return out;
    }
  }
  for (const Half& half : halves) {
    if (half.verdict && half.verdict->l7 && half.verdict->l7->verdict == L7VerdictKind::Deny) {
      out.final = VerdictKind::Deny;
      out.final_reason = fmt::format("{}:l7-deny", half.name);
      return out;
    }
  }
  for (const Half& half : halves) {
    if (!half.verdict || half.verdict->verdict != VerdictKind::Redirect) continue;
    if (!half.verdict->l7 || half.verdict->l7->verdict == L7VerdictKind::Unknown) {
      out.final = VerdictKind::Redirect;
      return out;
    }
  }
  return out;
}

// What must agree between two judgements for a symbol not to matter.
bool same(const std::optional<DirectionVerdict>& a, const std::optional<DirectionVerdict>& b) {
  if (a.has_value() != b.has_value()) return false;
  if (!a) return true;
  const auto l7 = [](const DirectionVerdict& v) {
    return v.l7 ? static_cast<int>(v.l7->verdict) : -1;
  };
  return a->verdict == b->verdict && a->parser == b->parser && a->auth == b->auth &&
         l7(*a) == l7(*b);
}

}  // namespace

FlowVerdict evaluate(const World& world, const Flow& flow) {
  struct Outcome {
    std::map<std::string, bool> assumed;
    FlowVerdict verdict;
  };
  std::vector<Outcome> outcomes;
  std::vector<std::map<std::string, bool>> todo = {{}};
  std::set<std::string> symbols;
  bool exhausted = false;
  while (!todo.empty() && !exhausted) {
    Assumptions assume{std::move(todo.back()), std::nullopt};
    todo.pop_back();
    const FlowVerdict verdict = Judge{world, flow, assume}.run();
    if (!assume.undecided) {
      outcomes.push_back({std::move(assume.decided), verdict});
      exhausted = outcomes.size() > kMaxJudgements;
      continue;
    }
    symbols.insert(*assume.undecided);
    for (const bool value : {true, false}) {
      todo.push_back(assume.decided);
      todo.back()[*assume.undecided] = value;
    }
  }
  FlowVerdict result = outcomes.front().verdict;
  if (outcomes.size() == 1) return result;

  // A symbol matters for a direction when two outcomes that differ in that direction differ in it.
  auto join = [&](std::optional<DirectionVerdict> FlowVerdict::*half) {
    std::set<std::string> matter;
    bool differs = exhausted;
    for (const Outcome& o : outcomes) {
      if (same(o.verdict.*half, result.*half)) continue;
      differs = true;
      for (const auto& [symbol, value] : o.assumed) {
        auto it = outcomes.front().assumed.find(symbol);
        if (it == outcomes.front().assumed.end() || it->second != value) matter.insert(symbol);
      }
    }
    if (!differs || !(result.*half)) return;
    if (matter.empty()) matter = symbols;
    DirectionVerdict d;
    d.verdict = VerdictKind::Depends;
    d.reason = Reason::None;
    d.depends_on.assign(matter.begin(), matter.end());
    result.*half = std::move(d);
  };
  bool final_differs = exhausted;
  for (const Outcome& o : outcomes) {
    final_differs = final_differs || o.verdict.final != result.final;
  }
  join(&FlowVerdict::egress);
  join(&FlowVerdict::ingress);
  if (final_differs) {
    result.final = VerdictKind::Depends;
    result.final_reason.clear();
  }
  return result;
}

std::vector<Origin> isolating_rules(const World& world, const Flow& flow, Direction direction) {
  Assumptions assume;
  const auto j = Judge{world, flow, assume}.judged(direction);
  std::vector<Origin> out;
  for (const Rule* rule : j ? j->rules : std::vector<const Rule*>{}) {
    const bool ingress = direction == Direction::Ingress;
    const bool has = ingress ? rule->has_ingress : rule->has_egress;
    const bool deny = ingress ? rule->default_deny_ingress : rule->default_deny_egress;
    if (has && (deny || !world.settings.non_default_deny)) out.push_back(rule->origin);
  }
  return out;
}

namespace {

bool item_covers_port(const Judge& judge, const RuleItem& item, const NamedPorts& named) {
  if (item.all_l4) return true;
  for (const PortRule& rule : item.ports) {
    for (const Port& port : rule.ports) {
      Filter filter;
      filter.port = port;
      if (judge.covers(filter, named) >= 0) return true;
    }
  }
  return false;
}

std::string item_ports(const RuleItem& item) {
  std::set<std::string> ports;
  for (const PortRule& rule : item.ports) {
    for (const Port& port : rule.ports) ports.insert(port_text(port));
  }
  std::string out;
  for (const std::string& p : ports) out += (out.empty() ? "" : ", ") + p;
  return out.empty() ? "no port" : out;
}

}  // namespace

std::vector<NearMiss> near_misses(const World& world, const Flow& flow, Direction direction) {
  Assumptions assume;
  const Judge judge{world, flow, assume};
  const auto j = judge.judged(direction);
  std::vector<NearMiss> out;
  if (!j) return out;
  for (const Rule* rule : j->rules) {
    for (const RuleItem& item : rule->items) {
      if (item.deny) continue;
      const bool port = item_covers_port(judge, item, j->named);
      // The closest peer: the one with the fewest requirements that fail.
      std::size_t failing = item.any_peer ? 0 : SIZE_MAX;
      const Requirement* missed = nullptr;
      for (const Peer& peer : item.peers) {
        std::size_t count = 0;
        const Requirement* last = nullptr;
        for (const Requirement& r : peer.selector.requirements) {
          if (judge.requirement(r, j->peer)) continue;
          ++count;
          last = &r;
        }
        if (count < failing) {
          failing = count;
          missed = last;
        }
      }
      if (item.direction != direction) {
        if (port && failing == 0) {
          out.push_back({item.origin, fmt::format("the direction: it is an {} rule",
                                                  direction_name(item.direction))});
        }
      } else if (failing == 0 && !port) {
        out.push_back({item.origin, "the port: it allows " + item_ports(item)});
      } else if (failing == 1 && port && missed->source != "reserved" && !missed->cidr &&
                 missed->source != "fqdn") {
        const std::string* have = j->peer.labels.find(missed->source, missed->key);
        out.push_back({item.origin,
                       fmt::format("the peer's label `{}`: it has {}", missed->str(),
                                   have == nullptr ? "no such label" : missed->key + "=" + *have)});
      }
    }
  }
  return out;
}

}  // namespace policyc::ir
