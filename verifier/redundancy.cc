#include "verifier/redundancy.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "ir/identity.h"

namespace policyc {
namespace {

using ir::Direction;

constexpr std::size_t kMaxRules = 40;         // in one exact comparison
constexpr std::size_t kMaxCells = 4000;       // while classes are split
constexpr std::size_t kMaxSubjects = 64;      // classes of judged pods
constexpr std::size_t kMaxPeers = 300;        // classes of peers
constexpr std::uint16_t kNamedPort = 40'000;  // numbers for port names

// The smallest thing that a rule says: one peer on one port.
struct Atom {
  std::size_t rule = 0, item = 0;
  std::size_t peer = SIZE_MAX, port_rule = SIZE_MAX, port = SIZE_MAX;  // SIZE_MAX: everybody, all
  Direction direction = Direction::Ingress;
  bool deny = false, plain = true, everything = false;  // everything: everybody on every port
  bool alive = true;
  std::vector<Box> boxes;
};

bool is_plain(const ir::RuleItem& item, const ir::PortRule* ports) {
  if (item.deny) return true;
  if (item.auth || !item.auth_symbol.empty()) return false;
  return ports == nullptr ||
         (ports->l7.parser == ir::Parser::None && ports->l7.empty() &&
          ports->server_names.empty() && !ports->listener && ports->tls == ir::TlsContext{});
}

bool in_part(const Part& part, const Atom& a) {
  const auto member = [&](std::size_t i) {
    return std::find(part.members.begin(), part.members.end(), i) != part.members.end();
  };
  if (part.kind == Part::Kind::Policy || part.kind == Part::Kind::L7) return false;
  if (a.rule != part.rule || a.item != part.item) return false;
  switch (part.kind) {
    case Part::Kind::Peers:
      return member(a.peer);
    case Part::Kind::Ports:
    case Part::Kind::Restriction:
      return a.port_rule == part.port_rule && member(a.port);
    case Part::Kind::Policy:
    case Part::Kind::Item:
    case Part::Kind::L7:
      return true;
  }
  return true;
}

bool has_placeholder(const ir::Rule& rule) {
  const auto open = [](const ir::Requirement& r) { return !r.symbol.empty(); };
  const auto any = [&](const std::vector<ir::Requirement>& list) {
    return std::any_of(list.begin(), list.end(), open);
  };
  if (!rule.symbol.empty() || any(rule.subject.requirements)) return true;
  return std::any_of(rule.items.begin(), rule.items.end(), [&](const ir::RuleItem& item) {
    return !item.auth_symbol.empty() || any(item.requires_) ||
           std::any_of(item.peers.begin(), item.peers.end(),
                       [&](const ir::Peer& p) { return any(p.selector.requirements); }) ||
           std::any_of(item.ports.begin(), item.ports.end(), [](const ir::PortRule& r) {
             return std::any_of(r.ports.begin(), r.ports.end(),
                                [](const ir::Port& p) { return !p.symbol.empty(); }) ||
                    std::any_of(r.l7.http.begin(), r.l7.http.end(),
                                [](const ir::HttpRule& h) { return !h.symbol.empty(); });
           });
  });
}

// `reserved:world` by itself, which selects addresses of either family only as long as no policy
// names them by prefix or name. (The entity `world` selects all addresses outside.)
bool names_world_alone(const ir::RuleItem& item) {
  static const ir::LabelSet kWorld = ir::entity_identity("world");
  static const ir::LabelSet kV4 = ir::entity_identity("world-ipv4");
  static const ir::LabelSet kV6 = ir::entity_identity("world-ipv6");
  const auto selects = [&](const ir::LabelSet& labels) {
    return std::any_of(item.peers.begin(), item.peers.end(),
                       [&](const ir::Peer& p) { return p.selector.matches(labels); });
  };
  return selects(kWorld) && !(selects(kV4) && selects(kV6));
}

bool is_address(const ir::Peer& peer) {
  return peer.kind == ir::PeerKind::Cidr || peer.kind == ir::PeerKind::Fqdn ||
         peer.kind == ir::PeerKind::CidrGroup;
}

bool names_single_addresses(const ir::PolicySet& policies, const ir::Inventory& inventory) {
  const auto single = [](const ir::Prefix& p) { return p.length == p.address.bits(); };
  const auto by_peer = [&](const ir::Peer& peer) {
    return std::any_of(peer.selector.requirements.begin(), peer.selector.requirements.end(),
                       [&](const ir::Requirement& r) { return r.cidr && single(*r.cidr); });
  };
  for (const ir::Rule& rule : policies.rules) {
    for (const ir::RuleItem& item : rule.items) {
      if (std::any_of(item.peers.begin(), item.peers.end(), by_peer)) return true;
    }
  }
  return std::any_of(
      inventory.cidr_groups.begin(), inventory.cidr_groups.end(),
      [&](const ir::CidrGroup& g) { return std::any_of(g.cidrs.begin(), g.cidrs.end(), single); });
}

// Boxes by which of some conditions hold on them.
struct Cells {
  std::vector<std::pair<std::vector<char>, Box>> list;
  bool too_many = false;

