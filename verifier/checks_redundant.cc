// Parts of policies that others make superfluous, and allows that denies overrule. Everything here
// is proved by taking the part away (verifier/redundancy.h); what could not be decided is not said.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "ir/base/diag_code.h"
#include "ir/identity.h"
#include "verifier/checks_context.h"
#include "verifier/redundancy.h"
#include "verifier/scene_judge.h"
#include "verifier/scene_text.h"

namespace policyc::checks {
namespace {

using ir::Direction;
using Answer = Redundancy::Answer;

// Policies that are certainly deployed together, as a world of their own.
struct Together {
  ir::World world;
  std::vector<std::size_t> origin;         // by rule: its index in the whole world
  std::vector<std::size_t> policies;       // by policy: likewise
  std::map<SourceRange, int> occurrences;  // of the text of items, peers and ports
};

// Whether the text stands for more than this part: by an anchor or an alias, or because several
// parts come of it.
bool shared_text(const Context& c, const Together& t, SourceRange range) {
  const std::string_view text = c.sources.slice(range);
  if (!text.empty() && (text.front() == '*' || text.front() == '&')) return true;
  const auto it = t.occurrences.find(range);
  return it != t.occurrences.end() && it->second > 1;
}

// The groups, in the order of their first policies.
std::vector<Together> groups(const Context& c) {
  std::map<std::size_t, std::size_t> index;  // by deployment
  std::vector<std::vector<std::size_t>> rules;
  for (std::size_t i = 0; i < c.rules().size(); ++i) {
    const auto [it, fresh] = index.try_emplace(c.deployment[c.rules()[i].policy], rules.size());
    if (fresh) rules.emplace_back();
    rules[it->second].push_back(i);
  }
  ir::Inventory inventory;  // without what the open world does not look at
  inventory.nodes = c.world.inventory.nodes;
  inventory.endpoints = c.world.inventory.endpoints;
  inventory.cidr_groups = c.world.inventory.cidr_groups;
  std::vector<Together> out;
  for (const auto& members : rules) {
    Together& t = out.emplace_back();
    t.world.settings = c.world.settings;
    t.world.inventory = inventory;
    std::map<std::size_t, std::size_t> policy;
    for (const std::size_t i : members) {
      ir::Rule rule = c.rules()[i];
      const auto [it, fresh] = policy.try_emplace(rule.policy, policy.size());
      if (fresh) {
        t.world.policies.policies.push_back(c.policy_of(rule));
        t.policies.push_back(rule.policy);
      }
      rule.policy = it->second;
      rule.origin.policy = it->second;
      std::set<SourceRange> here;  // a list of a NetworkPolicy repeats its ports
      for (ir::RuleItem& item : rule.items) {
        item.origin.policy = it->second;
        ++t.occurrences[item.origin.range];
        for (const ir::PortRule& pr : item.ports) {
          for (const ir::Port& p : pr.ports) here.insert(p.range);
          // One anchor may give names to `toFQDNs` and to the DNS rules.
          for (const ir::DnsRule& d : pr.l7.dns) ++t.occurrences[d.range];
        }
        std::set<SourceRange> peers;
        for (const ir::Peer& p : item.peers) peers.insert(p.range);
        peers.erase(item.origin.range);
        here.insert(peers.begin(), peers.end());
      }
      for (const SourceRange r : here) ++t.occurrences[r];
      t.world.policies.rules.push_back(std::move(rule));
      t.origin.push_back(i);
    }
  }
  return out;
}

bool ports_cover(const ir::RuleItem& wide, const ir::RuleItem& narrow) {
  if (wide.all_l4) return true;
  if (narrow.all_l4) return false;
  const auto covered = [&](const ir::Port& n) {
    return std::any_of(wide.ports.begin(), wide.ports.end(), [&](const ir::PortRule& w) {
      return std::any_of(w.ports.begin(), w.ports.end(),
                         [&](const ir::Port& p) { return port_covers(p, n); });
    });
  };
  return std::all_of(narrow.ports.begin(), narrow.ports.end(), [&](const ir::PortRule& r) {
    return std::all_of(r.ports.begin(), r.ports.end(), covered);
  });
}

// Whether two items without L7 rules name the same peers and ports, in whatever order.
bool same_meaning(const ir::RuleItem& a, const ir::RuleItem& b) {
  const auto text = [](const ir::RuleItem& item) {
    std::set<std::string> parts;
    for (const ir::Peer& p : item.peers) parts.insert("peer " + p.selector.text());
    for (const ir::PortRule& r : item.ports) {
      if (r.l7.parser != ir::Parser::None) parts.insert("L7");
      for (const ir::Port& p : r.ports) {
        parts.insert(fmt::format("port {}-{}/{}", p.text, p.end, p.protocol));
      }
    }
    return parts;
  };
  return a.all_l4 == b.all_l4 && a.any_peer == b.any_peer && text(a) == text(b) &&
         text(a).count("L7") == 0;
}

// Somebody in particular is named, beside a `cluster` or `all` that takes everybody in on every
// port: one of the two is not meant. Everything else may be meant for the reader.
bool contradictory(const ir::RuleItem& wide, const ir::RuleItem& narrow, const ir::Peer* cover) {
  if (!wide.all_l4 || cover == nullptr || cover->kind != ir::PeerKind::Entity) return false;
  return std::any_of(narrow.peers.begin(), narrow.peers.end(), [](const ir::Peer& p) {
    return p.kind == ir::PeerKind::Endpoint &&
           std::any_of(p.selector.requirements.begin(), p.selector.requirements.end(),
                       [](const ir::Requirement& r) {
                         return r.key != ir::kNamespaceKey && r.key != ir::kClusterKey;
                       });
  });
}

// The selector as if `k8s:` were written nowhere.
std::string without_source(const ir::Selector& selector) {
  ir::Selector plain = selector;
  for (ir::Requirement& r : plain.requirements) {
    if (r.source == "k8s") r.source = "any";
  }
  return plain.text();
}

bool has_reserved(const ir::Selector& selector, std::string_view name) {
  return std::any_of(
      selector.requirements.begin(), selector.requirements.end(),
      [&](const ir::Requirement& r) { return r.source == "reserved" && r.key == name; });
}

class Search {
 public:
  Search(Context& c, const Together& t)
      : c_(c),
        t_(t),
        universe_(t.world),
        judge_(t.world),
        base_(t.world, universe_, every_rule(t.world),
              [this](std::size_t a, std::size_t b) { return usable(a, b); }) {
    base_.listener = c.options.proofs;
    base_.decider = c.options.decider;
  }
  void run();

