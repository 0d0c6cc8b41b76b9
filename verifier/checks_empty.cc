#include "verifier/checks_empty.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/base/diag_code.h"
#include "ir/base/text.h"
#include "verifier/checks_context.h"

namespace policyc::checks {
namespace {

using ir::Direction;

// `toPorts: [{}]`, `icmps: [{fields: []}]`: an entry that names nothing matches nothing.
void empty_entries(Context& c, const ir::Rule& rule, const ir::RuleItem& item) {
  for (const ir::PortRule& ports : item.ports) {
    if (!ports.ports.empty()) continue;
    const bool all = std::all_of(item.ports.begin(), item.ports.end(),
                                 [](const ir::PortRule& p) { return p.ports.empty(); });
    const char* verb = item.deny ? "denies" : "allows";
    const SourceRange key = c.key_range(item.origin.range, "icmps");
    const bool icmp = !(key == item.origin.range);
    const char* what = icmp ? "ICMP type" : "port";
    Diagnostic& d = c.report(DiagCode::EmptyPortEntry, rule, ports.range,
                             fmt::format("this entry lists no {}, so {} {} nothing", what,
                                         all ? "the whole item" : "it", verb),
                             item.origin.path);
    if (!ports.l7.empty() || ports.listener || !ports.server_names.empty()) {
      d.notes.emplace_back("what else the entry says has no effect");
    }
    d.help = icmp ? "list types, such as `fields: [{type: 8}]` for ping"
                  : "list ports, or leave `toPorts` out for every port and protocol";
  }
}

// Where `key: []` is written inside the text, outside comments.
std::vector<SourceRange> empty_lists(const Context& c, SourceRange within, std::string_view key) {
  std::vector<SourceRange> out;
  const std::string_view text = c.sources.slice(within);
  for (std::size_t at = text.find(key); at != std::string_view::npos; at = text.find(key, at + 1)) {
    const std::size_t line =
        text.rfind('\n', at) == std::string_view::npos ? 0 : text.rfind('\n', at) + 1;
    const std::string_view before = text.substr(line, at - line);
    const bool begins =
        before.empty() || std::string_view(" \t{,").find(before.back()) != std::string_view::npos;
    std::size_t end = at + key.size();
    if (!begins || before.find_first_of("#\"'|>") != std::string_view::npos || end >= text.size() ||
        text[end] != ':') {
      continue;
    }
    end = text.find_first_not_of(" \t", end + 1);
    if (end == std::string_view::npos || text.substr(end, 2) != "[]") continue;
    out.push_back({within.file, static_cast<std::uint32_t>(within.begin + at),
                   static_cast<std::uint32_t>(within.begin + end + 2)});
  }
  return out;
}

void no_restriction(Context& c, const ir::Rule& rule) {
  const bool netpol = c.is_netpol(rule);
  const char* key = netpol ? "ports" : "toPorts";
  const bool some = std::any_of(rule.items.begin(), rule.items.end(),
                                [](const ir::RuleItem& item) { return item.all_l4; });
  if (!some) return;
  for (const SourceRange at : empty_lists(c, rule.origin.range, key)) {
    const ir::RuleItem* inside = nullptr;
    for (const ir::RuleItem& item : rule.items) {
      const SourceRange r = item.origin.range;
      if (r.file == at.file && r.begin <= at.begin && at.end <= r.end) inside = &item;
    }
    if (!netpol && (inside == nullptr || !inside->all_l4 || !contributes(*inside))) continue;
    c.report(netpol ? DiagCode::EmptyPortsMeanAll : DiagCode::EmptyToPorts, rule, at,
             fmt::format("`{}: []` restricts nothing: every port and protocol is meant", key),
             inside != nullptr ? inside->origin.path : "")
        .help = fmt::format("leave `{}` out where this is meant, or list the ports", key);
  }
}

// Whether the name says that the policy lets something through in some direction.
bool says_allow(const std::string& name) {
  const std::string text = lower(name);
  for (const char* other : {"deny", "block", "isolat", "restrict", "lock", "only", "except", "no-",
                            "none", "nothing", "not", "disallow"}) {
    if (text.find(other) != std::string::npos) return false;
  }
  for (const char* words : {"allow-all", "allow-any", "allow-ingress", "allow-egress", "allow-from",
                            "allow-to", "permit-all", "permit-any"}) {
    if (text.find(words) != std::string::npos) return true;
  }
  return false;
}

// A policy called `allow-…` that isolates and of which no item lets anything through.
void allows_nothing(Context& c) {
  const auto& policies = c.world.policies.policies;
  std::vector<const ir::Rule*> first(policies.size(), nullptr);
  std::vector<char> speaks(policies.size(), 0);
  for (const ir::Rule& rule : c.rules()) {
    if (first[rule.policy] == nullptr) first[rule.policy] = &rule;
    for (const ir::RuleItem& item : rule.items) {
      // Whatever lets something through, denies, or is already called dead for a reason of its own.
      if (item.deny || contributes(item) || item.services_unmatched) speaks[rule.policy] = 1;
    }
  }
  for (const ir::Rule& rule : c.rules()) {
    const ir::Policy& policy = policies[rule.policy];
    if (first[rule.policy] != &rule || speaks[rule.policy] != 0 || rule.host_subject ||
        !says_allow(policy.ref.name)) {
      continue;
    }
    const bool in = denies_by_default(rule, Direction::Ingress);
    const bool out = denies_by_default(rule, Direction::Egress);
    if (!in && !out) continue;
    const bool both = in && out;
    const std::string direction = both ? "ingress and egress" : in ? "ingress" : "egress";
    const SourceRange at =
        rule.items.empty() ? rule.origin.range
                           : c.key_range(rule.origin.range,
                                         std::string(ir::direction_name(rule.items[0].direction)));
    Diagnostic& d = c.report(DiagCode::AllowsNothing, rule, at,
                             fmt::format("`{}` says that it allows something, and only isolates: "
                                         "it blocks all {} that no other policy allows",
                                         policy.ref.name, direction));
    if (c.is_netpol(rule)) {
      d.notes.push_back(fmt::format("the policy isolates {}, and no rule allows any", direction));
      d.help = fmt::format("write `{}: [{{}}]` to allow everything", in ? "ingress" : "egress");
    } else {
      d.notes.emplace_back(
          "an item without peers and ports allows nothing in a Cilium policy; in "
          "a NetworkPolicy it allows everything");
      d.help = fmt::format("write `{}: [{{{}Entities: [all]}}]` to allow everything",
                           in ? "ingress" : "egress", in ? "from" : "to");
    }
  }
}

}  // namespace

void check_empty(Context& c) {
  for (const ir::Rule& rule : c.rules()) {
    for (const ir::RuleItem& item : rule.items) empty_entries(c, rule, item);
    no_restriction(c, rule);
  }
  allows_nothing(c);
}

}  // namespace policyc::checks