  // Splits each box by one more condition, given as disjoint boxes.
  void split(const std::vector<Box>& condition) {
    std::vector<std::pair<std::vector<char>, Box>> next;
    for (auto& [mask, box] : list) {
      std::vector<Box> rest = {box};
      for (const Box& c : condition) {
        if (auto inside = intersect(box, c)) {
          next.emplace_back(mask, std::move(*inside));
          next.back().first.push_back(1);
        }
        std::vector<Box> left;
        for (const Box& r : rest) {
          for (Box& part : subtract(r, c)) left.push_back(std::move(part));
        }
        rest = std::move(left);
      }
      for (Box& r : rest) {
        next.emplace_back(mask, std::move(r));
        next.back().first.push_back(0);
      }
      if (next.size() > kMaxCells) {
        too_many = true;
        return;
      }
    }
    list = std::move(next);
  }
};

// Numbers filed under namespaces; "" is any or unknown.
class Drawers {
 public:
  void add(const std::string& ns, std::size_t number) {
    by_namespace_[ns].push_back(number);
    beside_.clear();
  }
  // Those that may be about the endpoints of this namespace, in ascending order.
  const std::vector<std::size_t>& beside(const std::string& ns) {
    const auto [it, fresh] = beside_.try_emplace(ns);
    std::vector<std::size_t>& out = it->second;
    if (!fresh) return out;
    for (const auto& [other, members] : by_namespace_) {
      if (ns.empty() || other.empty() || other == ns) {
        out.insert(out.end(), members.begin(), members.end());
      }
    }
    std::sort(out.begin(), out.end());
    return out;
  }

 private:
  std::map<std::string, std::vector<std::size_t>> by_namespace_, beside_;
};

}  // namespace

struct RuleBase::State {
  const ir::World& world;
  const Universe& universe;
  std::function<bool(std::size_t, std::size_t)> usable;
  std::vector<std::size_t> rules;
  ir::PolicySet current;  // retired parts blanked out; indices as in the world
  std::map<std::size_t, std::vector<Box>> subjects;
  std::vector<Atom> atoms;
  std::map<std::size_t, std::vector<std::size_t>> atoms_of_rule, rules_of_policy;
  Drawers atom_drawers, rule_drawers;
  std::set<ItemRef> retired;
  std::vector<ItemRef> requirers;  // items with from/toRequires
  bool unclear = false;            // they cut some peer in a way that is not modelled
  bool world_alone = false;        // see names_world_alone
  std::size_t questions = 0;
  Decider decider;
  std::size_t budget = kCoverageBudget;
  bool by_solver = false;  // the decider has been of use since the last judgement began

  State(const ir::World& w, const Universe& all, std::vector<std::size_t> r,
        std::function<bool(std::size_t, std::size_t)> u)
      : world(w), universe(all), usable(std::move(u)), rules(std::move(r)), current(w.policies) {
    for (const std::size_t i : rules) add_rule(i);
    for (const ItemRef from : requirers) apply_requirements(from);
  }