 private:
  static std::vector<std::size_t> every_rule(const ir::World& world) {
    std::vector<std::size_t> out(world.policies.rules.size());
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = i;
    return out;
  }
  const ir::Rule& rule(std::size_t i) const { return t_.world.policies.rules[i]; }
  const ir::Rule& whole(std::size_t i) const { return c_.rules()[t_.origin[i]]; }
  const ir::RuleItem& item(ItemRef r) const { return rule(r.rule).items[r.item]; }
  bool usable(std::size_t a, std::size_t b) const;

  void policies();
  void policy(std::size_t index);
  void items(std::size_t index);
  Part part_of(ItemRef at, Part::Kind kind) const {
    Part out;
    out.kind = kind;
    out.policy = rule(at.rule).policy;
    out.rule = at.rule;
    out.item = at.item;
    return out;
  }
  bool one_item(ItemRef at);
  void covered_item(ItemRef at, const Redundancy& found);
  Diagnostic& dead_allow(ItemRef at, const Redundancy& found, SourceRange range,
                         std::string message, Severity severity);
  bool idiom(ItemRef at, const Redundancy& found) const;
  void peers(ItemRef at);
  void ports(ItemRef at);
  void void_l7(ItemRef at);
  bool entity_in_cluster(ItemRef at, SourceRange entry, const Redundancy& found);
  void api_server(ItemRef at);
  void overlaps();
  bool confirmed(const Part& part, const Redundancy& found) const;
  std::optional<Fix> deletion(SourceRange entry, std::string description) const;

  bool same_rule(ItemRef at, const std::vector<ItemRef>& causes) const {
    return std::all_of(causes.begin(), causes.end(), [&](ItemRef r) { return r.rule == at.rule; });
  }
  bool same_policy(ItemRef at, const std::vector<ItemRef>& causes) const {
    return std::all_of(causes.begin(), causes.end(),
                       [&](ItemRef r) { return rule(r.rule).policy == rule(at.rule).policy; });
  }
  // Labels to the causes, the flow that shows the finding, the world in which it holds.
  void explain(Diagnostic& d, const Redundancy& r, ItemRef self, const std::string& label);
  std::string place(ItemRef of, ItemRef from) const;
  std::string places(const std::vector<ItemRef>& causes, ItemRef from) const;

