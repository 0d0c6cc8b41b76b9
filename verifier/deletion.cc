#include "verifier/deletion.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "ir/connectivity.h"
#include "ir/identity.h"
#include "ir/resolve.h"

namespace policyc {
namespace {

template <class T>
void take_out(std::vector<T>& list, const std::vector<std::size_t>& members) {
  std::vector<T> kept;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (std::find(members.begin(), members.end(), i) == members.end()) {
      kept.push_back(std::move(list[i]));
    }
  }
  list = std::move(kept);
}

// What one cell says, all of it.
std::string record_text(const ir::PolicyTable& table, std::size_t cell) {
  const ir::VerdictRecord& r = table.records[table.cells[cell]];
  std::string out = fmt::format("{} {} {} {}", ir::verdict_name(r.verdict),
                                ir::reason_name(r.reason), r.parser, static_cast<int>(r.priority));
  if (r.auth) {
    out += fmt::format(" auth {}{}", ir::auth_name(r.auth->type),
                       r.auth->is_explicit ? " explicit" : "");
  }
  if (const ir::ProxyFilter* f = table.filter(cell)) out += "\n" + f->text();
  return out;
}

using Probe = std::pair<ir::IdentityIndex, ir::IdentityIndex>;

std::optional<Difference> compare_tables(const ir::PolicyTable& a, const ir::PolicyTable& b,
                                         const std::vector<Probe>& probes,
                                         const std::vector<ir::Identity>& identities,
                                         const SameRequests& same) {
  const auto same_filter = [&](const ir::ProxyFilter* x, const ir::ProxyFilter* y) {
    if (x == nullptr || y == nullptr) return x == y;
    return x->text() == y->text() || (same && same(*x, *y));
  };
  std::set<ir::L4Key> keys(a.column_begin.begin(), a.column_begin.end());
  keys.insert(b.column_begin.begin(), b.column_begin.end());
  std::vector<std::pair<std::size_t, std::size_t>> columns;
  for (const ir::L4Key k : keys) columns.emplace_back(a.column(k), b.column(k));
  std::set<std::pair<std::uint32_t, std::uint32_t>> seen;
  for (const auto& [x, y] : probes) {
    const std::uint32_t p = a.class_of[x], q = b.class_of[y];
    if (!seen.insert({p, q}).second) continue;
    std::size_t k = 0;
    for (const auto& [c, d] : columns) {
      const std::size_t at = p * a.columns() + c, bt = q * b.columns() + d;
      if (!(a.records[a.cells[at]] == b.records[b.cells[bt]]) ||
          !same_filter(a.filter(at), b.filter(bt))) {
        Difference out;
        out.peer = identities[x].labels;
        out.key = *std::next(keys.begin(), static_cast<std::ptrdiff_t>(k));
        out.before = record_text(a, at);
        out.after = record_text(b, bt);
        return out;
      }
      ++k;
    }
  }
  return std::nullopt;
}

}  // namespace

ir::PolicySet without(const ir::PolicySet& policies, const Part& part) {
  ir::PolicySet out = policies;
  if (part.kind == Part::Kind::Policy) {
    std::erase_if(out.rules, [&](const ir::Rule& r) { return r.policy == part.policy; });
    return out;
  }
  ir::Rule& rule = out.rules[part.rule];
  ir::RuleItem& item = rule.items[part.item];
  const auto l7 = [&](auto& list) {
    if (!list.empty()) take_out(list, part.members);
  };
  switch (part.kind) {
    case Part::Kind::Policy:
      break;
    case Part::Kind::Item: {
      const ir::Direction d = item.direction;
      rule.items.erase(rule.items.begin() + static_cast<std::ptrdiff_t>(part.item));
      if (std::none_of(rule.items.begin(), rule.items.end(),
                       [&](const ir::RuleItem& i) { return i.direction == d; })) {
        (d == ir::Direction::Ingress ? rule.has_ingress : rule.has_egress) = false;
      }
      break;
    }
    case Part::Kind::Peers:
      take_out(item.peers, part.members);
      break;
    case Part::Kind::Ports:
      take_out(item.ports[part.port_rule].ports, part.members);
      break;
    case Part::Kind::L7: {
      ir::L7Rules& rules = item.ports[part.port_rule].l7;
      l7(rules.http);
      l7(rules.kafka);
      l7(rules.dns);
      l7(rules.generic);
      break;
    }
    case Part::Kind::Restriction: {
      // The entry is divided: the ports that are meant, with a rule that every request meets.
      ir::PortRule open = item.ports[part.port_rule];
      open.ports.clear();
      for (const std::size_t m : part.members) {
        open.ports.push_back(item.ports[part.port_rule].ports[m]);
      }
      if (!open.l7.http.empty()) open.l7.http.emplace_back();
      if (!open.l7.kafka.empty()) open.l7.kafka.emplace_back();
      if (!open.l7.dns.empty()) open.l7.dns.push_back({"*", "", {}});
      take_out(item.ports[part.port_rule].ports, part.members);
      if (item.ports[part.port_rule].ports.empty()) {
        item.ports[part.port_rule] = std::move(open);
      } else {
        item.ports.push_back(std::move(open));
      }
      break;
    }
  }
  return out;
}