  const ir::Rule& rule(std::size_t i) const { return current.rules[i]; }
  void add_rule(std::size_t index);
  void add_atom(Atom atom, const std::vector<Box>& peers,
                const std::vector<std::pair<ir::L4Key, ir::L4Key>>& keys);
  bool has_section(const ir::Rule& r, Direction d) const {
    return d == Direction::Ingress ? r.has_ingress : r.has_egress;
  }
  bool isolates(const ir::Rule& r, Direction d) const {
    return has_section(r, d) &&
           ((d == Direction::Ingress ? r.default_deny_ingress : r.default_deny_egress) ||
            !world.settings.non_default_deny);
  }
  // Narrows the peers of all rules for the endpoints of which this item demands something.
  void apply_requirements(ItemRef from);
  bool reached_by_requirements(const Part& part, const std::vector<const Atom*>& mine) const;
  std::vector<const Atom*> atoms_of(const Part& part) const;
  // The one namespace whose endpoints the rule may select; "" where that is not known.
  static std::string namespace_of(const ir::Rule& r) { return r.symbol.empty() ? r.ns : ""; }
  // Atoms of rules that may share endpoints with rules of these, in input order.
  std::vector<std::size_t> atoms_beside(const std::vector<const Atom*>& mine);
  Coverage ask(const Box& box, const std::vector<const Box*>& covers, bool minimal,
               const std::string& title, const ProofListener& listener);
  bool lifts_rules(const Atom& a) const;
  bool cover_atoms(const Part& part, const std::vector<const Atom*>& mine, bool denies_only,
                   const std::set<ItemRef>* among, Redundancy& out, const ProofListener& listener);
  bool cover_sections(const Part& part, Redundancy& out, const ProofListener& listener);
  void compare(const Part& part, const std::vector<const Atom*>& mine, Redundancy& out);
  std::string title(const Part& part) const;
};

void RuleBase::State::add_atom(Atom atom, const std::vector<Box>& peers,
                               const std::vector<std::pair<ir::L4Key, ir::L4Key>>& keys) {
  for (const Box& s : subjects.at(atom.rule)) {
    for (const Box& p : peers) {
      const auto both = intersect(s, p);
      if (!both) continue;
      for (const auto& [begin, end] : keys) {
        atom.boxes.push_back(*both);
        atom.boxes.back().begin = begin;
        atom.boxes.back().end = end;
      }
    }
  }
  if (atom.boxes.empty()) return;
  atom_drawers.add(namespace_of(rule(atom.rule)), atoms.size());
  atoms_of_rule[atom.rule].push_back(atoms.size());
  atoms.push_back(std::move(atom));
}

std::vector<std::size_t> RuleBase::State::atoms_beside(const std::vector<const Atom*>& mine) {
  std::vector<std::size_t> out;
  std::set<std::string> namespaces;
  for (const Atom* a : mine) {
    const std::string ns = namespace_of(rule(a->rule));
    if (!namespaces.insert(ns).second) continue;
    const std::vector<std::size_t>& more = atom_drawers.beside(ns);
    out.insert(out.end(), more.begin(), more.end());
  }
  if (namespaces.size() > 1) {
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
  }
  return out;
}

void RuleBase::State::add_rule(std::size_t index) {
  const ir::Rule& r = rule(index);
  subjects[index] = universe.subjects(r);
  rules_of_policy[r.policy].push_back(index);
  rule_drawers.add(namespace_of(r), index);
  for (std::size_t i = 0; i < r.items.size(); ++i) {
    const ir::RuleItem& item = r.items[i];
    if (!item.requires_.empty()) requirers.push_back({index, i});
    world_alone = world_alone || (world.settings.dual_stack() && names_world_alone(item));
    const auto with_ports = [&](std::size_t peer, const std::vector<Box>& who, bool everybody) {
      Atom a;
      a.rule = index;
      a.item = i;
      a.peer = peer;
      a.direction = item.direction;
      a.deny = item.deny;
      if (item.all_l4) {
        a.plain = is_plain(item, nullptr);
        a.everything = everybody;
        add_atom(a, who, {universe.all_keys()});
        return;
      }
      for (std::size_t k = 0; k < item.ports.size(); ++k) {
        a.plain = is_plain(item, &item.ports[k]);
        a.port_rule = k;
        for (std::size_t p = 0; p < item.ports[k].ports.size(); ++p) {
          a.port = p;
          add_atom(a, who, universe.keys(item.ports[k].ports[p]));
        }
      }
    };
    if (item.any_peer) with_ports(SIZE_MAX, universe.peers({}, false), true);
    // Everybody among the peers makes the others count for nothing.
    const auto everybody = std::find_if(item.peers.begin(), item.peers.end(),
                                        [](const ir::Peer& p) { return p.selector.wildcard(); });
    for (std::size_t p = 0; p < item.peers.size() && !item.any_peer; ++p) {
      const ir::Peer& peer = item.peers[p];
      if (everybody != item.peers.end() && &peer != &*everybody) continue;
      with_ports(p, universe.peers(peer.selector, peer.kind == ir::PeerKind::Node),
                 peer.selector.wildcard());
    }
  }
}

void RuleBase::State::apply_requirements(ItemRef from) {
  const ir::RuleItem& demand = rule(from.rule).items[from.item];
  const std::vector<Box>& demanded = universe.peers({demand.requires_, {}}, false);
  const std::vector<Box>& whom = subjects.at(from.rule);
  for (const std::size_t index : atom_drawers.beside(namespace_of(rule(from.rule)))) {
    Atom& a = atoms[index];
    if (a.peer == SIZE_MAX || a.direction != demand.direction || a.deny != demand.deny) continue;
    const ir::Peer& peer = rule(a.rule).items[a.item].peers[a.peer];
    if (!peer.takes_requires) continue;
    std::vector<Box> next;
    bool touched = false;
    for (const Box& box : a.boxes) {
      std::vector<Box> rest = {box};
      for (const Box& s : whom) {
        const auto inside = intersect(box, s);
        if (!inside) continue;
        touched = true;
        for (const Box& d : demanded) {
          if (auto both = intersect(*inside, d)) next.push_back(std::move(*both));
        }
        std::vector<Box> left;
        for (const Box& r : rest) {
          for (Box& part : subtract(r, s)) left.push_back(std::move(part));
        }
        rest = std::move(left);
      }
      for (Box& r : rest) next.push_back(std::move(r));
    }
    if (!touched) continue;
    // With a demand, who selects everybody is the wildcard no longer.
    if (peer.selector.wildcard() || next.size() > kMaxCells) {
      unclear = true;
    } else {
      a.boxes = std::move(next);
      a.alive = !a.boxes.empty();  // nobody meets the demand
    }
  }
}

// Whether taking the part away could change what requirements make of other rules, or whether it is
// not certain which of them are in force.
bool RuleBase::State::reached_by_requirements(const Part& part,
                                              const std::vector<const Atom*>& mine) const {
  for (const ItemRef r : requirers) {
    const bool own = part.kind == Part::Kind::Policy ? rule(r.rule).policy == part.policy
                     : part.kind == Part::Kind::Item ? r.rule == part.rule && r.item == part.item
                                                     : false;
    if (own) return true;
    for (const Atom* a : mine) {
      if (r.rule != a->rule && !usable(a->rule, r.rule)) return true;
    }
  }
  return unclear;
}

std::vector<const Atom*> RuleBase::State::atoms_of(const Part& part) const {
  std::vector<const Atom*> out;
  const auto take = [&](std::size_t index) {
    const auto found = atoms_of_rule.find(index);
    if (found == atoms_of_rule.end()) return;
    for (const std::size_t i : found->second) {
      const Atom& a = atoms[i];
      if (a.alive && (part.kind == Part::Kind::Policy || in_part(part, a))) out.push_back(&a);
    }
  };
  if (part.kind != Part::Kind::Policy) {
    take(part.rule);
  } else if (const auto found = rules_of_policy.find(part.policy); found != rules_of_policy.end()) {
    for (const std::size_t index : found->second) take(index);
  }
  return out;
}

std::string RuleBase::State::title(const Part& part) const {
  std::string out = world.policies.policies[part.policy].ref.str();
  if (part.kind != Part::Kind::Policy) out += " " + rule(part.rule).items[part.item].origin.path;
  if (part.kind == Part::Kind::Restriction) {
    out += " L7 rules";
  } else if (part.kind == Part::Kind::Peers || part.kind == Part::Kind::Ports) {
    out += part.kind == Part::Kind::Peers ? " peer" : " port";
    for (const std::size_t m : part.members) out += fmt::format(" {}", m);
  }
  return out;
}

Coverage RuleBase::State::ask(const Box& box, const std::vector<const Box*>& covers, bool minimal,
                              const std::string& title, const ProofListener& listener) {
  ++questions;
  Coverage out = minimal ? minimal_cover(universe.space(), box, covers, budget)
                         : cover(universe.space(), box, covers, budget);
  const bool undecided = out.answer == Coverage::Answer::Undecided && decider;
  if (!listener && !undecided) return out;
  Question q;
  q.space = &universe.space();
  q.box = box;
  std::vector<std::size_t> index;
  for (std::size_t i = 0; i < covers.size(); ++i) {
    if (!meets(box, *covers[i])) continue;
    q.covers.push_back(covers[i]);
    index.push_back(i);
  }
  q.title = title;
  if (listener) listener({&q, out.answer, out.steps});
  if (undecided) {
    Solution solution = decider(q);
    if (solution.answer == Solution::Answer::Unknown) return out;
    by_solver = true;
    out.answer = solution.answer == Solution::Answer::Covered ? Coverage::Answer::Covered
                                                              : Coverage::Answer::Open;
    out.witness = std::move(solution.witness);
    if (out.covered()) out.used = std::move(index);
  }
  return out;
}

// Whether the atom may make L7 rules void: a deny, or an allow that has none. Beside a range of
// ports the rules of one port may stay in force.
bool RuleBase::State::lifts_rules(const Atom& a) const {
  if (a.deny) return true;
  const bool range = a.port_rule != SIZE_MAX &&
                     rule(a.rule).items[a.item].ports[a.port_rule].ports[a.port].end != 0;
  return a.plain && !range;
}

// Whether the other atoms (of the items `among`, where given) cover the part's.
bool RuleBase::State::cover_atoms(const Part& part, const std::vector<const Atom*>& mine,
                                  bool denies_only, const std::set<ItemRef>* among, Redundancy& out,
                                  const ProofListener& listener) {
  const std::set<const Atom*> own(mine.begin(), mine.end());
  std::set<ItemRef> causes;
  const PointSet& host = universe.host();
  const bool localhost = !world.settings.allow_localhost_policy;
  for (const Atom* a : mine) {
    const auto& beside = atom_drawers.beside(namespace_of(rule(a->rule)));
    for (const Box& whole : a->boxes) {
      std::vector<Box> parts = {whole};
      // The allow that the local host has anyway ranks above an allow for everybody on every port:
      // who says no more than that adds no reason to it.
      if (!a->deny && a->direction == Direction::Ingress && localhost &&
          !rule(a->rule).host_subject) {
        Box only = whole;
        if (only.restrict(universe.peer_dimension(), host)) {
          Box rest = whole;
          const bool more =
              rest.restrict(universe.peer_dimension(), PointSet(host.size(), true) - host);
          parts.clear();
          if (more) parts.push_back(std::move(rest));
          if (!a->everything) parts.push_back(std::move(only));
        }
      }
      for (std::size_t n = 0; n < parts.size(); ++n) {
        const Box& box = parts[n];
        const PointSet* peers = box.side(universe.peer_dimension());
        const bool host_part = localhost && !a->deny && peers != nullptr && peers->within(host) &&
                               a->direction == Direction::Ingress;
        std::vector<const Box*> covers;
        std::vector<const Atom*> whose;
        for (const std::size_t index : beside) {
          const Atom& b = atoms[index];
          if (!b.alive || b.direction != a->direction || own.count(&b) != 0) continue;
          if ((a->deny || denies_only) && !b.deny) continue;
          if (host_part && b.everything && !b.deny) continue;
          if (part.kind == Part::Kind::Restriction && !lifts_rules(b)) continue;
          if (among != nullptr && among->count({b.rule, b.item}) == 0) continue;
          bool near = false;
          for (const Box& c : b.boxes) near = near || meets(c, box);
          if (!near || !(b.rule == a->rule || usable(a->rule, b.rule))) continue;
          for (const Box& c : b.boxes) {
            if (!meets(c, box)) continue;
            covers.push_back(&c);
            whose.push_back(&b);
          }
        }
        const Coverage c = ask(box, covers, true, title(part), listener);
        if (!c.covered()) {
          out.answer = c.answer == Coverage::Answer::Open ? Redundancy::Answer::Needed
                                                          : Redundancy::Answer::Undecided;
          out.reason = c.answer == Coverage::Answer::Open ? "" : "too many steps";
          out.witness = c.witness;
          out.direction = a->direction;
          return false;
        }
        for (const std::size_t i : c.used) causes.insert({whose[i]->rule, whose[i]->item});
      }
    }
  }
  out.causes.assign(causes.begin(), causes.end());
  return true;
}

// Whether other rules keep the default deny that goes with the part.
bool RuleBase::State::cover_sections(const Part& part, Redundancy& out,
                                     const ProofListener& listener) {
  if (world.settings.enforcement == ir::Settings::Enforcement::Always) return true;
  std::set<std::size_t> keep;
  const auto one = [&](std::size_t index, Direction d) {
    std::vector<const Box*> covers;
    std::vector<std::size_t> whose;
    for (const std::size_t other : rule_drawers.beside(namespace_of(rule(index)))) {
      const ir::Rule& r = rule(other);
      const bool same = part.kind == Part::Kind::Policy ? r.policy == part.policy : other == index;
      // Who has no default deny of its own only makes the direction count.
      const bool as_good = isolates(rule(index), d) ? isolates(r, d) : has_section(r, d);
      if (same || !as_good || r.host_subject != rule(index).host_subject) continue;
      if (!usable(index, other)) continue;
      for (const Box& b : subjects.at(other)) {
        covers.push_back(&b);
        whose.push_back(other);
      }
    }
    for (const Box& box : subjects.at(index)) {
      const Coverage c = ask(box, covers, true, title(part) + " default deny", listener);
      if (!c.covered()) {
        out.answer = Redundancy::Answer::Undecided;
        out.reason = "the default deny would change";
        return false;
      }
      for (const std::size_t i : c.used) keep.insert(whose[i]);
    }
    return true;
  };
  for (const Direction d : {Direction::Ingress, Direction::Egress}) {
    for (const std::size_t index : rules) {
      const ir::Rule& r = rule(index);
      if (!has_section(r, d)) continue;
      if (part.kind == Part::Kind::Policy) {
        if (r.policy == part.policy && !one(index, d)) return false;
      } else if (part.kind == Part::Kind::Item && index == part.rule &&
                 r.items[part.item].direction == d) {
        std::size_t left = 0;
        for (std::size_t i = 0; i < r.items.size(); ++i) {
          if (i != part.item && r.items[i].direction == d && retired.count({index, i}) == 0) ++left;
        }
        if (left == 0 && !one(index, d)) return false;
      }
    }
  }
  out.isolates.assign(keep.begin(), keep.end());
  return true;
}

// Every verdict record of every class of the part's region, with and without it.
void RuleBase::State::compare(const Part& part, const std::vector<const Atom*>& mine,
                              Redundancy& out) {
  const auto give_up = [&](std::string reason) {
    out.answer = Redundancy::Answer::Undecided;
    out.reason = std::move(reason);
  };
  const auto port_of = [&](const Atom& a) -> const ir::Port* {
    if (a.port_rule == SIZE_MAX) return nullptr;
    return &rule(a.rule).items[a.item].ports[a.port_rule].ports[a.port];
  };
  // Rules that meet the region, and those whose filters its rules are merged into.
  std::set<std::size_t> near;
  for (const Atom* a : mine) near.insert(a->rule);
  for (const std::size_t i : atoms_beside(mine)) {
    const Atom& b = atoms[i];
    if (!b.alive || near.count(b.rule) != 0) continue;
    for (const Atom* a : mine) {
      if (a->direction != b.direction) continue;
      const ir::Port *p = port_of(*a), *q = port_of(b);
      const bool filter = !a->plain && p != nullptr && q != nullptr && p->text == q->text &&
                          p->protocol == q->protocol;
      bool meeting = filter;
      for (const Box& x : a->boxes) {
        for (const Box& y : b.boxes) meeting = meeting || meets(x, y);
      }
      if (meeting) near.insert(b.rule);
    }
  }
  // Who else isolates matters where a section may go, or where a rule without default deny lets
  // everything pass as long as nobody else isolates.
  const bool section = part.kind == Part::Kind::Policy || part.kind == Part::Kind::Item;
  const bool lenient = std::any_of(near.begin(), near.end(), [&](std::size_t i) {
    const ir::Rule& r = rule(i);
    return (r.has_ingress && !isolates(r, Direction::Ingress)) ||
           (r.has_egress && !isolates(r, Direction::Egress));
  });
  for (const Atom* a : mine) {
    if (!section && !lenient) break;
    for (const std::size_t index : rule_drawers.beside(namespace_of(rule(a->rule)))) {
      if (!rule(index).has_ingress && !rule(index).has_egress) continue;
      for (const Box& x : subjects.at(a->rule)) {
        for (const Box& y : subjects.at(index)) {
          if (meets(x, y)) near.insert(index);
        }
      }
    }
  }
  // Whoever demands something of the peers of these endpoints.
  for (const ItemRef r : requirers) {
    for (const Atom* a : mine) {
      for (const Box& x : subjects.at(a->rule)) {
        for (const Box& y : subjects.at(r.rule)) {
          if (meets(x, y)) near.insert(r.rule);
        }
      }
    }
  }
  if (near.size() > kMaxRules) return give_up("too many rules meet here");
  Part small = part;
  ir::World before;
  before.settings = world.settings;
  Cells judged, peers;
  for (const std::size_t index : near) {
    if (index == part.rule) small.rule = before.policies.rules.size();
    if (has_placeholder(rule(index))) return give_up("placeholders");
    if (rule(index).host_subject) return give_up("host policy");
    before.policies.rules.push_back(rule(index));
  }
  std::set<std::size_t> own;
  for (const Atom* a : mine) own.insert(a->rule);
  for (const std::size_t index : own) {
    for (const Box& b : subjects.at(index)) judged.list.emplace_back(std::vector<char>{}, b);
  }
  Box everybody;
  everybody.end = universe.space().l4_end;
  peers.list.emplace_back(std::vector<char>{}, everybody);
  std::set<std::string> seen;
  std::set<std::pair<ir::Protocol, std::string>> names;
  const auto split_peers = [&](const ir::Selector& s, bool node) {
    if (!peers.too_many && seen.insert((node ? "n " : "") + s.text()).second) {
      peers.split(universe.peers(s, node));
    }
  };
  // Only the part's own peers matter: the first conditions are to be one of them.
  for (const Atom* a : mine) {
    if (a->peer == SIZE_MAX) {
      split_peers({}, false);
    } else {
      const ir::Peer& p = rule(a->rule).items[a->item].peers[a->peer];
      split_peers(p.selector, p.kind == ir::PeerKind::Node);
    }
  }
  std::erase_if(peers.list, [](const auto& cell) {
    return std::find(cell.first.begin(), cell.first.end(), 1) == cell.first.end();
  });
  for (const std::size_t index : near) {
    if (!judged.too_many) judged.split(subjects.at(index));
    for (const ir::RuleItem& item : rule(index).items) {
      for (const ir::Peer& p : item.peers) split_peers(p.selector, p.kind == ir::PeerKind::Node);
      if (!item.requires_.empty()) split_peers({item.requires_, {}}, false);
      for (const ir::PortRule& pr : item.ports) {
        for (const ir::Port& p : pr.ports) {
          if (!p.name.empty()) names.insert({p.protocol, p.name});
        }
      }
    }
  }
  if (judged.too_many || peers.too_many) return give_up("too many classes");
  // Gives the world its pods and addresses; false where that is too much.
  const auto populate = [&](bool single) {
    before.inventory = universe.empty_inventory();
    if (!universe.spread_addresses(before.policies, before.inventory, single)) return false;
    const std::vector<std::string> nodes = universe.hosts(before.policies, before.inventory);
    const auto inhabit = [&](const Cells& cells, std::size_t most, bool subject) {
      std::map<std::vector<char>, bool> done;
      for (const auto& [mask, box] : cells.list) {
        bool& have = done[mask];
        if (have) continue;
        const FlowPoint p = point_of(universe.space(), box);
        auto pod = subject ? universe.subject_pod(p, before.inventory)
                           : universe.peer_pod(p, before.inventory);
        if (!pod) {
          // Who is no pod is among the peers anyway; endpoints of Cilium's own meet the same rules.
          have = have || !subject;
          continue;
        }
        have = true;
        pod->name = fmt::format("{}-{}", pod->name, before.inventory.pods.size());
        std::uint16_t number = kNamedPort;
        for (const auto& [protocol, name] : names) {
          pod->ports.push_back({name, number++, protocol});
        }
        before.inventory.pods.push_back(*pod);
        // Who `host` is differs from node to node.
        for (std::size_t n = 0; n < nodes.size() && subject; ++n) {
          before.inventory.pods.push_back(*pod);
          before.inventory.pods.back().name += "-on-" + nodes[n];
          before.inventory.pods.back().node = nodes[n];
        }
      }
      const auto missing = [](const auto& entry) { return !entry.second; };
      return done.size() <= most && std::none_of(done.begin(), done.end(), missing);
    };
    if (!inhabit(judged, kMaxSubjects, true) || !inhabit(peers, kMaxPeers, false)) return false;
    std::sort(before.inventory.pods.begin(), before.inventory.pods.end(),
              [](const ir::Pod& a, const ir::Pod& b) {
                return std::tie(a.ns, a.kind, a.name) < std::tie(b.ns, b.kind, b.name);
              });
    return true;
  };
  // A block of one address either is somebody's whom a name or an entity means, or it is not.
  for (const bool single : {false, true}) {
    if (single && !names_single_addresses(before.policies, world.inventory)) break;
    if (!populate(single)) return give_up("too many classes, or one that no pod stands for");
    ir::World after = before;
    after.policies = without(before.policies, small);
    const auto difference = first_difference(before, after);
    if (!difference) continue;
    out.answer = Redundancy::Answer::Needed;
    out.reason = fmt::format("{}: {} becomes {}", difference->peer.str(), difference->before,
                             difference->after);
    return;
  }
  out.answer = Redundancy::Answer::Redundant;
}

RuleBase::RuleBase(const ir::World& world, const Universe& universe, std::vector<std::size_t> rules,
                   std::function<bool(std::size_t, std::size_t)> usable)
    : state_(std::make_unique<State>(world, universe, std::move(rules), std::move(usable))) {}
RuleBase::~RuleBase() = default;

std::size_t RuleBase::questions() const {
  return state_->questions;
}

Redundancy RuleBase::judge(const Part& part) {
  State& s = *state_;
  s.decider = decider;
  s.budget = budget;
  s.by_solver = false;
  Redundancy out;
  if (s.world.settings.enforcement == ir::Settings::Enforcement::Never) {
    out.reason = "nothing is enforced";
    return out;
  }
  const std::vector<const Atom*> mine = s.atoms_of(part);
  if (part.kind == Part::Kind::Peers &&
      std::any_of(part.members.begin(), part.members.end(), [&](std::size_t m) {
        return s.rule(part.rule).items[part.item].peers[m].selector.wildcard();
      })) {
    out.reason = "without everybody the other peers of the item count";
    return out;
  }
  if (mine.empty()) {
    out.reason = "it matches nothing";
    return out;
  }
  for (const Atom* a : mine) {
    if (out.inside) break;
    out.inside = point_of(s.universe.space(), a->boxes.front());
    out.direction = a->direction;
  }
  if (s.reached_by_requirements(part, mine)) {
    out.reason = "requirements reach into every rule";
    return out;
  }
  // Peers beside everybody count for nothing, and name addresses all the same.
  const auto named = [&](const Atom* a) {
    const std::vector<ir::Peer>& peers = s.rule(a->rule).items[a->item].peers;
    if (part.kind == Part::Kind::Peers) return a->peer != SIZE_MAX && is_address(peers[a->peer]);
    return std::any_of(peers.begin(), peers.end(), is_address);
  };
  if (s.world_alone && std::any_of(mine.begin(), mine.end(), named)) {
    out.reason = "addresses that only this part names become plain world";
    return out;
  }
  const auto allow = [](const Atom* a) { return !a->deny; };
  // All denied is worth more to know than all allowed elsewhere.
  Redundancy denied = out;
  if (part.kind != Part::Kind::Restriction && std::all_of(mine.begin(), mine.end(), allow) &&
      s.cover_atoms(part, mine, true, nullptr, denied, listener)) {
    out = denied;
    out.by_denies = true;
  } else if (!s.cover_atoms(part, mine, false, nullptr, out, listener)) {
    return out;
  }
  // Fewer causes, if some can be spared.
  for (std::size_t i = out.causes.size(); i-- > 0;) {
    if (i >= out.causes.size() || out.causes.size() == 1) continue;
    std::set<ItemRef> fewer(out.causes.begin(), out.causes.end());
    fewer.erase(out.causes[i]);
    Redundancy again = out;
    if (s.cover_atoms(part, mine, out.by_denies, &fewer, again, {})) out.causes = again.causes;
  }
  if (!s.cover_sections(part, out, listener)) return out;
  const auto meeting = [&](const Atom& b) {
    return std::any_of(mine.begin(), mine.end(), [&](const Atom* a) {
      if (a->direction != b.direction) return false;
      for (const Box& x : a->boxes) {
        for (const Box& y : b.boxes) {
          if (meets(x, y)) return true;
        }
      }
      return false;
    });
  };
  const std::vector<std::size_t> beside = s.atoms_beside(mine);
  const bool plain = std::none_of(beside.begin(), beside.end(), [&](std::size_t i) {
    const Atom& a = s.atoms[i];
    return a.alive && !a.plain && meeting(a);
  });
  if (plain) {
    out.answer = Redundancy::Answer::Redundant;
  } else {
    s.compare(part, mine, out);
  }
  out.by_solver = s.by_solver;
  return out;
}

void RuleBase::retire(const Part& part) {
  State& s = *state_;
  for (Atom& a : s.atoms) {
    const bool mine =
        part.kind == Part::Kind::Policy ? s.rule(a.rule).policy == part.policy : in_part(part, a);
    if (mine) a.alive = false;
  }
  const auto empty = [](ir::RuleItem& item) {
    item.any_peer = false;
    item.peers.clear();
    item.requires_.clear();
  };
  if (part.kind == Part::Kind::Policy) {
    for (ir::Rule& r : s.current.rules) {
      if (r.policy != part.policy) continue;
      r.has_ingress = r.has_egress = false;
      for (ir::RuleItem& item : r.items) empty(item);
    }
    return;
  }
  // Indices stay as they are: what is out of the way matches nothing any more.
  ir::Rule& r = s.current.rules[part.rule];
  ir::RuleItem& item = r.items[part.item];
  if (part.kind == Part::Kind::Peers) {
    ir::Requirement nobody;
    nobody.source = "reserved";
    nobody.key = "nobody";
    for (const std::size_t m : part.members) item.peers[m].selector = ir::Selector{{nobody}, {}};
  } else if (part.kind == Part::Kind::Ports) {
    for (const std::size_t m : part.members) item.ports[part.port_rule].ports[m].symbol = "retired";
  } else if (part.kind == Part::Kind::Item) {
    empty(item);
    s.retired.insert({part.rule, part.item});
    const Direction d = item.direction;
    bool left = false;
    for (std::size_t i = 0; i < r.items.size(); ++i) {
      left = left || (r.items[i].direction == d && s.retired.count({part.rule, i}) == 0);
    }
    if (!left) (d == Direction::Ingress ? r.has_ingress : r.has_egress) = false;
  }
}

std::vector<RuleBase::Overlap> RuleBase::partial_denies() {
  State& s = *state_;
  std::vector<Overlap> out;
  std::set<std::pair<ItemRef, ItemRef>> seen;
  for (const Atom& deny : s.atoms) {
    if (!deny.deny || !deny.alive) continue;
    for (const Atom& allow : s.atoms) {
      if (allow.deny || !allow.alive || allow.direction != deny.direction) continue;
      if (!s.usable(allow.rule, deny.rule)) continue;
      for (const Box& a : allow.boxes) {
        for (const Box& d : deny.boxes) {
          const auto both = intersect(a, d);
          if (!both || contains(d, a) || contains(a, d)) continue;
          const ItemRef x{allow.rule, allow.item}, y{deny.rule, deny.item};
          if (!seen.insert({x, y}).second) continue;
          out.push_back({x, y, point_of(s.universe.space(), *both), allow.direction});
        }
      }
    }
  }
  return out;
}

}  // namespace policyc