  Context& c_;
  const Together& t_;
  Universe universe_;
  SceneJudge judge_;
  RuleBase base_;
  std::set<std::size_t> gone_;           // policies that were reported as a whole
  std::set<SourceRange> said_entities_;  // those that were reported
};

bool Search::usable(std::size_t a, std::size_t b) const {
  const ir::Policy& mine = t_.world.policies.policies[rule(a).policy];
  const ir::Policy& other = t_.world.policies.policies[rule(b).policy];
  if (&mine == &other) return true;
  if (c_.has_alternatives[t_.policies[rule(b).policy]] != 0) return false;
  // A namespace that was only guessed is the same as another one only where both were guessed from
  // one place.
  const bool guessed = mine.ns_guessed || other.ns_guessed;
  return !guessed || c_.is_clusterwide(whole(b)) ||
         (mine.ns_guessed == other.ns_guessed && folder_of(mine.file) == folder_of(other.file));
}

std::string Search::place(ItemRef of, ItemRef from) const {
  const ir::Rule& r = rule(of.rule);
  if (r.policy == rule(from.rule).policy) return "`" + r.items[of.item].origin.path + "`";
  return fmt::format("`{}`", t_.world.policies.policies[r.policy].ref.str());
}

std::string Search::places(const std::vector<ItemRef>& causes, ItemRef from) const {
  std::vector<std::string> names;
  for (const ItemRef r : causes) {
    std::string name = place(r, from);
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      names.push_back(std::move(name));
    }
  }
  std::string out;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i > 0) out += i + 1 == names.size() ? " and " : ", ";
    out += names[i];
  }
  return out;
}

void Search::explain(Diagnostic& d, const Redundancy& r, ItemRef self, const std::string& label) {
  constexpr std::size_t kMostLabels = 4;
  std::set<SourceRange> seen = {d.range};
  for (const ItemRef cause : r.causes) {
    const SourceRange range = item(cause).origin.range;
    if (cause == self) continue;
    if (seen.size() <= kMostLabels && seen.insert(range).second) d.labels.push_back({range, label});
  }
  for (const std::size_t keeper : r.isolates) {
    const ir::Rule& k = rule(keeper);
    if (k.policy == rule(self.rule).policy) continue;
    const std::string note = fmt::format(
        "{} keeps the default deny", "`" + t_.world.policies.policies[k.policy].ref.str() + "`");
    if (std::find(d.notes.begin(), d.notes.end(), note) == d.notes.end()) d.notes.push_back(note);
  }
  if (r.inside) {
    if (const auto scene = universe_.scene(*r.inside, r.direction)) {
      d.witness = scene_json(*scene);
    }
  }
  d.notes.emplace_back(c_.complete || universe_.of_this_cluster_only()
                           ? "proved for every pod that could exist in this cluster"
                           : "proved for every pod that could exist");
  d.proof = r.by_solver ? "z3" : "exact";
}

// The evaluator's word on the flow that is about to be shown: the same with and without the part,
// and denied where denies are said to overrule it. True where the flow has no form to be shown in.
bool Search::confirmed(const Part& part, const Redundancy& found) const {
  if (!found.inside) return true;
  const auto scene = universe_.scene(*found.inside, found.direction);
  if (!scene) return true;
  const auto before = judge_.verdict(*scene, found.direction);
  const auto after = judge_.verdict(*scene, found.direction, &part);
  if (found.by_denies && before.reason != ir::Reason::PolicyDeny) return false;
  return before.verdict == after.verdict && before.reason == after.reason &&
         before.parser == after.parser && before.auth == after.auth;
}

// Taking an entry of a list away, where the text shows how: a line or lines of their own in a block
// list, or an entry between brackets. Anchors may be needed elsewhere.
std::optional<Fix> Search::deletion(SourceRange entry, std::string description) const {
  if (!entry.known()) return std::nullopt;
  const std::string& text = c_.sources.text(entry.file);
  if (c_.sources.slice(entry).find('&') != std::string_view::npos) return std::nullopt;
  const auto blank = [](char ch) { return ch == ' '; };
  std::uint32_t begin = entry.begin, end = entry.end;
  while (begin > 0 && blank(text[begin - 1])) --begin;
  while (end > entry.begin && (blank(text[end - 1]) || text[end - 1] == '\n')) --end;
  std::uint32_t after = end;
  while (after < text.size() && blank(text[after])) ++after;
  if (begin == 0) return std::nullopt;
  const char before = text[begin - 1];
  const char next = after < text.size() ? text[after] : '\n';
  if (before == ',' && (next == ',' || next == ']')) {
    return Fix{std::move(description), {{{entry.file, begin - 1, end}, ""}}};
  }
  if (before == '[' && next == ',') {
    while (after + 1 < text.size() && blank(text[after + 1])) ++after;
    return Fix{std::move(description), {{{entry.file, begin, after + 1}, ""}}};
  }
  if (before != '-' || (next != '\n' && next != '#')) return std::nullopt;
  std::uint32_t line = begin - 1;
  while (line > 0 && blank(text[line - 1])) --line;
  if (line > 0 && text[line - 1] != '\n') return std::nullopt;
  const std::size_t last = text.find('\n', after);
  const auto stop = static_cast<std::uint32_t>(last == std::string::npos ? text.size() : last + 1);
  return Fix{std::move(description), {{{entry.file, line, stop}, ""}}};
}

