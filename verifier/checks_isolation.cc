#include <fmt/format.h>

#include <algorithm>

#include "ir/base/diag_code.h"
#include "ir/base/text.h"
#include "verifier/checks_context.h"

namespace policyc::checks {
namespace {

using ir::Direction;

// In lower case, with dashes for what else divides words.
std::string in_dashes(const std::string& text) {
  std::string out = lower(text);
  for (char& ch : out) {
    if (ch == ' ' || ch == '_') ch = '-';
  }
  return out;
}

// The words by which a policy calls itself a default deny; empty where it does not.
std::string default_deny_words(const std::string& text) {
  const std::string t = in_dashes(text);
  for (const char* words : {"default-deny", "deny-all", "deny-by-default"}) {
    if (t.find(words) != std::string::npos) return words;
  }
  return "";
}

// Who is let in on every port, as the policy writes it; nullptr where it is nobody in particular.
const ir::Peer* lets_many_in(const ir::RuleItem& item) {
  if (item.deny || !contributes(item)) return nullptr;
  const bool all_ports =
      item.all_l4 || std::any_of(item.ports.begin(), item.ports.end(), [](const ir::PortRule& r) {
        return r.l7.empty() && std::any_of(r.ports.begin(), r.ports.end(), [](const ir::Port& p) {
                 return p.protocol == ir::kProtoTcp && p.number == 0 && p.end == 0 &&
                        p.name.empty() && p.symbol.empty();
               });
      });
  if (!all_ports) return nullptr;
  for (const ir::Peer& p : item.peers) {
    if (p.selector.wildcard()) return &p;
    if (p.kind == ir::PeerKind::Entity && (p.text == "cluster" || p.text == "world")) return &p;
  }
  return nullptr;
}

void default_deny_allows(Context& c, const ir::Rule& rule) {
  const ir::Policy& policy = c.policy_of(rule);
  std::string words = default_deny_words(policy.ref.name);
  const bool by_name = !words.empty();
  if (!by_name) words = default_deny_words(rule.description);
  if (words.empty() || rule.host_subject) return;
  // `default-deny-ingress` speaks of one direction only; so does `allow-x-in-default-deny` of none.
  const std::string text = in_dashes(by_name ? policy.ref.name : rule.description);
  if (text.find("allow") != std::string::npos || text.find("except") != std::string::npos) return;
  const bool ingress_only = text.find("ingress") != std::string::npos;
  const bool egress_only = text.find("egress") != std::string::npos;
  for (const ir::RuleItem& item : rule.items) {
    const bool ingress = item.direction == Direction::Ingress;
    if (ingress_only != egress_only && ingress != ingress_only) continue;
    const ir::Peer* peer = lets_many_in(item);
    if (peer == nullptr) continue;
    const std::string who = peer->selector.wildcard() ? "everybody"
                            : peer->text == "world"   ? "everybody outside the cluster"
                                                      : "the whole cluster";
    Diagnostic& d =
        c.report(DiagCode::DefaultDenyAllows, rule, peer->range,
                 fmt::format("`{}` calls itself a default deny, and lets {} {} on every port",
                             policy.ref.name, who, ingress ? "in" : "be reached"),
                 item.origin.path);
    if (peer->text == "cluster") {
      d.notes.push_back("`cluster` is every pod of every namespace, all nodes and the host");
    }
    for (const ir::RuleItem& other : rule.items) {
      const bool dns = std::any_of(other.ports.begin(), other.ports.end(),
                                   [](const ir::PortRule& r) { return !r.l7.dns.empty(); });
      if (!dns || !item.all_l4 || other.direction != item.direction) continue;
      if (!peers_cover(item, other, c.world.settings)) continue;
      d.labels.push_back({other.origin.range,
                          "so this allows nothing more; it only shows DNS queries to the proxy"});
    }
    d.help = fmt::format(
        "write `{}: [{{}}]` here, and allow what is needed in policies of their "
        "own",
        ir::direction_name(item.direction));
  }
}

// Whether something in force with the rule may allow anything to its endpoints.
bool something_allowed(const Context& c, const ir::Rule& rule, Direction direction) {
  for (const ir::Rule* other : c.companions(rule, false)) {
    if (!c.subjects_may_meet(rule, *other)) continue;
    for (const ir::RuleItem& item : other->items) {
      if (item.direction == direction && !item.deny && contributes(item)) return true;
    }
  }
  return false;
}

void deny_only(Context& c, const ir::Rule& rule, Direction direction) {
  if (!denies_by_default(rule, direction) || c.is_netpol(rule)) return;
  const ir::RuleItem* first = nullptr;
  for (const ir::RuleItem& item : rule.items) {
    if (item.direction != direction) continue;
    if (!item.deny || item.origin.policy != rule.policy) return;
    if (is_all_peers(item) && item.all_l4) return;  // says so itself
    if (first == nullptr && contributes(item)) first = &item;
  }
  if (first == nullptr || something_allowed(c, rule, direction)) return;
  const bool ingress = direction == Direction::Ingress;
  Diagnostic& d = c.report(
      DiagCode::DenyOnlyIsolates, rule, first->origin.range,
      fmt::format("deny rules turn on default deny, and nothing here allows any {}: all of "
                  "it is dropped",
                  ir::direction_name(direction)),
      first->origin.path);
  d.help = fmt::format("add `enableDefaultDeny: {{{}: false}}` to deny only what is named",
                       ingress ? "ingress" : "egress");
}

void empty_sections(Context& c, const ir::Rule& rule) {
  if (c.is_netpol(rule)) return;
  const auto isolated_elsewhere = [&](Direction d) -> const ir::Rule* {
    // A clusterwide default deny of another set isolates, too.
    for (const ir::Rule& other : c.rules()) {
      if (denies_by_default(other, d) && c.subject_covers(other, rule)) return &other;
    }
    return nullptr;
  };
  const auto empty = [&](Direction d, bool is_empty, bool asked) {
    const std::string key(ir::direction_name(d));
    if (has_direction(rule, d)) return;
    if (is_empty) {
      Diagnostic& out =
          c.report(DiagCode::EmptySection, rule, c.key_range(rule.origin.range, key),
                   fmt::format("`{}: []` does nothing: it does not turn on default deny", key),
                   rule.origin.path + "." + key);
      out.help = fmt::format("write `{}: [{{}}]` to deny everything", key);
      if (const ir::Rule* other = isolated_elsewhere(d)) {
        out.severity = Severity::Note;
        out.notes.push_back(fmt::format("{} already denies by default here", c.name(*other)));
      }
    } else if (asked) {
      c.report(DiagCode::DefaultDenyWithoutItems, rule,
               c.key_range(rule.origin.range, "enableDefaultDeny"),
               fmt::format("`enableDefaultDeny.{}` does nothing without an item in `{}`", key, key))
          .help = fmt::format("add `{}: [{{}}]`", key);
    }
  };
  empty(Direction::Ingress, rule.empty_ingress, rule.asked_deny_ingress);
  empty(Direction::Egress, rule.empty_egress, rule.asked_deny_egress);
  if (!rule.has_ingress && !rule.has_egress && !rule.empty_ingress && !rule.empty_egress &&
      !rule.asked_deny_ingress && !rule.asked_deny_egress) {
    c.report(DiagCode::NoSections, rule, rule.origin.range,
             "this rule has neither ingress nor egress, and does nothing")
        .help = "add `ingress: [{}]` or `egress: [{}]` to deny everything, or delete the rule";
  }
}

}  // namespace

void check_isolation(Context& c) {
  for (const ir::Rule& rule : c.rules()) {
    default_deny_allows(c, rule);
    deny_only(c, rule, Direction::Ingress);
    deny_only(c, rule, Direction::Egress);
    empty_sections(c, rule);
  }
}

}  // namespace policyc::checks
