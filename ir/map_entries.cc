#include "ir/map_entries.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "ir/identity.h"

namespace policyc::ir {
namespace {

constexpr std::size_t kNone = SIZE_MAX;

// Half-open interval of L4 keys that an entry matches.
struct Interval {
  L4Key begin, end;
};

Interval interval(const PolicyTable::Entry& e) {
  if (e.protocol == kProtoAny) return {0, kL4KeyEnd};
  const L4Key base = static_cast<L4Key>(protocol_class(e.protocol)) << 16U;
  return {base + e.block.port, base + e.block.last() + 1};
}

int prefix_length(const PolicyTable::Entry& e) {
  return e.protocol == kProtoAny ? 0 : 8 + e.block.length;
}

int auth_type(const VerdictRecord& r) {
  return r.auth ? static_cast<int>(r.auth->type) : 0;
}

bool is_explicit(const VerdictRecord& r) {
  return r.auth && r.auth->is_explicit;
}

// An entry that a lookup found; nullptr = none.
struct Match {
  const VerdictRecord* record = nullptr;
  int length = 0;
};

VerdictRecord combine(const Match& peer, const Match& any, AuthLending lending) {
  VerdictRecord nothing;
  if (peer.record == nullptr && any.record == nullptr) return nothing;
  const auto denies = [](const Match& m) {
    return m.record != nullptr && m.record->verdict == VerdictKind::Deny;
  };
  if (denies(peer)) return *peer.record;
  bool any_wins = any.record != nullptr;
  if (any_wins && peer.record != nullptr && !denies(any)) {
    any_wins = any.record->priority != peer.record->priority
                   ? any.record->priority > peer.record->priority
                   : any.length > peer.length;
  }
  const Match& chosen = any_wins ? any : peer;
  const Match& other = any_wins ? peer : any;
  VerdictRecord out = *chosen.record;
  if (out.verdict != VerdictKind::Deny && other.record != nullptr && !is_explicit(out) &&
      (lending == AuthLending::Always || other.record->priority == out.priority) &&
      auth_type(*other.record) > auth_type(out)) {
    out.auth = Auth{other.record->auth->type, false};
  }
  return out;
}

// Whether the datapath does the same with both.
bool alike(const VerdictRecord& a, const VerdictRecord& b) {
  if (a.verdict != b.verdict) return false;
  if (a.verdict == VerdictKind::Deny) {
    return (a.reason == Reason::PolicyDeny) == (b.reason == Reason::PolicyDeny);
  }
  return auth_type(a) == auth_type(b) && a.priority == b.priority && a.parser == b.parser;
}

// Entries of one identity (or the wildcard ones) as a forest over the columns of the table: which
// entry each column belongs to, and which would take over if that one went.
class Forest {
 public:
  Forest(const PolicyTable& table, std::vector<PolicyTable::Entry>& entries)
      : entries_(entries), gone_(entries.size()), parent_(entries.size(), kNone) {
    // Wider first: blocks nest or are disjoint, so the last that covers a column owns it.
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
      return prefix_length(a) < prefix_length(b);
    });
    owner_.assign(table.columns(), kNone);
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const Interval at = interval(entries[i]);
      for (std::size_t k = table.column(at.begin);
           k < owner_.size() && table.column_begin[k] < at.end; ++k) {
        if (table.column_begin[k] < at.begin) continue;
        if (owner_[k] != kNone) parent_[i] = owner_[k];
        owner_[k] = i;
      }
    }
    columns_.resize(entries.size());
    for (std::size_t k = 0; k < owner_.size(); ++k) {
      if (owner_[k] != kNone) columns_[owner_[k]].push_back(k);
    }
  }

  std::size_t owner(std::size_t column) const { return owner_[column]; }
  bool gone(std::size_t entry) const { return gone_[entry]; }
  // The entry that takes over when `entry` goes.
  std::size_t heir(std::size_t entry) const {
    std::size_t at = parent_[entry];
    while (at != kNone && gone_[at]) at = parent_[at];
    return at;
  }
  const std::vector<std::size_t>& columns(std::size_t entry) const { return columns_[entry]; }
  void remove(std::size_t entry) {
    const std::size_t to = heir(entry);
    gone_[entry] = true;
    for (const std::size_t k : columns_[entry]) owner_[k] = to;
    if (to != kNone) {
      columns_[to].insert(columns_[to].end(), columns_[entry].begin(), columns_[entry].end());
    }
    columns_[entry].clear();
  }
  Match match(const std::vector<VerdictRecord>& records, std::size_t entry) const {
    if (entry == kNone) return {};
    return {&records[entries_[entry].record], prefix_length(entries_[entry])};
  }
  void erase_gone() {
    std::size_t to = 0;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (!gone_[i]) entries_[to++] = entries_[i];
    }
    entries_.resize(to);
    std::sort(entries_.begin(), entries_.end());
  }
  std::size_t size() const { return entries_.size(); }

 private:
  std::vector<PolicyTable::Entry>& entries_;
  std::vector<bool> gone_;
  std::vector<std::size_t> parent_;
  std::vector<std::size_t> owner_;                 // per column
  std::vector<std::vector<std::size_t>> columns_;  // per entry: those that it owns
};