void Search::run() {
  policies();
  for (std::size_t i = t_.world.policies.rules.size(); i-- > 0;) {
    if (gone_.count(rule(i).policy) == 0) items(i);
  }
  overlaps();
}

void Search::policies() {
  if (t_.world.policies.policies.size() < 2) return;
  for (std::size_t p = t_.world.policies.policies.size(); p-- > 0;) policy(p);
}

void Search::policy(std::size_t index) {
  Part part;
  part.policy = index;
  if (c_.has_alternatives[t_.policies[index]] != 0) return;
  std::optional<std::size_t> first;
  for (std::size_t i = 0; i < t_.world.policies.rules.size() && !first; ++i) {
    if (rule(i).policy == index) first = i;
  }
  if (!first) return;
  const Redundancy r = base_.judge(part);
  if (r.answer != Answer::Redundant || !confirmed(part, r)) return;
  const ItemRef self{*first, 0};
  // Who else says all of it, if it is one policy.
  std::set<std::size_t> others;
  for (const ItemRef cause : r.causes) others.insert(rule(cause.rule).policy);
  for (const std::size_t keeper : r.isolates) others.insert(rule(keeper).policy);
  if (others.empty()) return;
  bool equal = false;
  if (others.size() == 1) {
    Part back;
    back.policy = *others.begin();
    const Redundancy b = base_.judge(back);
    const auto mine = [&](std::size_t i) { return rule(i).policy == index; };
    equal = b.answer == Answer::Redundant &&
            std::all_of(b.causes.begin(), b.causes.end(),
                        [&](ItemRef cause) { return mine(cause.rule); }) &&
            std::all_of(b.isolates.begin(), b.isolates.end(), mine);
  }
  const std::string name = t_.world.policies.policies[index].ref.str();
  std::string who;
  for (const std::size_t o : others) {
    who += fmt::format("{}`{}`", who.empty() ? "" : ", ", t_.world.policies.policies[o].ref.str());
  }
  Diagnostic* d = nullptr;
  if (r.by_denies) {
    d = &c_.report(DiagCode::DeadAllow, whole(*first), t_.world.policies.policies[index].range,
                   fmt::format("all that this policy allows is denied by {}", who), "spec");
    d->help = "delete the policy, or confine the deny";
  } else if (equal) {
    d = &c_.report(DiagCode::EqualPolicies, whole(*first), t_.world.policies.policies[index].range,
                   fmt::format("this policy says the same as {}", who), "spec");
    d->help = "delete one of the two";
  } else {
    d = &c_.report(DiagCode::RedundantPolicy, whole(*first),
                   t_.world.policies.policies[index].range,
                   fmt::format("this policy adds nothing to {}", who), "spec");
    d->help = "delete the policy, or confine the others";
  }
  explain(*d, r, self, r.by_denies ? "denied here" : "already allowed here");
  gone_.insert(index);
  base_.retire(part);
}

void Search::items(std::size_t index) {
  const ir::Rule& r = rule(index);
  for (std::size_t i = r.items.size(); i-- > 0;) {
    const ItemRef at{index, i};
    if (!contributes(r.items[i])) continue;
    if (one_item(at)) continue;
    peers(at);
    ports(at);
    void_l7(at);
    api_server(at);
  }
}

// Whether the item was found to be superfluous (said or not).
bool Search::one_item(ItemRef at) {
  const ir::RuleItem& narrow = item(at);
  if (shared_text(c_, t_, narrow.origin.range)) return false;
  Part part = part_of(at, Part::Kind::Item);
  const Redundancy found = base_.judge(part);
  if (found.answer != Answer::Redundant || found.causes.empty() || !confirmed(part, found)) {
    return false;
  }
  const std::string who = places(found.causes, at);
  if (found.by_denies) {
    dead_allow(at, found, narrow.origin.range,
               fmt::format("this item allows nothing: {} {} all of it", who,
                           found.causes.size() > 1 ? "deny" : "denies"),
               Severity::Warning);
  } else if (!same_policy(at, found.causes) || idiom(at, found)) {
    // Policies that stand on their own repeat what a baseline allows.
    return true;
  } else if (narrow.deny) {
    Diagnostic& d = c_.report(DiagCode::UnreachableDeny, whole(at.rule), narrow.origin.range,
                              fmt::format("this deny adds nothing: {} {} all of it", who,
                                          found.causes.size() > 1 ? "deny" : "denies"),
                              narrow.origin.path);
    d.help = "delete the item, or confine the wider one";
    explain(d, found, at, "denied here already");
  } else if (found.causes.size() == 1 && same_rule(at, found.causes)) {
    covered_item(at, found);
  } else {
    Diagnostic& d = c_.report(DiagCode::ShadowedItem, whole(at.rule), narrow.origin.range,
                              fmt::format("this item adds nothing: {} {} all of it", who,
                                          found.causes.size() > 1 ? "together allow" : "allows"),
                              narrow.origin.path);
    d.help = "delete the item, or confine the others";
    explain(d, found, at, "allowed here already");
  }
  base_.retire(part);
  return true;
}

