#include "ir/resolve.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "ir/decide.h"
#include "ir/filters.h"
#include "ir/identity.h"

namespace policyc::ir {
namespace {

using Bits = std::vector<std::uint64_t>;

bool test(const Bits& bits, std::size_t i) {
  return ((bits[i / 64] >> (i % 64)) & 1U) != 0;
}
void set(Bits& bits, std::size_t i) {
  bits[i / 64] |= std::uint64_t{1} << (i % 64);
}

// Identity × selector by bit sets: requirements are looked up in an index by key, so that the work
// grows with the labels that mention a key and not with all identities.
class SelectorIndex {
 public:
  explicit SelectorIndex(const std::vector<Identity>& identities)
      : count_(identities.size()), words_((identities.size() + 63) / 64) {
    for (IdentityIndex i = 0; i < count_; ++i) {
      const LabelSet& set = identities[i].labels;
      for (const Label& label : set.labels()) by_key_[label.key].push_back({i, &label});
      if (set.cidr()) cidrs_.push_back({*set.cidr(), i});
    }
    std::sort(cidrs_.begin(), cidrs_.end());
  }

  const Bits& bits(const Selector& selector, const std::string& text) {
    if (selector.requirements.size() == 1) return requirement(selector.requirements[0]);
    auto [it, fresh] = selectors_.try_emplace(text);
    if (!fresh) return it->second;
    Bits all(words_, ~std::uint64_t{0});
    for (const Requirement& r : selector.requirements) {
      const Bits& b = requirement(r);
      for (std::size_t w = 0; w < words_; ++w) all[w] &= b[w];
    }
    it->second = std::move(all);
    return it->second;
  }

 private:
  struct Use {
    IdentityIndex identity;
    const Label* label;
  };

  const Bits& requirement(const Requirement& r) {
    auto [it, fresh] = requirements_.try_emplace(r.str());
    if (!fresh) return it->second;
    Bits& out = it->second;
    out.assign(words_, 0);
    const bool negative = r.op == Operator::NotIn || r.op == Operator::DoesNotExist;
    const bool valued = r.op == Operator::In || r.op == Operator::NotIn;
    if (!r.symbol.empty()) return out;
    if (r.cidr) {
      // Sorted by address, what lies in a block stands together, behind the block's first address.
      auto at = std::lower_bound(
          cidrs_.begin(), cidrs_.end(), *r.cidr,
          [](const auto& a, const Prefix& b) { return a.first.address < b.address; });
      for (; at != cidrs_.end() && r.cidr->contains(at->first.address); ++at) {
        if (r.cidr->contains(at->first)) set(out, at->second);
      }
    } else if (auto uses = by_key_.find(r.key); uses != by_key_.end()) {
      IdentityIndex last = UINT32_MAX;
      for (const Use& use : uses->second) {
        if (r.source != "any" && use.label->source != r.source) continue;
        if (use.identity == last) continue;  // the first label in sorted order supplies the value
        last = use.identity;
        if (valued && !std::binary_search(r.values.begin(), r.values.end(), use.label->value)) {
          continue;
        }
        set(out, use.identity);
      }
    }
    if (negative) {
      for (std::uint64_t& w : out) w = ~w;
    }
    return out;
  }

  std::size_t count_;
  std::size_t words_;
  std::unordered_map<std::string, std::vector<Use>> by_key_;
  std::vector<std::pair<Prefix, IdentityIndex>> cidrs_;
  std::unordered_map<std::string, Bits> requirements_;
  std::unordered_map<std::string, Bits> selectors_;
};

// Gives every label set that occurs a dense index and Cilium's kind of number.
class IdentityTable {
 public:
  IdentityIndex add(const LabelSet& labels) {
    auto [it, fresh] = index_.try_emplace(labels, static_cast<IdentityIndex>(index_.size()));
    if (fresh) order_.push_back(&it->first);
    return it->second;
  }

