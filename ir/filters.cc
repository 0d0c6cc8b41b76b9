#include "ir/filters.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

namespace policyc::ir {
namespace {

// Filters by key while they grow; policies by selector text.
struct Builder {
  using Key = std::tuple<Protocol, std::string, std::uint16_t>;  // protocol, port text, end
  struct Draft {
    Filter filter;
    std::map<std::string, std::size_t> by_text;
  };
  std::map<Key, Draft> drafts;
  EndpointPolicy result;

  void fail(std::string error, const std::vector<Origin>& a, const std::vector<Origin>& b) {
    if (!result.error.empty()) return;
    result.error = std::move(error);
    result.error_origins = a;
    result.error_origins.insert(result.error_origins.end(), b.begin(), b.end());
  }
  void merge_parser(Draft& draft, Parser parser, const std::string& text,
                    const std::vector<Origin>& origins);
  void merge_policy(Draft& draft, SelectorPolicy policy);
};

bool can_promote(Parser from, Parser to) {
  if (from == Parser::None) return true;
  return from == Parser::Tls &&
         (to == Parser::Http || to == Parser::Kafka || to == Parser::Generic);
}

void Builder::merge_parser(Draft& draft, Parser parser, const std::string& text,
                           const std::vector<Origin>& origins) {
  Filter& f = draft.filter;
  if (f.parser == parser && f.parser_text == text) return;
  if (can_promote(f.parser, parser)) {
    f.parser = parser;
    f.parser_text = text;
    return;
  }
  if (can_promote(parser, f.parser)) return;
  std::vector<Origin> before;
  for (const SelectorPolicy& p : f.policies) {
    before.insert(before.end(), p.origins.begin(), p.origins.end());
  }
  fail(fmt::format("cannot merge conflicting L7 parsers ({}/{}) on port {}/{}", f.parser_text, text,
                   f.port.text, protocol_name(f.port.protocol)),
       before, origins);
}

void Builder::merge_policy(Draft& draft, SelectorPolicy add) {
  auto [it, fresh] = draft.by_text.try_emplace(add.text, draft.filter.policies.size());
  if (fresh) {
    draft.filter.policies.push_back(std::move(add));
    return;
  }
  SelectorPolicy& have = draft.filter.policies[it->second];
  const std::vector<Origin> before = have.origins;
  auto join_origins = [&] {
    for (Origin& o : add.origins) {
      if (std::find(have.origins.begin(), have.origins.end(), o) == have.origins.end()) {
        have.origins.push_back(std::move(o));
      }
    }
  };
  // Deny beats allow entirely.
  if (have.deny || add.deny) {
    if (have.deny && add.deny) return join_origins();
    if (add.deny) have = std::move(add);
    return;
  }
  const std::string where =
      fmt::format("port {}/{}", draft.filter.port.text, protocol_name(draft.filter.port.protocol));
  if (have.auth && add.auth && *have.auth != *add.auth) {
    fail("cannot merge conflicting authentication types on " + where, before, add.origins);
  }
  if (!have.auth) have.auth = add.auth;
  auto merge_secret = [&](std::string& mine, const std::string& other, const char* what) {
    if (!mine.empty() && !other.empty() && mine != other) {
      fail(fmt::format("cannot merge conflicting {} TLS contexts on {}", what, where), before,
           add.origins);
    }
    if (mine.empty()) mine = other;
  };
  merge_secret(have.tls.terminating_secret, add.tls.terminating_secret, "terminating");
  merge_secret(have.tls.originating_secret, add.tls.originating_secret, "originating");
  if (add.listener) {
    if (have.listener && have.priority == add.priority && *have.listener != *add.listener) {
      fail("cannot merge conflicting listeners on " + where, before, add.origins);
    }
    if (!have.listener || add.priority > have.priority) have.listener = add.listener;
  }
  have.redirect = have.redirect || add.redirect;
  have.priority = std::max(have.priority, add.priority);
  have.server_names.insert(add.server_names.begin(), add.server_names.end());
  const bool mine = have.has_l7_rules();
  const bool other = add.has_l7_rules();
  if (mine != other || add.l7_match_all) have.l7_match_all = true;
  if (other) {
    have.l7.parser = add.l7.parser;
    have.l7.proto = add.l7.proto;
    auto join = [](auto& to, auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    join(have.l7.http, add.l7.http);
    join(have.l7.kafka, add.l7.kafka);
    join(have.l7.dns, add.l7.dns);
    join(have.l7.generic, add.l7.generic);
  }
  if (!have.server_names.empty() && have.has_l7_rules() && have.tls.terminating_secret.empty()) {
    fail("cannot merge L7 rules with SNI filtering without TLS termination on " + where, before,
         add.origins);
  }
  join_origins();
}

// The selectors of an item for one endpoint, requirements of all its rules ANDed in.
std::vector<SelectorPolicy> item_selectors(const RuleItem& item,
                                           const std::vector<Requirement>& required) {
  std::vector<SelectorPolicy> out;
  auto add = [&](Selector selector, bool wildcard_only) {
    SelectorPolicy p;
    p.text = selector.text();
    p.selector = std::move(selector);
    if (wildcard_only) out.clear();
    out.push_back(std::move(p));
  };
  if (item.any_peer) {
    add(Selector{}, true);
    return out;
  }
  std::set<std::string> seen;
  for (const Peer& peer : item.peers) {
    Selector selector = peer.selector;
    if (peer.takes_requires) {
      selector.requirements.insert(selector.requirements.end(), required.begin(), required.end());
    }
    // An item that selects everybody is the wildcard alone.
    if (selector.wildcard()) {
      add(std::move(selector), true);
      return out;
    }
    if (seen.insert(selector.text()).second) add(std::move(selector), false);
  }
  return out;
}

bool names_host(const Selector& s) {
  return s.requirements.size() == 1 && s.requirements[0].source == "reserved" &&
         s.requirements[0].key == "host" && s.requirements[0].op == Operator::Exists;
}

Selector host_selector() {
  Requirement r;
  r.source = "reserved";
  r.key = "host";
  return Selector{{r}, {}};
}

// How a redirect without a priority of its own ranks among others since 1.19, 1 highest.
int parser_priority(Parser parser) {
  switch (parser) {
    case Parser::Http:
    case Parser::Generic:
      return 101;
    case Parser::Kafka:
      return 106;
    case Parser::Tls:
      return 116;
    case Parser::Dns:
      return 121;
    case Parser::Crd:
    case Parser::None:
      return 126;
  }
  return 126;
}

// A wildcard of the same filter makes some entries superfluous, and passes its redirect to others.
void prune(Filter& filter) {
  if (filter.port.text == "0") return;
  SelectorPolicy* wildcard = nullptr;
  for (SelectorPolicy& p : filter.policies) {
    if (p.selector.wildcard()) wildcard = &p;
  }
  if (wildcard == nullptr) return;
  for (SelectorPolicy& p : filter.policies) {
    if (&p == wildcard || p.deny) continue;
    const bool same_auth = p.auth == wildcard->auth;
    const bool covered_redirect =
        !p.redirect || (wildcard->redirect && wildcard->listener == p.listener &&
                        wildcard->priority == p.priority);
    if (wildcard->deny || (same_auth && covered_redirect)) {
      p.no_entry = true;
    } else if (!p.redirect && wildcard->redirect) {
      p.redirect = true;
      p.listener = wildcard->listener;
      p.priority = wildcard->priority;
    }
  }
}

}  // namespace

std::string parser_name(Parser parser, const L7Rules& rules) {
  switch (parser) {
    case Parser::None:
      return "";
    case Parser::Tls:
      return "tls";
    case Parser::Http:
      return "http";
    case Parser::Kafka:
      return "kafka";
    case Parser::Dns:
      return "dns";
    case Parser::Crd:
      return "crd";
    case Parser::Generic:
      return rules.proto;
  }
  return "";
}

EndpointPolicy merge_rules(const std::vector<const Rule*>& rules, Direction direction,
                           const Settings& settings, const LabelSet& host_labels,
                           bool host_endpoint, bool init_endpoint) {
  using Enforcement = Settings::Enforcement;
  Builder b;
  if (settings.enforcement == Enforcement::Never) return b.result;
  if (host_endpoint && !settings.host_firewall) return b.result;

  const bool ingress = direction == Direction::Ingress;
  bool has_rules = false;
  bool deny_default = false;
  std::vector<Requirement> required[2];  // allow sections, deny sections
  for (const Rule* rule : rules) {
    if (ingress ? rule->has_ingress : rule->has_egress) {
      has_rules = true;
      deny_default = deny_default ||
                     (ingress ? rule->default_deny_ingress : rule->default_deny_egress) ||
                     !settings.non_default_deny;
    }
    for (const RuleItem& item : rule->items) {
      if (item.direction != direction) continue;
      auto& r = required[item.deny ? 1 : 0];
      r.insert(r.end(), item.requires_.begin(), item.requires_.end());
    }
  }
  const bool always = settings.enforcement == Enforcement::Always || init_endpoint;
  b.result.enforced = has_rules || always;
  if (!b.result.enforced) return b.result;

  auto upsert = [&](const Port& port, Parser parser, const std::string& parser_text,
                    const std::vector<SelectorPolicy>& policies) {
    Builder::Key key{port.protocol, port.text, port.end};
    auto [it, fresh] = b.drafts.try_emplace(key);
    if (fresh) it->second.filter.port = port;
    const std::vector<Origin> origins =
        policies.empty() ? std::vector<Origin>{} : policies.front().origins;
    b.merge_parser(it->second, parser, parser_text, origins);
    for (const SelectorPolicy& p : policies) b.merge_policy(it->second, p);
  };

  for (const Rule* rule : rules) {
    for (const RuleItem& item : rule->items) {
      if (item.direction != direction) continue;
      std::vector<SelectorPolicy> selectors = item_selectors(item, required[item.deny ? 1 : 0]);
      if (selectors.empty()) continue;
      for (SelectorPolicy& p : selectors) {
        p.deny = item.deny;
        p.auth = item.auth;
        p.origins = {item.origin};
      }
      if (item.all_l4) {
        Port any;
        any.protocol = kProtoAny;
        upsert(any, Parser::None, "", selectors);
        continue;
      }
      for (const PortRule& port_rule : item.ports) {
        Parser parser = Parser::None;
        std::string parser_text;
        std::vector<SelectorPolicy> policies = selectors;
        if (!item.deny) {
          const L7Rules& l7 = port_rule.l7;
          // A clusterwide policy has no namespace in which to look a CiliumEnvoyConfig up.
          if (port_rule.listener && port_rule.listener->kind == "CiliumEnvoyConfig" &&
              rule->ns.empty()) {
            b.fail(
                "a clusterwide policy cannot use a listener of the namespaced kind "
                "CiliumEnvoyConfig",
                {item.origin}, {});
          }
          const bool tls = !port_rule.server_names.empty() || port_rule.tls != TlsContext{};
          if (tls) parser = Parser::Tls;
          if (port_rule.listener) parser = Parser::Crd;
          if (l7.parser != Parser::None) parser = l7.parser;
          parser_text = parser_name(parser, l7);
          for (SelectorPolicy& p : policies) {
            p.l7 = l7;
            p.server_names.insert(port_rule.server_names.begin(), port_rule.server_names.end());
            p.tls = port_rule.tls;
            p.listener = port_rule.listener;
            p.redirect = tls || port_rule.listener || !l7.empty();
            if (p.redirect) {
              const int asked = port_rule.listener ? port_rule.listener->priority : 0;
              const int priority = asked == 0 && settings.release().parser_priorities
                                       ? parser_priority(parser)
                                       : asked;
              p.priority = static_cast<std::uint8_t>(priority > 0 ? 255 - priority : 1);
            }
          }
          // Host is spared L7 rules that reach it through somebody else's selector.
          const bool redirects = !policies.empty() && policies.front().redirect;
          if (ingress && redirects && !settings.allow_localhost_policy && !host_endpoint &&
              std::none_of(policies.begin(), policies.end(),
                           [](const SelectorPolicy& p) { return names_host(p.selector); }) &&
              std::any_of(policies.begin(), policies.end(), [&](const SelectorPolicy& p) {
                return p.selector.matches(host_labels);
              })) {
            SelectorPolicy host;
            host.selector = host_selector();
            host.text = host.selector.text();
            host.host_exemption = true;
            host.origins = {item.origin};
            policies.push_back(std::move(host));
          }
        }
        for (const Port& port : port_rule.ports) upsert(port, parser, parser_text, policies);
      }
    }
  }
  if (has_rules && !deny_default && !always) {
    SelectorPolicy all;
    all.synthetic = true;
    Port any;
    any.protocol = kProtoAny;
    upsert(any, Parser::None, "", {all});
  }
  for (auto& [key, draft] : b.drafts) {
    prune(draft.filter);
    b.result.filters.push_back(std::move(draft.filter));
  }
  return std::move(b.result);
}

std::optional<std::uint16_t> NamedPorts::find(const std::string& name, Protocol protocol) const {
  std::optional<std::uint16_t> found;
  for (const Entry& e : entries) {
    if (e.name != name || e.protocol != protocol) continue;
    if (found && *found != e.port) return std::nullopt;
    found = e.port;
  }
  return found;
}

namespace {

void add_ports(const Pod& pod, NamedPorts& out) {
  for (const ContainerPort& p : pod.ports) {
    if (!p.name.empty()) out.entries.push_back({p.name, p.protocol, p.port});
  }
}

void normalise(NamedPorts& ports) {
  std::sort(ports.entries.begin(), ports.entries.end());
  ports.entries.erase(std::unique(ports.entries.begin(), ports.entries.end()), ports.entries.end());
}

}  // namespace

NamedPorts ingress_ports(const Pod& pod) {
  NamedPorts out;
  add_ports(pod, out);
  normalise(out);
  return out;
}

NamedPorts egress_ports(const Inventory& inventory) {
  NamedPorts out;
  for (const Pod& pod : inventory.pods) {
    if (!pod.host_network) add_ports(pod, out);
  }
  normalise(out);
  return out;
}

std::vector<PortBlock> filter_blocks(const Filter& filter, const NamedPorts& named) {
  const Port& port = filter.port;
  if (!port.symbol.empty()) return {};
  std::uint16_t first = port.number;
  if (!port.name.empty()) {
    const auto number = named.find(port.name, port.protocol);
    if (!number) return {};
    first = *number;
  }
  return port_blocks(first, port.end);
}

}  // namespace policyc::ir