// One other item of the same list allows more.
void Search::covered_item(ItemRef at, const Redundancy& found) {
  const ir::RuleItem& narrow = item(at);
  const ir::RuleItem& wide = item(found.causes.front());
  const bool equal = same_meaning(narrow, wide);
  std::string who = "the same and more";
  const ir::Peer* cover = nullptr;
  if (is_all_peers(wide)) {
    who = "everybody";
  } else if (!narrow.peers.empty()) {
    for (const ir::Peer& p : wide.peers) {
      if (selector_covers(p.selector, narrow.peers[0].selector, c_.world.settings)) {
        cover = &p;
        who = "`" + p.text + "`";
        break;
      }
    }
  }
  Diagnostic& d = c_.report(
      DiagCode::RedundantItem, whole(at.rule), narrow.origin.range,
      fmt::format("this item adds nothing: `{}` allows {} on the same ports, these peers included",
                  wide.origin.path, who),
      narrow.origin.path);
  if (!contradictory(wide, narrow, cover)) d.severity = Severity::Note;
  d.help = "delete the narrower item, or confine the wider one";
  if (equal) d.fix = deletion(narrow.origin.range, "delete the item");
  explain(d, found, at, equal ? "the same is allowed here" : "this allows more");
}

Diagnostic& Search::dead_allow(ItemRef at, const Redundancy& found, SourceRange range,
                               std::string message, Severity severity) {
  Diagnostic& d = c_.report(DiagCode::DeadAllow, whole(at.rule), range, std::move(message),
                            item(at).origin.path);
  d.severity = severity;
  d.help = "delete the allow, or confine the deny";
  const bool foreign = std::any_of(found.causes.begin(), found.causes.end(), [&](ItemRef r) {
    return c_.is_netpol(whole(r.rule)) != c_.is_netpol(whole(at.rule));
  });
  if (foreign) d.notes.emplace_back("a deny of Cilium's wins over what a NetworkPolicy allows");
  explain(d, found, at, "denied here");
  return d;
}

// What is written on purpose, and says nothing of a mistake.
bool Search::idiom(ItemRef at, const Redundancy& found) const {
  const ir::RuleItem& narrow = item(at);
  // The entries of one `from` list of a NetworkPolicy may well overlap.
  if (c_.is_netpol(whole(at.rule))) {
    const auto list = [](const ir::RuleItem& i) {
      return i.origin.path.substr(0, i.origin.path.rfind('.'));
    };
    if (std::all_of(found.causes.begin(), found.causes.end(),
                    [&](ItemRef r) { return list(item(r)) == list(narrow); })) {
      return true;
    }
  }
  // Entities that take one another in (`host`, `cluster`, `kube-apiserver`) stand side by side for
  // the reader, and so do names. The same one again on fewer ports, or word by word, does not.
  const auto repeats = [&](const ir::Peer& p, ItemRef r) {
    const ir::RuleItem& wide = item(r);
    if (narrow.all_l4 && !same_meaning(narrow, wide)) return false;
    return std::any_of(wide.peers.begin(), wide.peers.end(),
                       [&](const ir::Peer& q) { return q.text == p.text && q.kind == p.kind; });
  };
  return std::any_of(narrow.peers.begin(), narrow.peers.end(), [&](const ir::Peer& p) {
    if (p.kind == ir::PeerKind::Service || has_symbol(p.selector)) return true;
    if (p.kind != ir::PeerKind::Entity && p.kind != ir::PeerKind::Fqdn) return false;
    return std::none_of(found.causes.begin(), found.causes.end(),
                        [&](ItemRef r) { return repeats(p, r); });
  });
}

