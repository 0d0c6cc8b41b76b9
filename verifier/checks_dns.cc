#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "ir/base/diag_code.h"
#include "verifier/checks_context.h"

namespace policyc::checks {
namespace {

// What the rules of the input let the endpoints of one rule do about names. Wherever another rule
// may or may not select them, it is taken to help: silence is cheaper than a false alarm.
struct Dns {
  bool default_deny = false;                // egress is surely restricted
  bool may_ask = false;                     // something lets port 53 out
  bool seen = false;                        // some DNS rule covers them
  bool over_udp = false, over_tcp = false;  // port 53
  bool unknown = false;                     // a pattern hangs on a placeholder
  std::vector<const ir::DnsRule*> patterns;
  const ir::RuleItem* example = nullptr;  // an item that lets DNS out, of the rule itself if any
};

// Whether another rule helps the endpoints of `rule`: with a complete inventory each of its pods is
// looked at.
bool may_help(const Context& c, const ir::Rule& rule, const ir::Rule& other) {
  if (c.subject_covers(other, rule)) return true;
  if (!c.subjects_may_meet(rule, other)) return false;
  if (!c.complete || has_symbol(rule.subject) || has_symbol(other.subject)) return true;
  bool any = false;
  for (const ir::LabelSet& pod : c.pods) {
    if (!rule.subject.matches(pod)) continue;
    any = true;
    if (other.subject.matches(pod)) return true;
  }
  return !any;
}

// Names lead to no DNS server: their own addresses come from DNS.
bool names_only(const ir::RuleItem& item) {
  return !item.peers.empty() &&
         std::all_of(item.peers.begin(), item.peers.end(),
                     [](const ir::Peer& p) { return p.kind == ir::PeerKind::Fqdn; });
}

Dns look(const Context& c, const ir::Rule& rule) {
  Dns dns;
  // Rules of other deployment sets count, too: the DNS rules of a cluster often lie with its
  // network plugin, far from the policies that live on them.
  for (const ir::Rule& candidate : c.rules()) {
    const ir::Rule* other = &candidate;
    if (!may_help(c, rule, *other)) continue;
    if (denies_by_default(*other, ir::Direction::Egress) && c.subject_covers(*other, rule)) {
      dns.default_deny = true;
    }
    for (const ir::RuleItem& item : other->items) {
      if (item.direction != ir::Direction::Egress || item.deny) continue;
      const bool udp = !names_only(item) && item_may_allow(item, ir::kProtoUdp, 53);
      const bool tcp = !names_only(item) && item_may_allow(item, ir::kProtoTcp, 53);
      dns.over_udp = dns.over_udp || udp;
      dns.over_tcp = dns.over_tcp || tcp;
      if (udp || tcp) {
        dns.may_ask = true;
        if (dns.example == nullptr || other == &rule) dns.example = &item;
      }
      for (const ir::PortRule& ports : item.ports) {
        if (ports.l7.dns.empty() || !contributes(item)) continue;
        dns.seen = true;
        dns.may_ask = true;  // on whatever port
        for (const ir::DnsRule& r : ports.l7.dns) {
          dns.patterns.push_back(&r);
          dns.unknown = dns.unknown || !r.symbol.empty();
        }
      }
    }
  }
  return dns;
}

void check_names(Context& c, const ir::Rule& rule, const ir::RuleItem& item, const Dns& dns) {
  const ir::Peer* first = nullptr;
  for (const ir::Peer& p : item.peers) {
    if (p.kind == ir::PeerKind::Fqdn && first == nullptr) first = &p;
  }
  if (first == nullptr) return;
  if (!dns.seen) {
    const bool one = item.peers.size() == 1;
    const std::string names = one ? fmt::format("`{}`", first->text)
                                  : fmt::format("`{}` and the other names", first->text);
    if (dns.default_deny && !dns.may_ask) {
      Diagnostic& d = c.report(
          DiagCode::DnsBlocked, rule, first->range,
          fmt::format("{} can never be resolved: DNS itself is blocked for these endpoints", names),
          item.origin.path);
      d.notes.push_back(
          "this rule turns on default deny for egress, and no rule of the input allows port 53");
      d.help =
          "allow port 53 (UDP and TCP) to kube-dns with `rules: {dns: [{matchPattern: \"*\"}]}`";
    } else {
      Diagnostic& d = c.report(DiagCode::DnsNotSeen, rule, first->range,
                               fmt::format("{} never {} an address: no rule of the input "
                                           "sends the DNS queries of these endpoints through the "
                                           "proxy",
                                           names, one ? "matches" : "match"),
                               item.origin.path);
      if (dns.example != nullptr) {
        d.labels.push_back({dns.example->origin.range, "DNS can go out here, unseen by the proxy"});
      }
      d.help = "add `rules: {dns: [{matchPattern: \"*\"}]}` to the rule that allows port 53";
    }
    return;
  }
  if (dns.unknown) return;
  for (const ir::Peer& p : item.peers) {
    if (p.kind != ir::PeerKind::Fqdn || has_symbol(p.selector)) continue;
    const bool allowed =
        std::any_of(dns.patterns.begin(), dns.patterns.end(),
                    [&](const ir::DnsRule* r) { return patterns_intersect(r->pattern, p.text); });
    if (allowed) continue;
    Diagnostic& d = c.report(DiagCode::NameNotResolvable, rule, p.range,
                             fmt::format("`{}` can never be resolved: no DNS rule for these "
                                         "endpoints allows such a name",
                                         p.text),
                             item.origin.path);
    std::set<std::string> names;
    for (const ir::DnsRule* r : dns.patterns) names.insert(r->pattern);
    std::string list;
    for (const std::string& n : names) list += (list.empty() ? "`" : ", `") + n + "`";
    d.notes.push_back("names that may be resolved: " + list);
    d.labels.push_back({dns.patterns[0]->range, "DNS rules are here"});
    d.help = fmt::format("add `- matchPattern: \"{}\"` to `rules.dns`", p.text);
  }
}

void check_udp_only(Context& c, const ir::Rule& rule, const ir::RuleItem& item) {
  for (const ir::PortRule& ports : item.ports) {
    if (ports.l7.dns.empty()) continue;
    for (const ir::Port& p : ports.ports) {
      if (p.number != 53 || p.protocol != ir::kProtoUdp || !p.symbol.empty()) continue;
      const Dns dns = look(c, rule);
      if (dns.over_tcp || !dns.default_deny) return;
      c.report(
           DiagCode::DnsOverUdpOnly, rule, p.range,
           "DNS is allowed over UDP only: answers that come truncated cannot be asked for again "
           "over TCP",
           item.origin.path)
          .help = "allow port 53 over TCP, too, or write `protocol: ANY`";
      return;
    }
  }
}

// A pattern whose names can be no names of the cluster, and are not all names.
bool outside_cluster(std::string_view pattern) {
  while (!pattern.empty() && pattern.back() == '.') pattern.remove_suffix(1);
  const std::size_t dot = pattern.rfind('.');
  if (dot == std::string_view::npos || pattern.find('$') != std::string_view::npos) return false;
  const std::string_view last = pattern.substr(dot + 1);
  return last.find('*') == std::string_view::npos && last != "local" && last != "svc" &&
         last != "arpa" && last != "internal" && pattern.find(".svc") == std::string_view::npos;
}

// Whether the item leads to DNS servers only: it carries DNS rules, or is about port 53 alone.
bool only_dns(const ir::RuleItem& item) {
  return !item.all_l4 &&
         std::all_of(item.ports.begin(), item.ports.end(), [](const ir::PortRule& r) {
           return !r.l7.dns.empty() ||
                  std::all_of(r.ports.begin(), r.ports.end(), [](const auto& p) {
                    return p.number == 53 && p.end == 0 && p.name.empty() && p.symbol.empty();
                  });
         });
}

// DNS rules that lead nowhere: beside DNS these endpoints reach names only, and not these.
void unused_names(Context& c, const ir::Rule& rule) {
  if (!denies_by_default(rule, ir::Direction::Egress) || rule.host_subject) return;
  std::vector<const ir::DnsRule*> all, rules;
  for (const ir::RuleItem& item : rule.items) {
    if (item.direction != ir::Direction::Egress || item.deny) continue;
    for (const ir::PortRule& ports : item.ports) {
      for (const ir::DnsRule& r : ports.l7.dns) {
        all.push_back(&r);
        if (r.symbol.empty() && outside_cluster(r.pattern)) rules.push_back(&r);
      }
    }
  }
  if (rules.empty()) return;
  std::vector<const std::string*> names;
  for (const ir::Rule& other : c.rules()) {
    if (!may_help(c, rule, other)) continue;
    if (!other.symbol.empty() || has_symbol(other.subject)) return;
    for (const ir::RuleItem& item : other.items) {
      if (item.direction != ir::Direction::Egress || item.deny || only_dns(item)) continue;
      if (!names_only(item)) {
        if (contributes(item)) return;  // what is resolved may be reached by address
        continue;
      }
      for (const ir::Peer& p : item.peers) {
        if (has_symbol(p.selector)) return;
        names.push_back(&p.text);
        // A name that cannot be resolved is the better half of the same finding (POL0312).
        if (&other == &rule && std::none_of(all.begin(), all.end(), [&](const ir::DnsRule* r) {
              return patterns_intersect(r->pattern, p.text);
            })) {
          return;
        }
      }
    }
  }
  if (names.empty()) return;  // a policy about DNS alone: others say what may be reached
  for (const ir::DnsRule* r : rules) {
    const bool met = std::any_of(names.begin(), names.end(), [&](const std::string* name) {
      return patterns_intersect(r->pattern, *name);
    });
    if (met) continue;
    c.report(DiagCode::DnsRuleUnused, rule, r->range,
             fmt::format("`{}` can be resolved, and not be reached: no toFQDNs entry of these "
                         "endpoints names it",
                         r->pattern))
        .help = "add the name to `toFQDNs`, or take it away here";
  }
}

}  // namespace

void check_dns(Context& c) {
  for (const ir::Rule& rule : c.rules()) {
    unused_names(c, rule);
    std::optional<Dns> dns;
    for (const ir::RuleItem& item : rule.items) {
      if (item.direction != ir::Direction::Egress || item.deny || rule.host_subject) continue;
      check_udp_only(c, rule, item);
      if (std::none_of(item.peers.begin(), item.peers.end(),
                       [](const ir::Peer& p) { return p.kind == ir::PeerKind::Fqdn; })) {
        continue;
      }
      if (!dns) dns = look(c, rule);
      check_names(c, rule, item, *dns);
    }
  }
}

}  // namespace policyc::checks