  // Sorted by number; `renumber[old]` is the new index.
  std::vector<Identity> finish(const Inventory& inventory, std::vector<IdentityIndex>& renumber) {
    std::map<std::string, std::uint32_t> known;
    std::set<std::uint32_t> taken;
    const auto keep = [&](const KnownIdentity& k) {
      std::vector<std::string> labels = k.labels;
      std::sort(labels.begin(), labels.end());
      std::string text;
      for (const std::string& l : labels) text += l + ",";
      if (known.emplace(std::move(text), k.id).second) taken.insert(k.id);
    };
    for (const KnownIdentity& k : inventory.known_identities) keep(k);
    // An agent may have given the number to somebody else meanwhile.
    for (const KnownIdentity& k : inventory.allocated_identities) {
      if (taken.count(k.id) == 0) keep(k);
    }
    std::uint32_t next_pod = kIdentityFirstPod;
    std::uint32_t next_local = kIdentityFirstLocal;
    std::uint32_t next_node = kIdentityFirstNode;
    std::vector<Identity> out;
    std::vector<std::pair<std::uint32_t, IdentityIndex>> order;  // number, old index
    std::map<IdentityIndex, const LabelSet*> labels_of;
    for (const auto& [labels, old] : index_) {  // sorted label order
      std::uint32_t number = reserved_number(labels);
      if (number == kIdentityAny) {
        if (labels.has("reserved", "remote-node")) {
          number = next_node++;
        } else if (labels.has("k8s", kNamespaceKey)) {
          const auto it = known.find(known_text(labels));
          if (it != known.end()) {
            number = it->second;
          } else {
            while (taken.count(next_pod) != 0) ++next_pod;
            number = next_pod++;
          }
        } else {
          number = next_local++;
        }
      }
      order.emplace_back(number, old);
      labels_of[old] = &labels;
    }
    std::stable_sort(order.begin(), order.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    renumber.assign(index_.size(), 0);
    for (const auto& [number, old] : order) {
      renumber[old] = static_cast<IdentityIndex>(out.size());
      out.push_back({number, *labels_of[old]});
    }
    return out;
  }

 private:
  static std::string known_text(const LabelSet& labels) {
    std::vector<std::string> all;
    for (const Label& l : labels.labels()) all.push_back(l.str());
    std::sort(all.begin(), all.end());
    std::string text;
    for (const std::string& l : all) text += l + ",";
    return text;
  }

  static std::uint32_t reserved_number(const LabelSet& labels) {
    if (labels.has("reserved", "host")) return kIdentityHost;
    const auto& l = labels.labels();
    if (l.size() == 2 && labels.has("reserved", "kube-apiserver") &&
        labels.has("reserved", "remote-node")) {
      return kIdentityKubeApiserver;
    }
    if (l.size() != 1 || l[0].source != "reserved") return kIdentityAny;
    static const std::map<std::string, std::uint32_t> kNames = {
        {"world", kIdentityWorld},
        {"unmanaged", kIdentityUnmanaged},
        {"health", kIdentityHealth},
        {"init", kIdentityInit},
        {"remote-node", kIdentityRemoteNode},
        {"ingress", kIdentityIngress},
        {"world-ipv4", kIdentityWorldV4},
        {"world-ipv6", kIdentityWorldV6}};
    const auto it = kNames.find(l[0].key);
    return it == kNames.end() ? kIdentityAny : it->second;
  }

  std::map<LabelSet, IdentityIndex> index_;
  std::vector<const LabelSet*> order_;
};

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

// Half-open interval of L4 keys and the prefix length of the map key that covers it.
struct Span {
  L4Key begin;
  L4Key end;
  int length;
  Protocol protocol;
  PortBlock block;
};

std::vector<Span> spans(const Filter& filter, const NamedPorts& named) {
  if (filter.port.protocol == kProtoAny) return {{0, kL4KeyEnd, 0, kProtoAny, {}}};
  std::vector<Span> out;
  for (const PortBlock& block : filter_blocks(filter, named)) {
    const L4Key base = static_cast<L4Key>(protocol_class(filter.port.protocol)) << 16U;
    out.push_back({base + block.port, base + block.last() + 1, 8 + block.length,
                   filter.port.protocol, block});
  }
  return out;
}

// One allow or deny of one selector over one span.
struct Entry {
  const Filter* filter;
  const SelectorPolicy* policy;  // nullptr: localhost
  const Bits* bits;
  const Bits* selected;  // without the map's aliases: whom the proxy's rules are for
  Span span;
};

std::string rule_text(const HttpRule& r) {
  std::string out = fmt::format("{} {} {}", quoted(r.method), quoted(r.path), quoted(r.host));
  for (const HeaderMatch& h : r.headers) {
    out += fmt::format(" {} {} {} {}", quoted(h.name), h.value ? quoted(*h.value) : "-",
                       h.secret ? 1 : 0, static_cast<int>(h.action));
  }
  return out + r.symbol;
}

std::string rule_text(const KafkaRule& r) {
  return fmt::format("{} {} {} {}{}", fmt::join(r.api_keys, ","), r.api_version.value_or(-1),
                     quoted(r.client_id), quoted(r.topic), r.symbol);
}

std::string rule_text(const DnsRule& r) {
  return quoted(r.pattern) + r.symbol;
}

std::string rule_text(const GenericRule& r) {
  std::string out;
  for (const auto& [key, value] : r.fields) out += quoted(key) + "=" + quoted(value) + " ";
  return out;
}

template <class Rule>
void sort_rules(std::vector<Rule>& rules) {
  std::map<std::string, Rule> sorted;
  for (Rule& r : rules) sorted.try_emplace(rule_text(r), std::move(r));
  rules.clear();
  for (auto& [text, rule] : sorted) rules.push_back(std::move(rule));
}

ProxyFilter proxy_filter(const std::vector<const SelectorPolicy*>& parts) {
  ProxyFilter out;
  std::set<std::string> names;
  const auto join = [](auto& to, const auto& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  std::set<TlsContext> tls;
  std::set<Listener> listeners;
  for (const SelectorPolicy* p : parts) {
    if (p->tls != TlsContext{}) tls.insert(p->tls);
    if (p->listener) listeners.insert(*p->listener);
    if (!p->server_names.empty()) {
      names.insert(p->server_names.begin(), p->server_names.end());
      continue;
    }
    out.everything = out.everything || !p->has_l7_rules() || p->l7_match_all;
    join(out.http, p->l7.http);
    join(out.kafka, p->l7.kafka);
    join(out.dns, p->l7.dns);
    join(out.generic, p->l7.generic);
    if (!p->l7.generic.empty()) out.generic_parser = p->l7.proto;
  }
  if (out.everything) {
    out = {};
    out.everything = true;
    names.clear();
  }
  out.tls.assign(tls.begin(), tls.end());
  out.listeners.assign(listeners.begin(), listeners.end());
  out.server_names.assign(names.begin(), names.end());
  sort_rules(out.http);
  sort_rules(out.kafka);
  sort_rules(out.dns);
  sort_rules(out.generic);
  return out;
}

class TableBuilder {
 public:
  TableBuilder(const std::vector<Identity>& identities, SelectorIndex& index,
               const Settings& settings, IdentityIndex world)
      : identities_(identities), index_(index), settings_(settings), world_(world) {}

  PolicyTable build(const EndpointPolicy& policy, const NamedPorts& named, const Bits* localhost);

 private:
  void refine(PolicyTable& table, const std::vector<Entry>& entries) const;
  VerdictRecord record(const std::vector<const Entry*>& matching, bool enforced) const;
  void map_entries(PolicyTable& table, const std::vector<Entry>& entries,
                   const std::vector<IdentityIndex>& representatives);
  std::uint16_t intern(PolicyTable& table, const VerdictRecord& record) const;
  void proxy_filters(PolicyTable& table, const std::vector<Entry>& entries,
                     const std::vector<IdentityIndex>& representatives) const;

  const std::vector<Identity>& identities_;
  SelectorIndex& index_;
  const Settings& settings_;
  IdentityIndex world_;
  std::map<const Bits*, Bits> with_alias_;

 public:
  // Dual stack: who selects identity 2 also gets 9 and 10 in the map.
  const Bits* aliased(const Bits& bits);
};

const Bits* TableBuilder::aliased(const Bits& bits) {
  if (!settings_.dual_stack() || !test(bits, world_)) return &bits;
  auto [it, fresh] = with_alias_.try_emplace(&bits, bits);
  if (fresh) {
    for (IdentityIndex i = 0; i < identities_.size(); ++i) {
      const std::uint32_t n = identities_[i].number;
      if (n == kIdentityWorldV4 || n == kIdentityWorldV6) set(it->second, i);
    }
  }
  return &it->second;
}

void TableBuilder::refine(PolicyTable& table, const std::vector<Entry>& entries) const {
  table.class_of.assign(identities_.size(), 0);
  std::uint32_t classes = 1;
  std::set<const Bits*> seen;
  const auto split = [&](const Bits* bits) {
    if (!seen.insert(bits).second) return;
    // Split each class into those inside and those outside; the outside keeps its number.
    std::vector<std::uint32_t> inside(classes, UINT32_MAX);
    std::vector<bool> has_outside(classes, false);
    for (IdentityIndex i = 0; i < identities_.size(); ++i) {
      if (!test(*bits, i)) has_outside[table.class_of[i]] = true;
    }
    const std::uint32_t before = classes;
    for (IdentityIndex i = 0; i < identities_.size(); ++i) {
      std::uint32_t& c = table.class_of[i];
      if (c >= before || !test(*bits, i) || !has_outside[c]) continue;
      if (inside[c] == UINT32_MAX) inside[c] = classes++;
      c = inside[c];
    }
  };
  for (const Entry& e : entries) split(e.bits);
  // The proxy knows nothing of the map's aliases.
  const bool proxied = std::any_of(entries.begin(), entries.end(), [](const Entry& e) {
    return e.policy != nullptr && e.policy->redirect;
  });
  for (const Entry& e : entries) {
    if (proxied) split(e.selected);
  }
  table.classes = classes;
}

VerdictRecord TableBuilder::record(const std::vector<const Entry*>& matching, bool enforced) const {
  VerdictRecord out;
  std::vector<Atom> allows;
  for (const Entry* e : matching) {
    if (e->policy != nullptr && e->policy->deny) {
      out.reason = Reason::PolicyDeny;
      return out;
    }
    allows.push_back({e->filter, e->policy, e->policy == nullptr || !e->policy->selector.wildcard(),
                      e->span.length, e->policy == nullptr ? 0 : e->policy->priority});
  }
  if (!enforced) {
    out.verdict = VerdictKind::Allow;
    out.reason = allows.empty() ? Reason::NoPolicy : Reason::Localhost;
    return out;
  }
  const Decision decision = decide(allows);
  out.reason = decision.reason;
  if (decision.best == nullptr) return out;
  out.auth = decision.auth;
  out.priority = static_cast<std::uint8_t>(decision.best->priority);
  out.verdict = out.priority > 0 ? VerdictKind::Redirect : VerdictKind::Allow;
  if (out.priority > 0) out.parser = decision.best->filter->parser_text;
  return out;
}

std::uint16_t TableBuilder::intern(PolicyTable& table, const VerdictRecord& record) const {
  const auto it = std::find(table.records.begin(), table.records.end(), record);
  if (it != table.records.end()) return static_cast<std::uint16_t>(it - table.records.begin());
  table.records.push_back(record);
  return static_cast<std::uint16_t>(table.records.size() - 1);
}

// What the proxy enforces depends on every entry that selects the peer and covers the port.
void TableBuilder::proxy_filters(PolicyTable& table, const std::vector<Entry>& entries,
                                 const std::vector<IdentityIndex>& representatives) const {
  using Parts = std::vector<const SelectorPolicy*>;
  std::map<Parts, std::uint16_t> by_parts;
  std::map<std::string, std::uint16_t> by_text;
  const std::size_t columns = table.columns();
  for (std::size_t cell = 0; cell < table.cells.size(); ++cell) {
    const VerdictRecord& r = table.records[table.cells[cell]];
    if (r.verdict != VerdictKind::Redirect) continue;
    if (table.cell_filters.empty()) table.cell_filters.resize(table.cells.size(), 0);
    const L4Key key = table.column_begin[cell % columns];
    const IdentityIndex identity = representatives[cell / columns];
    Parts parts;
    for (const Entry& e : entries) {
      if (e.policy == nullptr || e.policy->deny || key < e.span.begin || key >= e.span.end)
        continue;
      // The DNS proxy looks at the very filter that carries the DNS rules.
      if (r.parser == "dns" && e.filter->parser != Parser::Dns) continue;
      if (test(*e.selected, identity)) parts.push_back(e.policy);
    }
    auto [it, fresh] = by_parts.try_emplace(std::move(parts), std::uint16_t{0});
    if (fresh) {
      ProxyFilter f = proxy_filter(it->first);
      auto [known, first] =
          by_text.try_emplace(f.text(), static_cast<std::uint16_t>(table.proxy_filters.size() + 1));
      if (first) table.proxy_filters.push_back(std::move(f));
      it->second = known->second;
    }
    table.cell_filters[cell] = it->second;
  }
}

// Covered entries are dropped, the rest keep their own value.
void TableBuilder::map_entries(PolicyTable& table, const std::vector<Entry>& entries,
                               const std::vector<IdentityIndex>& representatives) {
  struct Slot {
    bool deny = false;
    std::vector<const Entry*> parts;
    int priority = 0;
  };
  using Key = std::tuple<Protocol, PortBlock>;
  using Side = std::map<Key, Slot>;
  const auto add = [](Side& side, const Entry& e) {
    Slot& slot = side[{e.span.protocol, e.span.block}];
    slot.deny = slot.deny || (e.policy != nullptr && e.policy->deny);
    slot.priority = std::max(slot.priority, e.policy == nullptr ? 0 : int{e.policy->priority});
    slot.parts.push_back(&e);
  };
  const auto covers = [](const Key& wide, const Key& narrow) {
    const auto& [wp, wb] = wide;
    const auto& [np, nb] = narrow;
    if (wp == kProtoAny) return true;
    return wp == np && wb.length <= nb.length && nb.port >= wb.port && nb.port <= wb.last();
  };
  const auto dropped = [&](const Key& key, const Slot& slot, const Side& side, const Side& other) {
    for (const auto& [k, s] : side) {
      if (k == key || !covers(k, key)) continue;
      if (s.deny || (!slot.deny && s.priority > slot.priority)) return true;
    }
    for (const auto& [k, s] : other) {
      if ((s.deny || (!slot.deny && s.priority > slot.priority)) && covers(k, key)) return true;
    }
    return false;
  };
  const auto length = [](const Key& key) {
    const auto& [protocol, block] = key;
    return protocol == kProtoAny ? 0 : 8 + block.length;
  };
  const auto emit = [&](const Side& side, const Side& wider, bool specific,
                        std::vector<PolicyTable::Entry>& out) {
    for (const auto& [key, slot] : side) {
      if (dropped(key, slot, side, wider)) continue;
      VerdictRecord r;
      if (slot.deny) {
        r.reason = Reason::PolicyDeny;
      } else {
        // The entry's own value: what decides among the entries of this identity at this key.
        std::vector<Atom> atoms;
        for (const auto& [k, s] : side) {
          if (!covers(k, key) || s.deny || dropped(k, s, side, wider)) continue;
          for (const Entry* e : s.parts) {
            if (k != key && (e->policy == nullptr || !e->policy->auth)) continue;
            atoms.push_back({e->filter, e->policy, specific, length(k),
                             e->policy == nullptr ? 0 : e->policy->priority});
          }
        }
        // Wider keys lend their authentication only.
        for (Atom& a : atoms) {
          if (a.length != length(key)) a.priority = -1;
        }
        const Decision d = decide(atoms);
        r.reason = d.reason;
        r.auth = d.auth;
        r.priority = static_cast<std::uint8_t>(std::max(0, slot.priority));
        r.verdict = r.priority > 0 ? VerdictKind::Redirect : VerdictKind::Allow;
        if (r.priority > 0) r.parser = d.best->filter->parser_text;
      }
      const auto& [protocol, block] = key;
      out.push_back({protocol, block, intern(table, r)});
    }
  };
  Side wildcard;
  for (const Entry& e : entries) {
    if (e.policy != nullptr && !e.policy->no_entry && e.policy->selector.wildcard()) {
      add(wildcard, e);
    }
  }
  emit(wildcard, {}, false, table.wildcard_entries);
  table.class_entries.resize(table.classes);
  for (std::uint32_t c = 0; c < table.classes; ++c) {
    Side mine;
    for (const Entry& e : entries) {
      if (e.policy != nullptr && (e.policy->no_entry || e.policy->selector.wildcard())) continue;
      if (test(*e.bits, representatives[c])) add(mine, e);
    }
    emit(mine, wildcard, true, table.class_entries[c]);
  }
}

PolicyTable TableBuilder::build(const EndpointPolicy& policy, const NamedPorts& named,
                                const Bits* localhost) {
  PolicyTable table;
  table.enforced = policy.enforced;
  std::vector<Entry> entries;
  for (const Filter& filter : policy.filters) {
    const std::vector<Span> covered = spans(filter, named);
    for (const SelectorPolicy& p : filter.policies) {
      const Bits& selected = index_.bits(p.selector, p.text);
      const Bits* bits = aliased(selected);
      for (const Span& span : covered) entries.push_back({&filter, &p, bits, &selected, span});
    }
  }
  if (localhost != nullptr) {
    entries.push_back({nullptr, nullptr, localhost, localhost, {0, kL4KeyEnd, 0, kProtoAny, {}}});
  }
  refine(table, entries);

  std::set<L4Key> begins;
  for (std::uint32_t c = 0; c < kProtocolClasses; ++c) begins.insert(c << 16U);
  for (const Entry& e : entries) {
    begins.insert(e.span.begin);
    if (e.span.end < kL4KeyEnd) begins.insert(e.span.end);
  }
  table.column_begin.assign(begins.begin(), begins.end());

  std::vector<IdentityIndex> representatives(table.classes, 0);
  for (IdentityIndex i = static_cast<IdentityIndex>(identities_.size()); i-- > 0;) {
    representatives[table.class_of[i]] = i;
  }
  const std::size_t columns = table.columns();
  table.cells.resize(table.classes * columns);
  std::vector<std::vector<const Entry*>> at(columns);
  for (std::uint32_t c = 0; c < table.classes; ++c) {
    for (auto& list : at) list.clear();
    for (const Entry& e : entries) {
      if (!test(*e.bits, representatives[c])) continue;
      for (std::size_t k = table.column(e.span.begin);
           k < columns && table.column_begin[k] < e.span.end; ++k) {
        at[k].push_back(&e);
      }
    }
    for (std::size_t k = 0; k < columns; ++k) {
      const bool same = k > 0 && at[k] == at[k - 1];
      table.cells[c * columns + k] =
          same ? table.cells[c * columns + k - 1] : intern(table, record(at[k], table.enforced));
    }
  }
  proxy_filters(table, entries, representatives);
  if (table.enforced) {
    map_entries(table, entries, representatives);
  } else {
    // No enforcement: everything is allowed, by one wildcard entry.
    VerdictRecord all;
    all.verdict = VerdictKind::Allow;
    all.reason = Reason::NoPolicy;
    table.wildcard_entries.push_back({kProtoAny, {}, intern(table, all)});
    map_entries(table, entries, representatives);
  }
  return table;
}

std::vector<std::string> symbols_of(const Rule& rule) {
  std::vector<std::string> out;
  const auto note = [&](const std::string& symbol) {
    if (!symbol.empty()) out.push_back(symbol);
  };
  note(rule.symbol);
  for (const Requirement& r : rule.subject.requirements) note(r.symbol);
  for (const RuleItem& item : rule.items) {
    note(item.auth_symbol);
    for (const Peer& peer : item.peers) {
      for (const Requirement& r : peer.selector.requirements) note(r.symbol);
    }
    for (const PortRule& pr : item.ports) {
      for (const Port& p : pr.ports) note(p.symbol);
      for (const HttpRule& r : pr.l7.http) note(r.symbol);
      for (const DnsRule& r : pr.l7.dns) note(r.symbol);
    }
  }
  return out;
}

// Rules that select an endpoint, and what about them is not known.
struct Selected {
  std::vector<const Rule*> rules;
  std::vector<std::string> depends_on;
  friend auto operator<=>(const Selected&, const Selected&) = default;
};

}  // namespace

std::string ProxyFilter::text() const {
  std::string out;
  for (const TlsContext& t : tls) {
    out += fmt::format("tls {} {}\n", quoted(t.terminating_secret), quoted(t.originating_secret));
  }
  for (const Listener& l : listeners) {
    out += fmt::format("listener {} {} {} {}\n", quoted(l.kind), quoted(l.config), quoted(l.name),
                       l.priority);
  }
  if (everything) return out + "everything";
  for (const std::string& name : server_names) out += fmt::format("sni {}\n", quoted(name));
  for (const HttpRule& r : http) out += fmt::format("http {}\n", rule_text(r));
  for (const KafkaRule& r : kafka) out += fmt::format("kafka {}\n", rule_text(r));
  for (const DnsRule& r : dns) out += fmt::format("dns {}\n", rule_text(r));
  for (const GenericRule& r : generic)
    out += fmt::format("generic {} {}\n", quoted(generic_parser), rule_text(r));
  return out;
}

std::vector<std::string> ProxyFilter::rules() const {
  if (everything) return {};
  std::set<std::string> out;
  for (const HttpRule& r : http) {
    std::string line = fmt::format("{} {}", r.method.empty() ? "any method" : r.method,
                                   r.path.empty() ? "any path" : r.path);
    if (!r.host.empty()) line += " host " + r.host;
    for (const HeaderMatch& h : r.headers) {
      line += fmt::format(" header {}{}", h.name, h.value ? ": " + *h.value : "");
    }
    out.insert(std::move(line));
  }
  for (const DnsRule& r : dns) out.insert(r.pattern);
  for (const KafkaRule& r : kafka) out.insert(r.topic.empty() ? "any topic" : "topic " + r.topic);
  for (const GenericRule& r : generic) {
    std::string line = generic_parser;
    for (const auto& [key, value] : r.fields) line += fmt::format(" {}: {}", key, value);
    out.insert(std::move(line));
  }
  for (const std::string& name : server_names) out.insert("SNI " + name);
  return {out.begin(), out.end()};
}

std::vector<std::string> policy_names(const PolicySet& policies) {
  std::set<std::string> out;
  for (const Rule& rule : policies.rules) {
    for (const RuleItem& item : rule.items) {
      for (const Peer& peer : item.peers) {
        if (peer.kind == PeerKind::Fqdn && peer.text.find("${") == std::string::npos) {
          out.insert(peer.text);
        }
      }
    }
  }
  return {out.begin(), out.end()};
}

LabelSet name_identity(const World& world, const std::string& text) {
  std::vector<Label> labels = {
      {"reserved", world.settings.dual_stack() ? "world-ipv4" : "world", ""}};
  const bool pattern = text.find('*') != std::string::npos;
  for (const std::string& other : policy_names(world.policies)) {
    const std::string read = dns_pattern(world.settings.release(), other);
    if (other == text || read == "*" || (!pattern && dns_pattern_matches(read, text))) {
      labels.push_back({"fqdn", other, ""});
    }
  }
  return LabelSet(std::move(labels));
}

Resolved resolve(const World& world, const ResolveOptions& options) {
  const Inventory& inventory = world.inventory;
  const Settings& settings = world.settings;
  Resolved out;
  IdentityTable table;

  // Identities: pods, reserved ones, and what each node makes of every address.
  std::vector<IdentityIndex> pod_identities;
  for (const Pod& pod : inventory.pods) {
    pod_identities.push_back(pod.host_network ? 0
                                              : table.add(pod_identity(inventory, settings, pod)));
  }
  for (const char* name : {"world", "world-ipv4", "world-ipv6", "unmanaged", "health", "init",
                           "remote-node", "kube-apiserver", "ingress"}) {
    table.add(entity_identity(name));
  }

  for (const std::string& name : options.names) table.add(name_identity(world, name));

  std::set<IpAddress> pod_addresses;
  for (const Pod& pod : inventory.pods) {
    if (!pod.host_network) pod_addresses.insert(pod.ips.begin(), pod.ips.end());
  }
  std::vector<std::size_t> nodes;
  for (std::size_t i = 0; i < inventory.nodes.size(); ++i) nodes.push_back(i);
  const auto node_known = [&](const std::string& name) {
    return std::any_of(inventory.nodes.begin(), inventory.nodes.end(),
                       [&](const Node& n) { return n.name == name; });
  };
  const bool homeless = std::any_of(inventory.pods.begin(), inventory.pods.end(),
                                    [&](const Pod& p) { return !node_known(p.node); });
  if (nodes.empty() || (homeless && nodes.size() > 1)) nodes.push_back(SIZE_MAX);
  for (const std::size_t node : nodes) {
    const AddressBook book(inventory, settings, world.policies, node);
    NodeView view;
    view.node = node == SIZE_MAX ? "-" : inventory.nodes[node].name;
    view.host = table.add(book.host());
    for (const Prefix& p : book.prefixes()) {
      const bool pod = p.length == p.address.bits() && pod_addresses.count(p.address) != 0;
      if (!pod) view.ipcache.emplace_back(p, table.add(book.identity_of(p)));
    }
    for (const LabelSet& labels : book.behind_pods()) view.behind_pods.push_back(table.add(labels));
    out.views.push_back(std::move(view));
  }
  std::vector<IdentityIndex> renumber;
  out.identities = table.finish(inventory, renumber);
  for (IdentityIndex& i : pod_identities) i = renumber[i];
  for (NodeView& view : out.views) {
    view.host = renumber[view.host];
    for (auto& [prefix, identity] : view.ipcache) identity = renumber[identity];
    for (IdentityIndex& i : view.behind_pods) i = renumber[i];
    std::sort(view.behind_pods.begin(), view.behind_pods.end());
    view.behind_pods.erase(std::unique(view.behind_pods.begin(), view.behind_pods.end()),
                           view.behind_pods.end());
    for (std::size_t p = 0; p < inventory.pods.size(); ++p) {
      if (inventory.pods[p].host_network) continue;
      for (const IpAddress& ip : inventory.pods[p].ips) {
        const bool used = ip.family == Family::V4 ? settings.ipv4 : settings.ipv6;
        if (used) view.ipcache.emplace_back(host_prefix(ip), pod_identities[p]);
      }
    }
    std::sort(view.ipcache.begin(), view.ipcache.end());
    view.ipcache.erase(std::unique(view.ipcache.begin(), view.ipcache.end(),
                                   [](const auto& a, const auto& b) { return a.first == b.first; }),
                       view.ipcache.end());
  }
  const auto index_of = [&](std::uint32_t number) {
    for (IdentityIndex i = 0; i < out.identities.size(); ++i) {
      if (out.identities[i].number == number) return i;
    }
    return IdentityIndex{0};
  };

  // Which rules select which identity: by namespace first, then by bit sets.
  SelectorIndex index(out.identities);
  TableBuilder builder(out.identities, index, settings, index_of(kIdentityWorld));
  std::vector<std::vector<std::string>> rule_symbols;
  std::vector<const Bits*> rule_bits;
  for (const Rule& rule : world.policies.rules) {
    rule_symbols.push_back(symbols_of(rule));
    Selector subject = rule.subject;
    // A subject that hangs on an unknown may select: its known requirements decide who is affected.
    std::erase_if(subject.requirements, [&](const Requirement& r) {
      return !r.symbol.empty() || (!rule.symbol.empty() && r.key == kNamespaceKey);
    });
    rule_bits.push_back(rule.host_subject ? nullptr : &index.bits(subject, subject.text()));
  }
  const auto add_rule = [&](Selected& s, std::size_t i) {
    const Rule& rule = world.policies.rules[i];
    s.rules.push_back(&rule);
    s.depends_on.insert(s.depends_on.end(), rule_symbols[i].begin(), rule_symbols[i].end());
  };
  const NamedPorts cluster_ports = egress_ports(inventory);

  for (std::size_t v = 0; v < out.views.size(); ++v) {
    NodeView& view = out.views[v];
    const std::size_t node = nodes[v];
    const LabelSet& host_labels = out.identities[view.host].labels;
    Bits host_bits((out.identities.size() + 63) / 64, 0);
    set(host_bits, view.host);

    // Endpoints that share rules and named ports share tables.
    using TableKey = std::tuple<std::vector<const Rule*>, NamedPorts, bool>;  // rules, ports, host
    struct Shared {
      std::string error;
      std::shared_ptr<const PolicyTable> ingress, egress;
    };
    std::map<TableKey, Shared> shared;
    const auto tables = [&](const Selected& s, const NamedPorts& own, bool host,
                            ResolvedEndpoint& ep) {
      const bool named = std::any_of(s.rules.begin(), s.rules.end(), [](const Rule* r) {
        return std::any_of(r->items.begin(), r->items.end(), [](const RuleItem& item) {
          return std::any_of(item.ports.begin(), item.ports.end(), [](const PortRule& pr) {
            return std::any_of(pr.ports.begin(), pr.ports.end(),
                               [](const Port& p) { return !p.name.empty(); });
          });
        });
      });
      auto [it, fresh] = shared.try_emplace(TableKey{s.rules, named ? own : NamedPorts{}, host});
      Shared& t = it->second;
      if (fresh) {
        const EndpointPolicy in =
            merge_rules(s.rules, Direction::Ingress, settings, host_labels, host, false);
        const EndpointPolicy eg =
            merge_rules(s.rules, Direction::Egress, settings, host_labels, host, false);
        t.error = !in.error.empty() ? in.error : eg.error;
        const bool local = !host && !settings.allow_localhost_policy;
        PolicyTable ingress;
        PolicyTable egress;
        if (t.error.empty()) {
          ingress = builder.build(in, own, local ? &host_bits : nullptr);
          egress = builder.build(eg, cluster_ports, nullptr);
        }
        t.ingress = std::make_shared<const PolicyTable>(std::move(ingress));
        t.egress = std::make_shared<const PolicyTable>(std::move(egress));
      }
      ep.error = t.error;
      ep.ingress = t.ingress;
      ep.egress = t.egress;
      ep.depends_on = s.depends_on;
      std::sort(ep.depends_on.begin(), ep.depends_on.end());
      ep.depends_on.erase(std::unique(ep.depends_on.begin(), ep.depends_on.end()),
                          ep.depends_on.end());
    };

    std::map<std::pair<IdentityIndex, NamedPorts>, std::vector<std::size_t>> groups;
    for (std::size_t p = 0; p < inventory.pods.size(); ++p) {
      const Pod& pod = inventory.pods[p];
      if (pod.host_network) continue;
      const bool here = node == SIZE_MAX       ? !node_known(pod.node)
                        : node_known(pod.node) ? pod.node == inventory.nodes[node].name
                                               : nodes.size() == 1;
      if (here) groups[{pod_identities[p], ingress_ports(pod)}].push_back(p);
    }
    std::map<IdentityIndex, Selected> selected;
    for (const auto& [key, pods] : groups) {
      auto [it, fresh] = selected.try_emplace(key.first);
      if (!fresh) continue;
      const std::string& ns = inventory.pods[pods.front()].ns;
      for (std::size_t i = 0; i < world.policies.rules.size(); ++i) {
        const Rule& rule = world.policies.rules[i];
        if (rule.host_subject || !test(*rule_bits[i], key.first)) continue;
        if (!rule.ns.empty() && rule.ns != ns && rule.symbol.empty()) continue;
        add_rule(it->second, i);
      }
    }
    // Pods of one identity whose ports no rule names share one endpoint.
    std::map<std::tuple<IdentityIndex, const PolicyTable*, const PolicyTable*>, std::size_t> merged;
    for (const auto& [key, pods] : groups) {
      ResolvedEndpoint ep;
      ep.identity = key.first;
      tables(selected[key.first], key.second, false, ep);
      for (const auto& [label, value] : inventory.pods[pods.front()].labels) {
        if (value.find("${") != std::string::npos) {
          ep.depends_on.push_back(fmt::format("label {}={} of {}", label, value,
                                              inventory.pods[pods.front()].full_name()));
        }
      }
      auto [it, fresh] = merged.try_emplace(
          std::tuple(ep.identity, ep.ingress.get(), ep.egress.get()), view.endpoints.size());
      if (fresh) view.endpoints.push_back(std::move(ep));
      auto& list = view.endpoints[it->second].pods;
      list.insert(list.end(), pods.begin(), pods.end());
    }
    for (ResolvedEndpoint& ep : view.endpoints) std::sort(ep.pods.begin(), ep.pods.end());
    if (settings.host_firewall && node != SIZE_MAX) {
      Selected s;
      const LabelSet labels = node_selector_labels(settings, inventory.nodes[node]);
      for (std::size_t i = 0; i < world.policies.rules.size(); ++i) {
        const Rule& rule = world.policies.rules[i];
        if (rule.host_subject && rule.subject.matches(labels)) add_rule(s, i);
      }
      ResolvedEndpoint ep;
      ep.identity = view.host;
      ep.host = true;
      tables(s, {}, true, ep);
      view.endpoints.push_back(std::move(ep));
    }
  }
  return out;
}

}  // namespace policyc::ir