// Takes entries away until each is needed. `keeps(column, heir)`: whether the column's verdict is
// right once the heir owns it.
template <class Keeps>
void thin_out(Forest& forest, Keeps keeps) {
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t i = forest.size(); i-- > 0;) {
      if (forest.gone(i)) continue;
      const std::size_t heir = forest.heir(i);
      const auto& columns = forest.columns(i);
      if (!std::all_of(columns.begin(), columns.end(),
                       [&](std::size_t k) { return keeps(k, heir); })) {
        continue;
      }
      forest.remove(i);
      changed = true;
    }
  }
}

}  // namespace

std::vector<IdentityIndex> agent_identities(const Resolved& resolved, const NodeView& view) {
  std::set<IdentityIndex> here(view.behind_pods.begin(), view.behind_pods.end());
  for (const auto& [prefix, identity] : view.ipcache) here.insert(identity);
  here.insert(view.host);
  std::vector<IdentityIndex> out;
  for (IdentityIndex i = 0; i < resolved.identities.size(); ++i) {
    const std::uint32_t number = resolved.identities[i].number;
    const bool local = number == kIdentityHost || number >= kIdentityFirstLocal;
    if (!local || here.count(i) != 0) out.push_back(i);
  }
  return out;
}

std::size_t agent_entries(const ResolvedEndpoint& endpoint,
                          const std::vector<IdentityIndex>& identities) {
  std::size_t out = 0;
  for (const PolicyTable* table : {endpoint.ingress.get(), endpoint.egress.get()}) {
    out += table->wildcard_entries.size();
    if (table->class_entries.empty()) continue;
    for (const IdentityIndex i : identities) out += table->class_entries[table->class_of[i]].size();
  }
  return out;
}

VerdictRecord map_lookup(const MapEntries& map, AuthLending lending, std::size_t identity_class,
                         L4Key key) {
  const auto longest = [&](const std::vector<PolicyTable::Entry>& entries) {
    Match out;
    for (const PolicyTable::Entry& e : entries) {
      const Interval at = interval(e);
      if (key < at.begin || key >= at.end) continue;
      if (out.record == nullptr || prefix_length(e) > out.length) {
        out = {&map.records[e.record], prefix_length(e)};
      }
    }
    return out;
  };
  const Match peer =
      identity_class < map.classes.size() ? longest(map.classes[identity_class]) : Match{};
  return combine(peer, longest(map.wildcard), lending);
}

Expected<MapEntries> fewest_entries(const PolicyTable& table, AuthLending lending) {
  MapEntries out{table.records, table.wildcard_entries, table.class_entries};
  out.classes.resize(table.classes);
  const std::size_t columns = table.columns();
  const auto wanted = [&](std::size_t c, std::size_t k) -> const VerdictRecord& {
    return table.records[table.cells[c * columns + k]];
  };
  // Wildcard entries among themselves: what an unknown identity gets stays as it is.
  Forest wildcard(table, out.wildcard);
  {
    std::vector<VerdictRecord> before;
    for (std::size_t k = 0; k < columns; ++k) {
      before.push_back(combine({}, wildcard.match(out.records, wildcard.owner(k)), lending));
    }
    // A wider entry of the same meaning, but shorter, may lose where a longer one won.
    std::vector<Forest> classes;
    for (auto& entries : out.classes) classes.emplace_back(table, entries);
    const auto right = [&](std::size_t k, std::size_t any) {
      const Match w = wildcard.match(out.records, any);
      if (!alike(combine({}, w, lending), before[k])) return false;
      for (std::size_t c = 0; c < classes.size(); ++c) {
        const Match peer = classes[c].match(out.records, classes[c].owner(k));
        if (!alike(combine(peer, w, lending), wanted(c, k))) return false;
      }
      return true;
    };
    for (std::size_t k = 0; k < columns; ++k) {
      if (!right(k, wildcard.owner(k))) {
        const L4Key key = table.column_begin[k];
        return Error{fmt::format(
            "Cilium's two lookups cannot express the verdict at {}/{}",
            protocol_name(class_protocol(static_cast<ProtocolClass>(key >> 16U))), key & 0xFFFFU)};
      }
    }
    // Entries of identities first: what the wildcard says as well need not be said again.
    for (std::size_t c = 0; c < classes.size(); ++c) {
      Forest& forest = classes[c];
      thin_out(forest, [&](std::size_t k, std::size_t heir) {
        return alike(combine(forest.match(out.records, heir),
                             wildcard.match(out.records, wildcard.owner(k)), lending),
                     wanted(c, k));
      });
    }
    thin_out(wildcard, right);
    for (Forest& forest : classes) forest.erase_gone();
  }
  wildcard.erase_gone();
  return out;
}

}  // namespace policyc::ir