void Search::peers(ItemRef at) {
  const ir::RuleItem& it = item(at);
  std::map<SourceRange, std::vector<std::size_t>> entries;
  for (std::size_t k = 0; k < it.peers.size(); ++k) entries[it.peers[k].range].push_back(k);
  if (entries.size() < 2) return;
  for (auto e = entries.rbegin(); e != entries.rend(); ++e) {
    const ir::Peer& peer = it.peers[e->second.front()];
    if (shared_text(c_, t_, e->first) || peer.kind == ir::PeerKind::Service ||
        has_symbol(peer.selector)) {
      continue;
    }
    Part part = part_of(at, Part::Kind::Peers);
    part.members = e->second;
    const Redundancy found = base_.judge(part);
    if (peer.kind == ir::PeerKind::Entity && entity_in_cluster(at, e->first, found)) {
      base_.retire(part);
      continue;
    }
    if (found.answer != Answer::Redundant || found.causes.empty() || !confirmed(part, found)) {
      continue;
    }
    const std::string text =
        peer.kind == ir::PeerKind::Endpoint ? "this peer" : "`" + peer.text + "`";
    if (found.by_denies) {
      dead_allow(at, found, e->first,
                 fmt::format("{} is denied by {}: to name it here allows nothing", text,
                             places(found.causes, at)),
                 Severity::Note);
      base_.retire(part);
      continue;
    }
    // Entities and names are written for the reader; so is a peer with and without `k8s:`.
    const ir::Peer* same = nullptr;
    bool spelling = false;
    for (const ir::Peer& q : it.peers) {
      if (q.range == e->first) continue;
      if (q.kind == peer.kind && q.text == peer.text && q.selector.text() == peer.selector.text()) {
        same = &q;
      }
      spelling = spelling || without_source(q.selector) == without_source(peer.selector);
    }
    const bool named = peer.kind == ir::PeerKind::Entity || peer.kind == ir::PeerKind::Fqdn;
    if (!same_policy(at, found.causes) || (same == nullptr && (named || spelling))) continue;
    const bool own =
        std::all_of(found.causes.begin(), found.causes.end(), [&](ItemRef r) { return r == at; });
    Diagnostic& d =
        c_.report(DiagCode::RedundantPeer, whole(at.rule), e->first,
                  own ? fmt::format("{} adds nothing: other peers of this item take it in", text)
                      : fmt::format("{} adds nothing here: {} {} the same on these ports", text,
                                    places(found.causes, at), it.deny ? "denies" : "allows"),
                  it.origin.path);
    d.help = "delete the entry, or confine the wider one";
    if (same != nullptr) {
      d.labels.push_back({same->range, "the same stands here"});
      d.fix = deletion(e->first, "delete the entry");
    } else if (own) {
      for (const ir::Peer& q : it.peers) {
        if (q.range != e->first && selector_covers(q.selector, peer.selector, c_.world.settings)) {
          d.labels.push_back({q.range, "this takes it in"});
          break;
        }
      }
    }
    explain(d, found, at, it.deny ? "denied here already" : "allowed here already");
    base_.retire(part);
  }
}

void Search::ports(ItemRef at) {
  const ir::RuleItem& it = item(at);
  struct Entry {
    SourceRange range;
    std::size_t port_rule;
    std::vector<std::size_t> members;
  };
  std::vector<Entry> entries;
  for (std::size_t k = 0; k < it.ports.size(); ++k) {
    for (std::size_t p = 0; p < it.ports[k].ports.size(); ++p) {
      const SourceRange range = it.ports[k].ports[p].range;
      if (entries.empty() || entries.back().range != range || entries.back().port_rule != k) {
        entries.push_back({range, k, {}});
      }
      entries.back().members.push_back(p);
    }
  }
  if (entries.size() < 2) return;
  std::optional<std::size_t> elsewhere;  // a finding about ports that another item allows
  for (auto e = entries.rbegin(); e != entries.rend(); ++e) {
    const ir::Port& port = it.ports[e->port_rule].ports[e->members.front()];
    if (shared_text(c_, t_, e->range) || !e->range.known() || !port.symbol.empty()) continue;
    Part part = part_of(at, Part::Kind::Ports);
    part.port_rule = e->port_rule;
    part.members = e->members;
    const Redundancy found = base_.judge(part);
    if (found.answer != Answer::Redundant || found.causes.empty() || !confirmed(part, found)) {
      continue;
    }
    const std::string text =
        fmt::format("{}{}/{}", port.name.empty() ? port.text : port.name,
                    port.end > port.number ? fmt::format("-{}", port.end) : "",
                    e->members.size() > 1 ? "ANY" : ir::protocol_name(port.protocol));
    if (found.by_denies) {
      dead_allow(at, found, e->range,
                 fmt::format("port {} is denied by {}: to list it here allows nothing", text,
                             places(found.causes, at)),
                 Severity::Note);
      base_.retire(part);
      continue;
    }
    if (!same_policy(at, found.causes)) continue;
    const bool own =
        std::all_of(found.causes.begin(), found.causes.end(), [&](ItemRef r) { return r == at; });
    if (!own && idiom(at, found)) continue;
    base_.retire(part);
    if (!own && elsewhere) {
      // One finding for all ports of the item that another item allows.
      c_.sink.all()[*elsewhere].labels.push_back({e->range, "nor does this"});
      continue;
    }
    if (!own) elsewhere = c_.sink.all().size();
    Diagnostic& d = c_.report(
        DiagCode::RedundantPort, whole(at.rule), e->range,
        own ? fmt::format("port {} adds nothing: other entries of this item take it in", text)
            : fmt::format("port {} adds nothing here: {} {} it to the same peers", text,
                          places(found.causes, at), it.deny ? "denies" : "allows"),
        it.origin.path);
    d.help = "delete the entry, or confine the wider one";
    if (own) {
      for (const Entry& other : entries) {
        if (other.range == e->range) continue;
        const auto covers = [&](std::size_t wide, std::size_t narrow) {
          return port_covers(it.ports[other.port_rule].ports[wide],
                             it.ports[e->port_rule].ports[narrow]);
        };
        const bool takes_in = std::all_of(e->members.begin(), e->members.end(), [&](std::size_t m) {
          return std::any_of(other.members.begin(), other.members.end(),
                             [&](std::size_t w) { return covers(w, m); });
        });
        if (!takes_in) continue;
        d.labels.push_back({other.range, "this takes it in"});
        if (other.port_rule == e->port_rule) d.fix = deletion(e->range, "delete the entry");
        break;
      }
    }
    explain(d, found, at, it.deny ? "denied here already" : "allowed here already");
  }
}