std::optional<Difference> first_difference(const ir::World& before, const ir::World& after,
                                           const SameRequests& same) {
  ir::ResolveOptions options;
  if (!before.inventory.fqdn) {
    std::set<std::string> names;
    for (const ir::World* w : {&before, &after}) {
      const auto mine = ir::policy_names(w->policies);
      names.insert(mine.begin(), mine.end());
    }
    options.names.assign(names.begin(), names.end());
  }
  const ir::Resolved a = ir::resolve(before, options);
  const ir::Resolved b = ir::resolve(after, options);
  std::map<ir::LabelSet, ir::IdentityIndex> by_labels;
  for (ir::IdentityIndex i = 0; i < b.identities.size(); ++i) by_labels[b.identities[i].labels] = i;
  std::vector<Probe> everybody;
  // Nobody is of one family alone where a cluster has only that one.
  const auto exists = [&](const ir::LabelSet& labels) {
    return before.settings.dual_stack() || (labels != ir::entity_identity("world-ipv4") &&
                                            labels != ir::entity_identity("world-ipv6"));
  };
  for (ir::IdentityIndex i = 0; i < a.identities.size(); ++i) {
    if (!exists(a.identities[i].labels)) continue;
    const auto it = by_labels.find(a.identities[i].labels);
    if (it != by_labels.end()) everybody.emplace_back(i, it->second);
  }
  const auto add_name = [&](const std::string& name) {
    const auto mine = ir::name_identity(before, name);
    for (ir::IdentityIndex i = 0; i < a.identities.size(); ++i) {
      const auto it = by_labels.find(ir::name_identity(after, name));
      if (a.identities[i].labels == mine && it != by_labels.end()) {
        everybody.emplace_back(i, it->second);
      }
    }
  };
  for (const std::string& name : options.names) add_name(name);

  for (std::size_t v = 0; v < a.views.size(); ++v) {
    const ir::NodeView &va = a.views[v], &vb = b.views[v];
    std::vector<Probe> probes = everybody;
    probes.emplace_back(va.host, vb.host);
    // An address of each block that the longer blocks of both worlds leave over.
    std::set<ir::Prefix> blocks;
    for (const ir::NodeView* view : {&va, &vb}) {
      for (const auto& [prefix, identity] : view->ipcache) blocks.insert(prefix);
    }
    const std::vector<ir::Prefix> all(blocks.begin(), blocks.end());
    for (const ir::Prefix& p : all) {
      const auto at = ir::address_outside(p, all);
      if (at) probes.emplace_back(va.identity_of(*at), vb.identity_of(*at));
    }
    std::map<std::size_t, const ir::ResolvedEndpoint*> by_pod;
    const ir::ResolvedEndpoint* host = nullptr;
    for (const ir::ResolvedEndpoint& ep : vb.endpoints) {
      for (const std::size_t pod : ep.pods) by_pod[pod] = &ep;
      if (ep.host) host = &ep;
    }
    std::set<std::pair<const ir::PolicyTable*, const ir::PolicyTable*>> done;
    const auto compare = [&](const ir::ResolvedEndpoint& x, const ir::ResolvedEndpoint& y,
                             std::size_t pod) -> std::optional<Difference> {
      if (!x.error.empty() || !y.error.empty()) {
        if (x.error.empty() == y.error.empty()) return std::nullopt;
        Difference out;
        out.pod = pod;
        out.before = x.error.empty() ? "policy in force" : "frozen: " + x.error;
        out.after = y.error.empty() ? "policy in force" : "frozen: " + y.error;
        return out;
      }
      for (const bool ingress : {true, false}) {
        const ir::PolicyTable& p = ingress ? *x.ingress : *x.egress;
        const ir::PolicyTable& q = ingress ? *y.ingress : *y.egress;
        if (!done.insert({&p, &q}).second) continue;
        auto difference = compare_tables(p, q, probes, a.identities, same);
        if (!difference) continue;
        difference->pod = pod;
        difference->direction = ingress ? ir::Direction::Ingress : ir::Direction::Egress;
        return difference;
      }
      return std::nullopt;
    };
    for (const ir::ResolvedEndpoint& ep : va.endpoints) {
      if (ep.host && host != nullptr) {
        if (auto d = compare(ep, *host, SIZE_MAX)) return d;
      }
      for (const std::size_t pod : ep.pods) {
        if (auto d = compare(ep, *by_pod.at(pod), pod)) return d;
      }
    }
  }
  return std::nullopt;
}

}  // namespace policyc