// L7 rules whose peers several others let through to the port without rules; one alone is found
// without a proof of this kind (check_void_l7).
void Search::void_l7(ItemRef at) {
  const ir::RuleItem& it = item(at);
  for (std::size_t k = 0; k < it.ports.size(); ++k) {
    const ir::PortRule& entry = it.ports[k];
    const ir::PortRule& written = whole(at.rule).items[at.item].ports[k];
    if (it.deny || !restricts(entry.l7) || c_.void_l7.count(&written) != 0) continue;
    for (std::size_t p = 0; p < entry.ports.size(); ++p) {
      if (!entry.ports[p].symbol.empty()) continue;
      Part part = part_of(at, Part::Kind::Restriction);
      part.port_rule = k;
      part.members = {p};
      const Redundancy found = base_.judge(part);
      const bool allowed = std::any_of(found.causes.begin(), found.causes.end(),
                                       [&](ItemRef r) { return !item(r).deny; });
      if (found.answer != Answer::Redundant || !allowed || !confirmed(part, found)) continue;
      const ir::L7Rules& l7 = entry.l7;
      SourceRange range = l7.http.size() == 1 ? l7.http[0].range : entry.range;
      if (!range.known()) range = entry.range;
      Diagnostic& d = c_.report(
          DiagCode::VoidL7Rule, whole(at.rule), range,
          fmt::format("these L7 rules are void: {} {} the same peers on port {}/{} without L7 "
                      "rules, so every request passes",
                      places(found.causes, at),
                      found.causes.size() > 1 ? "together allow" : "allows", entry.ports[p].text,
                      ir::protocol_name(entry.ports[p].protocol)),
          it.origin.path);
      d.help = "take the wider rules away, or confine them to other ports or peers";
      explain(d, found, at, "this allows everything that the L7 rules restrict");
      break;
    }
  }
}

// Where the whole cluster is known, the list is written for it, and no longer for the reader of a
// manifest that others deploy: an entity that another one takes in is named.
bool Search::entity_in_cluster(ItemRef at, SourceRange entry, const Redundancy& found) {
  const ir::RuleItem& it = item(at);
  if (!c_.complete || c_.is_netpol(whole(at.rule))) return false;
  // Cilium leaves out the other peers of an item that names everybody.
  const ir::Peer* cover = nullptr;
  std::vector<const ir::Peer*> mine;
  for (const ir::Peer& p : it.peers) {
    if (p.range == entry) mine.push_back(&p);
  }
  for (const ir::Peer& p : it.peers) {
    if (p.range != entry && p.selector.wildcard()) cover = &p;
  }
  if (mine.front()->selector.wildcard()) return false;
  if (cover == nullptr) {
    const bool own =
        found.answer == Answer::Redundant && !found.by_denies &&
        std::all_of(found.causes.begin(), found.causes.end(), [&](ItemRef r) { return r == at; });
    if (!own) return false;
    for (const ir::Peer& p : it.peers) {
      if (p.range == entry || p.kind != ir::PeerKind::Entity) continue;
      if (p.text == mine.front()->text) return false;  // the same twice: said in better words
      const bool covers = std::any_of(mine.begin(), mine.end(), [&](const ir::Peer* m) {
        return selector_covers(p.selector, m->selector, c_.world.settings);
      });
      if (covers && cover == nullptr) cover = &p;
    }
    if (cover == nullptr) return false;
  }
  const std::string name = mine.front()->text;
  Diagnostic& d =
      c_.report(DiagCode::RedundantInCluster, whole(at.rule), entry,
                fmt::format("`{}` adds nothing beside `{}`", name, cover->text), it.origin.path);
  d.labels.push_back({cover->range, "this takes it in"});
  d.help = "delete the entity, or the wider one where only this one was meant";
  said_entities_.insert(entry);
  return true;
}

// In this cluster the other entities of the item take in wherever the API server is.
void Search::api_server(ItemRef at) {
  const ir::RuleItem& it = item(at);
  const auto named = std::find_if(it.peers.begin(), it.peers.end(), [](const ir::Peer& p) {
    return p.kind == ir::PeerKind::Entity && p.text == "kube-apiserver";
  });
  if (!c_.complete || named == it.peers.end() || said_entities_.count(named->range) != 0) return;
  std::vector<ir::IpAddress> addresses;
  for (const ir::Endpoints& e : t_.world.inventory.endpoints) {
    if (e.ns != "default" || e.service != "kubernetes") continue;
    addresses.insert(addresses.end(), e.addresses.begin(), e.addresses.end());
  }
  if (addresses.empty()) return;
  const ir::Peer* cover = nullptr;
  bool on_nodes = false, outside = false;
  for (std::size_t n = 0; n < t_.world.inventory.nodes.size(); ++n) {
    const ir::AddressBook book(t_.world.inventory, t_.world.settings, t_.world.policies, n);
    for (const ir::IpAddress& address : addresses) {
      const ir::LabelSet who = book.identity_of(address);
      const auto other = std::find_if(it.peers.begin(), it.peers.end(), [&](const ir::Peer& p) {
        return p.kind == ir::PeerKind::Entity && p.range != named->range &&
               !has_reserved(p.selector, "kube-apiserver") && p.selector.matches(who);
      });
      if (other == it.peers.end()) return;
      cover = &*other;
      const bool node = who.has("reserved", "host") || who.has("reserved", "remote-node");
      on_nodes = on_nodes || node;
      outside = outside || !node;
    }
  }
  if (cover == nullptr) return;
  const char* where = !outside    ? "its API server runs on nodes"
                      : !on_nodes ? "its API server is outside"
                                  : "its API server is on nodes and outside";
  Diagnostic& d = c_.report(
      DiagCode::RedundantInCluster, whole(at.rule), named->range,
      fmt::format("`kube-apiserver` adds nothing in this cluster: {}, which the other entities "
                  "take in",
                  where),
      it.origin.path);
  d.labels.push_back({cover->range, "this takes it in"});
  d.notes.emplace_back("holds for the nodes and the API server of this input, not everywhere");
  d.help = on_nodes ? "delete the entity, or keep it for clusters whose API server is outside"
                    : "delete the entity, or keep it for clusters whose API server is a node";
}

// Denies that are no exceptions: they name both who and on which port, and speak of more than the
// allow does on either side. (A ban on somebody, or on a port, says by itself that it cuts across.)
void Search::overlaps() {
  for (const RuleBase::Overlap& o : base_.partial_denies()) {
    const ir::RuleItem &allow = item(o.allow), &deny = item(o.deny);
    if (deny.all_l4 || is_all_peers(deny) || gone_.count(rule(o.allow.rule).policy) != 0) continue;
    const bool peers_in = peers_cover(allow, deny, c_.world.settings);
    const bool peers_out = peers_cover(deny, allow, c_.world.settings);
    const bool ports_in = ports_cover(allow, deny), ports_out = ports_cover(deny, allow);
    const bool crossing = (!peers_in && !peers_out) || (!ports_in && !ports_out);
    if (!crossing) continue;
    const auto scene = universe_.scene(o.point, o.direction);
    if (!scene || judge_.verdict(*scene, o.direction).reason != ir::Reason::PolicyDeny) {
      continue;
    }
    Diagnostic& d =
        c_.report(DiagCode::PartialConflict, whole(o.allow.rule), allow.origin.range,
                  fmt::format("{} denies a part of what this allows, and more beside it",
                              place(o.deny, o.allow)),
                  allow.origin.path);
    d.labels.push_back({deny.origin.range, "this denies some of it"});
    d.notes.push_back("denied for example: " + scene_text(*scene));
    if (c_.is_netpol(whole(o.allow.rule)) != c_.is_netpol(whole(o.deny.rule))) {
      d.notes.emplace_back("a deny of Cilium's wins over what a NetworkPolicy allows");
    }
    d.witness = scene_json(*scene);
    d.help = "name the exception alone in the deny, or take it out of the allow";
  }
}

}  // namespace

void check_redundant(Context& c) {
  for (const Together& t : groups(c)) Search(c, t).run();
}

}  // namespace policyc::checks
