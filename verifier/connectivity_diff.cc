#include "verifier/connectivity_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "ir/identity.h"
#include "ir/print.h"
#include "ir/resolve.h"
#include "verifier/request_language.h"

namespace policyc {
namespace {

using ir::IdentityIndex;
using ir::L4Key;
using ir::PolicyTable;

// ---- rows: what one table says to one identity class, as numbers that mean the same in both
// worlds

// What happens to a packet, without the reasons.
struct Decision {
  bool pass = true;
  std::string parser;
  std::vector<std::string> conditions;  // L7 rules, authentication
  friend auto operator<=>(const Decision&, const Decision&) = default;
};

struct Row {
  std::vector<std::pair<L4Key, std::uint32_t>> begins;  // first key, decision; neighbours differ
  friend auto operator<=>(const Row&, const Row&) = default;
};

std::vector<std::string> conditions_of(const ir::VerdictRecord& record,
                                       const ir::ProxyFilter* filter) {
  std::vector<std::string> out;
  if (record.auth && record.auth->type != ir::AuthType::Disabled) {
    out.push_back(fmt::format("after authentication ({})", ir::auth_name(record.auth->type)));
  }
  if (filter == nullptr) return out;
  if (filter->everything) {
    out.push_back(record.parser + ": any request");
    return out;
  }
  for (const std::string& name : filter->server_names) out.push_back("tls: server name " + name);
  for (const ir::HttpRule& r : filter->http) out.push_back("http: " + ir::http_rule_text(r));
  for (const ir::KafkaRule& r : filter->kafka) {
    std::string text = "kafka:";
    for (const int key : r.api_keys) text += fmt::format(" key {}", key);
    if (r.api_version) text += fmt::format(" version {}", *r.api_version);
    if (!r.client_id.empty()) text += " client " + r.client_id;
    out.push_back(text + (r.topic.empty() ? " any topic" : " topic " + r.topic));
  }
  for (const ir::DnsRule& r : filter->dns) out.push_back("dns: " + r.pattern);
  if (!filter->generic.empty()) out.push_back(record.parser + ": its own rules");
  if (out.empty()) out.push_back(record.parser + ": no request");
  return out;
}

class Rows {
 public:
  Rows() {
    decision({});
    row({{{0, 0}}});
  }
  // Row number of each class of the table. Row 0: everything passes.
  const std::vector<std::uint32_t>& of(const PolicyTable& table) {
    auto [it, fresh] = by_table_.try_emplace(&table);
    if (!fresh) return it->second;
    std::map<std::pair<std::uint16_t, std::uint16_t>, std::uint32_t> by_cell;
    for (std::size_t c = 0; c < table.classes; ++c) {
      Row out;
      for (std::size_t k = 0; k < table.columns(); ++k) {
        const std::size_t cell = c * table.columns() + k;
        const std::uint16_t filter = table.cell_filters.empty() ? 0 : table.cell_filters[cell];
        auto [known, first] = by_cell.try_emplace({table.cells[cell], filter}, 0);
        if (first) {
          const ir::VerdictRecord& r = table.records[table.cells[cell]];
          Decision d;
          d.pass = r.verdict != ir::VerdictKind::Deny;
          if (d.pass) {
            d.parser = r.parser;
            d.conditions = conditions_of(r, table.filter(cell));
          }
          known->second = decision(std::move(d));
        }
        if (out.begins.empty() || out.begins.back().second != known->second) {
          out.begins.emplace_back(table.column_begin[k], known->second);
        }
      }
      it->second.push_back(row(std::move(out)));
    }
    return it->second;
  }
  const Row& row_at(std::uint32_t number) const { return *rows_[number]; }
  const Decision& decision_at(std::uint32_t number) const { return *decisions_[number]; }

 private:
  template <class T>
  static std::uint32_t number(std::map<T, std::uint32_t>& numbers, std::vector<const T*>& list,
                              T value) {
    auto [it, fresh] =
        numbers.try_emplace(std::move(value), static_cast<std::uint32_t>(list.size()));
    if (fresh) list.push_back(&it->first);
    return it->second;
  }
  std::uint32_t decision(Decision d) { return number(decision_numbers_, decisions_, std::move(d)); }
  std::uint32_t row(Row r) { return number(row_numbers_, rows_, std::move(r)); }

  std::map<Decision, std::uint32_t> decision_numbers_;
  std::vector<const Decision*> decisions_;
  std::map<Row, std::uint32_t> row_numbers_;
  std::vector<const Row*> rows_;
  std::map<const PolicyTable*, std::vector<std::uint32_t>> by_table_;
};

// ---- parties

// One party in one world.
struct Place {
  const ir::NodeView* view = nullptr;
  const ir::ResolvedEndpoint* endpoint = nullptr;  // nullptr: no policy subject
  std::optional<IdentityIndex> identity;           // by labels; else by address, seen from a node
  bool host = false;
  const ir::NodeView* home = nullptr;  // of a node: the view in which it is the host
  std::optional<ir::IpAddress> address;
  ir::Party party = ir::EntityParty{};
};

struct ComparedParty {
  std::string id;
  std::array<Place, 2> in;  // base, head
};

struct Side {
  const ir::World& world;
  const ir::Resolved& resolved;
  std::map<ir::LabelSet, IdentityIndex> by_labels;
  std::map<std::size_t, std::pair<const ir::NodeView*, const ir::ResolvedEndpoint*>> by_pod;

  explicit Side(const ComparedWorld& w) : world(*w.world), resolved(*w.resolved) {
    for (IdentityIndex i = 0; i < resolved.identities.size(); ++i) {
      by_labels.emplace(resolved.identities[i].labels, i);
    }
    for (const ir::NodeView& view : resolved.views) {
      for (const ir::ResolvedEndpoint& ep : view.endpoints) {
        for (const std::size_t pod : ep.pods) by_pod[pod] = {&view, &ep};
      }
    }
  }
  IdentityIndex identity(const Place& p, const ir::NodeView& view) const {
    if (p.host || p.home == &view) return view.host;
    return p.identity ? *p.identity : view.identity_of(*p.address);
  }
  std::string unknown(const Place& p) const {
    if (p.endpoint == nullptr) return "";
    if (!p.endpoint->error.empty()) return p.endpoint->error;
    return p.endpoint->depends_on.empty() ? "" : "it depends on " + p.endpoint->depends_on.front();
  }
};

// Whom policies select: workloads, and nodes under the host firewall.
std::map<std::string, Place> subjects(const Side& side) {
  std::map<std::string, Place> out;
  for (const ir::GraphParty& party : ir::subject_parties(side.world)) {
    Place p;
    if (party.node != SIZE_MAX) {
      p.view = p.home = &side.resolved.views[party.node];
      p.endpoint = &*std::find_if(p.view->endpoints.begin(), p.view->endpoints.end(),
                                  [](const ir::ResolvedEndpoint& ep) { return ep.host; });
      p.address = party.address;
      p.host = party.address == ir::IpAddress{};  // nobody can tell it from the own host
      p.party = ir::NodeParty{party.node};
    } else {
      const auto at = side.by_pod.find(party.pod);
      if (at == side.by_pod.end()) continue;
      p.view = at->second.first;
      p.endpoint = at->second.second;
      p.identity = p.endpoint->identity;
      p.party = ir::PodParty{party.pod};
    }
    out.emplace(party.id, std::move(p));
  }
  return out;
}

void add_outsiders(const std::array<Side, 2>& sides, std::vector<ComparedParty>& out) {
  const auto by_labels = [&](const std::string& id, const auto& labels_of, const ir::Party& party) {
    ComparedParty p{id, {}};
    for (std::size_t s = 0; s < 2; ++s) {
      const auto it = sides[s].by_labels.find(labels_of(sides[s].world));
      if (it == sides[s].by_labels.end()) return;
      p.in[s].identity = it->second;
      p.in[s].party = party;
    }
    out.push_back(std::move(p));
  };
  const bool kubernetes = sides[0].world.settings.kubernetes_semantics;
  const bool nodes = std::all_of(sides.begin(), sides.end(), [](const Side& side) {
    return side.world.settings.host_firewall && !side.world.inventory.nodes.empty();
  });
  for (const char* entity : {"host", "remote-node", "ingress", "kube-apiserver"}) {
    if (kubernetes) break;
    const bool host = entity == std::string_view("host");
    // Nodes that are parties of their own stand for both.
    if (nodes && (host || entity == std::string_view("remote-node"))) continue;
    if (host) {
      ComparedParty p{entity, {}};
      for (Place& place : p.in) {
        place.host = true;
        place.party = ir::EntityParty{entity};
      }
      out.push_back(std::move(p));
      continue;
    }
    by_labels(
        entity, [&](const ir::World&) { return ir::entity_identity(entity); },
        ir::EntityParty{entity});
  }
  for (const std::string& name : names_of(sides[0].world, sides[1].world)) {
    by_labels(
        name, [&](const ir::World& w) { return ir::name_identity(w, name); }, ir::NameParty{name});
  }
  // Blocks outside: each prefix of either world, without the longer ones of both.
  std::set<ir::Prefix> blocks;
  std::set<ir::Prefix> all;
  for (const Side& side : sides) {
    for (const ir::NodeView& view : side.resolved.views) {
      for (const auto& [prefix, identity] : view.ipcache) {
        all.insert(prefix);
        const ir::LabelSet& labels = side.resolved.identities[identity].labels;
        const bool inside = labels.has("k8s", ir::kNamespaceKey) ||
                            labels.has("reserved", "host") || labels.has("reserved", "remote-node");
        if (!inside) blocks.insert(prefix);
      }
    }
  }
  const std::vector<ir::Prefix> inner(all.begin(), all.end());
  for (const ir::Prefix& block : blocks) {
    const auto address = ir::address_outside(block, inner);
    if (!address) continue;
    ComparedParty p{block.str(), {}};
    if (block.length == 0) {
      p.id = !sides[0].world.settings.dual_stack()    ? "world"
             : block.address.family == ir::Family::V4 ? "world-ipv4"
                                                      : "world-ipv6";
    }
    for (Place& place : p.in) {
      place.address = *address;
      place.party = ir::AddressParty{*address};
    }
    out.push_back(std::move(p));
  }
}

// ---- comparison

class Comparison {
 public:
  Comparison(const ComparedWorld& base, const ComparedWorld& head)
      : sides_{Side(base), Side(head)} {}
  ConnectivityDiff run();

 private:
  // Parties that no table of either world tells apart.
  struct Class {
    std::vector<std::size_t> members;  // indices into parties_
  };
  // Row of one table for every peer: parties with one identity on every node are one peer.
  using RowList = std::vector<std::uint32_t>;

  void find_parties(ConnectivityDiff& out);
  void classify();
  const RowList& rows_for(std::size_t side, const PolicyTable* table, const ir::NodeView* view);
  std::size_t peer(std::size_t c) const { return peer_of_[classes_[c].members.front()]; }
  const Place& place(std::size_t c, std::size_t side) const {
    return parties_[classes_[c].members.front()].in[side];
  }
  const RowList& half(std::size_t c, std::size_t side, bool ingress) {
    const Place& p = place(c, side);
    if (p.endpoint == nullptr) return everything_;
    return rows_for(side, (ingress ? p.endpoint->ingress : p.endpoint->egress).get(), p.view);
  }
  void compare_pair(std::size_t a, std::size_t b);
  void group(ConnectivityDiff& out);
  void attribute(ConnectionChange& change, std::size_t a, std::size_t b);
  std::optional<ir::HttpRequest> telling_request(const ConnectionChange& change) const;
  Expected<RequestLanguage> requests(std::size_t side, const ir::Flow& flow) const;

  struct Difference {
    ChangeKind kind;
    std::vector<ir::PortSpan> spans;
    std::vector<std::string> before, after;
    friend auto operator<=>(const Difference&, const Difference&) = default;
  };
  std::vector<Difference> differences(const std::array<std::uint32_t, 4>& rows) const;

  std::array<Side, 2> sides_;
  Rows rows_;
  std::vector<ComparedParty> parties_;
  std::vector<Class> classes_;
  std::vector<std::size_t> peer_of_;                                                     // by party
  std::array<std::map<const ir::NodeView*, std::vector<IdentityIndex>>, 2> identities_;  // by peer
  RowList everything_;
  std::map<std::pair<const PolicyTable*, const ir::NodeView*>, RowList> row_lists_[2];
  std::map<std::array<std::uint32_t, 4>, std::vector<Difference>> known_;
  std::map<Difference, std::map<std::size_t, std::set<std::size_t>>> found_;  // target → sources
  std::set<std::string> changed_policies_;                                    // refs
};

void Comparison::find_parties(ConnectivityDiff& out) {
  const auto base = subjects(sides_[0]);
  const auto head = subjects(sides_[1]);
  std::map<std::pair<ir::Direction, bool>, std::vector<std::string>> isolation;
  for (const auto& [id, b] : base) {
    const auto it = head.find(id);
    if (it == head.end()) {
      out.removed.push_back(id);
      continue;
    }
    const Place& h = it->second;
    std::string why = sides_[0].unknown(b);
    if (why.empty()) why = sides_[1].unknown(h);
    if (!why.empty()) {
      out.unknown.push_back(id + ": " + why);
      continue;
    }
    parties_.push_back({id, {b, h}});
    for (const ir::Direction d : {ir::Direction::Ingress, ir::Direction::Egress}) {
      const bool ingress = d == ir::Direction::Ingress;
      const bool was = (ingress ? b.endpoint->ingress : b.endpoint->egress)->enforced;
      const bool is = (ingress ? h.endpoint->ingress : h.endpoint->egress)->enforced;
      if (was != is) isolation[{d, is}].push_back(id);
    }
  }
  for (const auto& [id, h] : head) {
    if (base.count(id) == 0) out.added.push_back(id);
  }
  for (auto& [key, list] : isolation) {
    out.isolation.push_back({key.first, key.second, std::move(list)});
  }
  add_outsiders(sides_, parties_);
}

void Comparison::classify() {
  std::map<std::vector<IdentityIndex>, std::size_t> peers;
  for (const ComparedParty& party : parties_) {
    std::vector<IdentityIndex> identities;
    for (std::size_t s = 0; s < 2; ++s) {
      for (const ir::NodeView& view : sides_[s].resolved.views) {
        identities.push_back(sides_[s].identity(party.in[s], view));
      }
    }
    const auto [it, fresh] = peers.try_emplace(std::move(identities), peers.size());
    peer_of_.push_back(it->second);
    if (!fresh) continue;
    std::size_t at = 0;
    for (std::size_t s = 0; s < 2; ++s) {
      for (const ir::NodeView& view : sides_[s].resolved.views) {
        identities_[s][&view].push_back(it->first[at++]);
      }
    }
  }
  everything_.assign(peers.size(), 0);

  // As a peer: split by what each table says. As a subject: by its tables.
  std::vector<std::uint32_t> group(peers.size(), 0);
  const auto split = [&](const RowList& list) {
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> parts;
    for (std::size_t i = 0; i < group.size(); ++i) {
      group[i] = parts.try_emplace({group[i], list[i]}, static_cast<std::uint32_t>(parts.size()))
                     .first->second;
    }
  };
  std::set<std::pair<const PolicyTable*, const ir::NodeView*>> seen;
  using Subject = std::array<const PolicyTable*, 4>;
  std::map<std::tuple<Subject, std::array<const ir::NodeView*, 2>, std::uint32_t>, std::size_t>
      classes;
  for (const ComparedParty& party : parties_) {
    for (const bool ingress : {true, false}) {
      const RowList* previous = nullptr;
      for (std::size_t s = 0; s < 2; ++s) {
        const Place& p = party.in[s];
        if (p.endpoint == nullptr) continue;
        const PolicyTable* table = (ingress ? p.endpoint->ingress : p.endpoint->egress).get();
        if (!seen.insert({table, p.view}).second) continue;
        const RowList& list = rows_for(s, table, p.view);
        // What the base has split already, the head need not.
        if (previous == nullptr || *previous != list) split(list);
        previous = &list;
      }
    }
  }
  for (std::size_t i = 0; i < parties_.size(); ++i) {
    Subject subject{};
    std::array<const ir::NodeView*, 2> views{};
    for (std::size_t s = 0; s < 2; ++s) {
      const Place& p = parties_[i].in[s];
      if (p.endpoint == nullptr) continue;
      subject[2 * s] = p.endpoint->ingress.get();
      subject[2 * s + 1] = p.endpoint->egress.get();
      views[s] = p.view;
    }
    const auto [c, first] =
        classes.try_emplace({subject, views, group[peer_of_[i]]}, classes_.size());
    if (first) classes_.emplace_back();
    classes_[c->second].members.push_back(i);
  }
}

const Comparison::RowList& Comparison::rows_for(std::size_t side, const PolicyTable* table,
                                                const ir::NodeView* view) {
  auto [it, fresh] = row_lists_[side].try_emplace({table, view});
  if (!fresh) return it->second;
  const std::vector<std::uint32_t>& rows = rows_.of(*table);
  for (const IdentityIndex i : identities_[side].at(view)) {
    it->second.push_back(rows[table->class_of[i]]);
  }
  return it->second;
}

// The rows of egress and ingress, base then head.
std::vector<Comparison::Difference> Comparison::differences(
    const std::array<std::uint32_t, 4>& rows) const {
  std::set<L4Key> begins;
  for (std::uint32_t c = 0; c < ir::kProtocolClasses; ++c) begins.insert(c << 16U);
  std::array<const Row*, 4> row{};
  for (std::size_t i = 0; i < 4; ++i) {
    row[i] = &rows_.row_at(rows[i]);
    for (const auto& [begin, decision] : row[i]->begins) begins.insert(begin);
  }
  const bool ported_only = sides_[0].world.settings.kubernetes_semantics;
  std::vector<Difference> out;
  std::array<std::size_t, 4> at{};
  for (auto it = begins.begin(); it != begins.end(); ++it) {
    const L4Key begin = *it;
    const L4Key end = std::next(it) == begins.end() ? ir::kL4KeyEnd : *std::next(it);
    std::array<const Decision*, 4> said{};
    for (std::size_t i = 0; i < 4; ++i) {
      while (at[i] + 1 < row[i]->begins.size() && row[i]->begins[at[i] + 1].first <= begin) ++at[i];
      said[i] = &rows_.decision_at(row[i]->begins[at[i]].second);
    }
    const auto protocol = ir::class_protocol(static_cast<ir::ProtocolClass>(begin >> 16U));
    const bool ported =
        protocol == ir::kProtoTcp || protocol == ir::kProtoUdp || protocol == ir::kProtoSctp;
    if (ported_only && !ported) continue;
    const bool was = said[0]->pass && said[1]->pass;
    const bool is = said[2]->pass && said[3]->pass;
    const auto conditions = [&](std::size_t egress) {
      std::set<std::string> all(said[egress]->conditions.begin(), said[egress]->conditions.end());
      all.insert(said[egress + 1]->conditions.begin(), said[egress + 1]->conditions.end());
      return std::vector<std::string>(all.begin(), all.end());
    };
    if (!was && !is) continue;
    Difference d;
    d.kind = !was ? ChangeKind::Opened : !is ? ChangeKind::Closed : ChangeKind::Changed;
    if (d.kind == ChangeKind::Changed && *said[0] == *said[2] && *said[1] == *said[3]) continue;
    if (was) d.before = conditions(0);
    if (is) d.after = conditions(2);
    const std::size_t shown = is ? 2 : 0;
    const std::string& parser =
        said[shown + 1]->parser.empty() ? said[shown]->parser : said[shown + 1]->parser;
    const ir::PortSpan span{protocol, static_cast<std::uint16_t>(begin & 0xFFFFU),
                            static_cast<std::uint16_t>((end - 1) & 0xFFFFU), parser};
    // Spans of the same change stand together.
    const auto same = std::find_if(out.begin(), out.end(), [&](const Difference& other) {
      return other.kind == d.kind && other.before == d.before && other.after == d.after;
    });
    Difference& into = same == out.end() ? out.emplace_back(std::move(d)) : *same;
    if (!into.spans.empty() && into.spans.back().protocol == span.protocol &&
        into.spans.back().parser == span.parser && into.spans.back().to + 1 == span.from) {
      into.spans.back().to = span.to;
    } else {
      into.spans.push_back(span);
    }
  }
  return out;
}

void Comparison::compare_pair(std::size_t a, std::size_t b) {
  if (a == b && classes_[a].members.size() == 1) return;
  const std::size_t source = peer(a);
  const std::size_t target = peer(b);
  const std::array<std::uint32_t, 4> rows = {half(a, 0, false)[target], half(b, 0, true)[source],
                                             half(a, 1, false)[target], half(b, 1, true)[source]};
  if (rows[0] == rows[2] && rows[1] == rows[3]) return;
  auto [it, fresh] = known_.try_emplace(rows);
  if (fresh) it->second = differences(rows);
  for (const Difference& d : it->second) found_[d][b].insert(a);
}

void Comparison::attribute(ConnectionChange& change, std::size_t a, std::size_t b) {
  const std::size_t source = classes_[a].members.front();
  std::size_t target = classes_[b].members.front();
  if (source == target) target = classes_[b].members[1];
  for (std::size_t s = 0; s < 2; ++s) {
    ir::Flow& flow = s == 0 ? change.base_flow : change.head_flow;
    flow.id = "witness";
    flow.from = parties_[source].in[s].party;
    flow.to = parties_[target].in[s].party;
    flow.protocol = change.spans.front().protocol;
    flow.port = change.spans.front().from;
  }
  if (change.kind == ChangeKind::Changed) {
    if (const auto request = telling_request(change)) {
      ir::Flow base = change.base_flow;
      ir::Flow head = change.head_flow;
      base.l7 = head.l7 = *request;
      // Only what the evaluator confirms is shown.
      if (ir::evaluate(sides_[0].world, base).final != ir::evaluate(sides_[1].world, head).final) {
        change.base_flow = std::move(base);
        change.head_flow = std::move(head);
      }
    }
  }
  for (std::size_t s = 0; s < 2; ++s) {
    const ir::Flow& flow = s == 0 ? change.base_flow : change.head_flow;
    const ir::World& world = sides_[s].world;
    const ir::FlowVerdict verdict = ir::evaluate(world, flow);
    std::vector<ir::Origin> all;
    for (const ir::Direction d : {ir::Direction::Egress, ir::Direction::Ingress}) {
      const auto& half = d == ir::Direction::Egress ? verdict.egress : verdict.ingress;
      if (!half) continue;
      all.insert(all.end(), half->rules.begin(), half->rules.end());
      if (half->l7) all.insert(all.end(), half->l7->rules.begin(), half->l7->rules.end());
      if (half->reason == ir::Reason::DefaultDeny) {
        const auto isolating = ir::isolating_rules(world, flow, d);
        all.insert(all.end(), isolating.begin(), isolating.end());
      }
    }
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    std::vector<ir::Origin> causes;
    for (const ir::Origin& o : all) {
      if (changed_policies_.count(world.policies.policies[o.policy].ref.str()) != 0) {
        causes.push_back(o);
      }
    }
    (s == 0 ? change.base_rules : change.head_rules) = std::move(causes);
  }
}

// What both halves of one flow let pass.
Expected<RequestLanguage> Comparison::requests(std::size_t side, const ir::Flow& flow) const {
  Expected<RequestLanguage> out = RequestLanguage::everything();
  const auto narrow = [&](const Place& subject, const Place& peer, bool ingress) {
    if (subject.endpoint == nullptr || !out) return;
    const PolicyTable& t = *(ingress ? subject.endpoint->ingress : subject.endpoint->egress);
    const std::size_t cell = t.class_of[sides_[side].identity(peer, *subject.view)] * t.columns() +
                             t.column(ir::l4_key(flow.protocol, flow.port));
    const ir::ProxyFilter* filter = t.filter(cell);
    if (filter != nullptr && !(filter->kafka.empty() && filter->dns.empty() &&
                               filter->server_names.empty() && filter->generic.empty())) {
      out = Error{"its proxy looks at no HTTP requests"};
      return;
    }
    const auto language = RequestLanguage::of(filter);
    out = language ? out->intersect(*language) : language;
  };
  const Place* from = nullptr;
  const Place* to = nullptr;
  for (const ComparedParty& p : parties_) {
    if (p.in[side].party == flow.from && from == nullptr) from = &p.in[side];
    if (p.in[side].party == flow.to && to == nullptr) to = &p.in[side];
  }
  narrow(*from, *to, false);
  narrow(*to, *from, true);
  return out;
}

// A request that passes on one side only.
std::optional<ir::HttpRequest> Comparison::telling_request(const ConnectionChange& change) const {
  const auto base = requests(0, change.base_flow);
  const auto head = requests(1, change.head_flow);
  if (!base || !head) return std::nullopt;
  for (const auto& [more, less] : {std::pair(&head, &base), std::pair(&base, &head)}) {
    const auto difference = (*more)->subtract(**less);
    if (!difference) return std::nullopt;
    if (auto request = difference->witness()) return request;
  }
  return std::nullopt;
}

void Comparison::group(ConnectivityDiff& out) {
  const auto ids = [&](const std::set<std::size_t>& classes) {
    std::vector<std::string> list;
    for (const std::size_t c : classes) {
      for (const std::size_t m : classes_[c].members) list.push_back(parties_[m].id);
    }
    std::sort(list.begin(), list.end());
    return list;
  };
  for (const auto& [difference, targets] : found_) {
    // Targets with the same sources stand together.
    std::map<std::set<std::size_t>, std::set<std::size_t>> by_sources;
    for (const auto& [target, sources] : targets) by_sources[sources].insert(target);
    for (const auto& [sources, same_targets] : by_sources) {
      ConnectionChange change;
      change.kind = difference.kind;
      change.spans = difference.spans;
      change.before = difference.before;
      change.after = difference.after;
      change.sources = ids(sources);
      change.targets = ids(same_targets);
      attribute(change, *sources.begin(), *same_targets.begin());
      out.changes.push_back(std::move(change));
    }
  }
  std::sort(out.changes.begin(), out.changes.end(),
            [](const ConnectionChange& a, const ConnectionChange& b) {
              return std::tie(a.kind, a.sources, a.targets, a.spans, a.before, a.after) <
                     std::tie(b.kind, b.sources, b.targets, b.spans, b.before, b.after);
            });
}

ConnectivityDiff Comparison::run() {
  ConnectivityDiff out;
  std::array<std::map<std::string, std::string>, 2> texts;
  for (std::size_t s = 0; s < 2; ++s) {
    const ir::PolicySet& set = sides_[s].world.policies;
    for (std::size_t i = 0; i < set.policies.size(); ++i) {
      texts[s][set.policies[i].ref.str()] += ir::print(set, i, nullptr);
    }
  }
  for (std::size_t s = 0; s < 2; ++s) {
    for (const auto& [ref, text] : texts[s]) {
      const auto it = texts[1 - s].find(ref);
      if (it == texts[1 - s].end() || it->second != text) changed_policies_.insert(ref);
    }
  }
  find_parties(out);
  classify();
  out.parties = parties_.size();
  out.classes = classes_.size();
  // Pairs whose rows agree in every half are the rule: whole lists are compared first.
  for (std::size_t a = 0; a < classes_.size(); ++a) {
    const bool egress = half(a, 0, false) != half(a, 1, false);
    const bool ingress = half(a, 0, true) != half(a, 1, true);
    for (std::size_t b = 0; b < classes_.size() && (egress || ingress); ++b) {
      if (egress) compare_pair(a, b);
      if (ingress) compare_pair(b, a);
    }
  }
  group(out);
  return out;
}

}  // namespace

ConnectivityDiff compare(const ComparedWorld& base, const ComparedWorld& head) {
  return Comparison(base, head).run();
}

std::vector<std::string> names_of(const ir::World& base, const ir::World& head) {
  if (base.inventory.fqdn || head.inventory.fqdn) return {};
  std::set<std::string> all;
  for (const ir::World* w : {&base, &head}) {
    for (std::string& name : ir::policy_names(w->policies)) all.insert(std::move(name));
  }
  return {all.begin(), all.end()};
}

std::map<std::string, std::uint16_t> add_hypothetical_pods(
    const std::vector<const ir::PolicySet*>& policies, ir::Inventory& inventory) {
  struct Wanted {
    ir::StringMap labels, ns_labels;
    std::optional<std::string> ns;
    auto operator<=>(const Wanted&) const = default;
  };
  std::set<Wanted> wanted;
  std::set<std::string> namespaces;
  const auto add = [&](const ir::Selector& selector, const std::string& own) {
    Wanted w;
    if (!own.empty()) w.ns = own;
    for (const ir::Requirement& r : selector.requirements) {
      if (r.source == "reserved" || r.source == "cidr" || r.source == "fqdn" ||
          r.source == "cidrgroup" || !r.symbol.empty()) {
        return;
      }
      if (r.op == ir::Operator::NotIn || r.op == ir::Operator::DoesNotExist) continue;
      const std::string value = r.values.empty() ? "x" : r.values.front();
      if (r.key == ir::kNamespaceKey) {
        if (!r.values.empty()) w.ns = value;
      } else if (r.key.rfind(ir::kNamespaceLabelsPrefix, 0) == 0) {
        w.ns_labels[r.key.substr(ir::kNamespaceLabelsPrefix.size())] = value;
      } else if (r.key != ir::kClusterKey && r.key != ir::kServiceAccountKey) {
        w.labels[r.key] = value;
      }
    }
    if (w.ns) namespaces.insert(*w.ns);
    wanted.insert(std::move(w));
  };
  std::set<std::pair<std::string, ir::Protocol>> port_names;
  std::vector<bool> used(65536);
  for (const ir::PolicySet* set : policies) {
    for (const ir::Rule& rule : set->rules) {
      if (!rule.host_subject) add(rule.subject, rule.ns);
      for (const ir::RuleItem& item : rule.items) {
        for (const ir::Peer& peer : item.peers) {
          if (!rule.host_subject) add(peer.selector, "");
        }
        for (const ir::PortRule& entry : item.ports) {
          for (const ir::Port& port : entry.ports) {
            if (!port.name.empty()) port_names.insert({port.name, port.protocol});
            for (unsigned n = port.number; n <= std::max(port.number, port.end); ++n)
              used[n] = true;
          }
        }
      }
    }
  }
  std::map<std::string, std::uint16_t> numbers;
  std::vector<ir::ContainerPort> ports;
  std::uint16_t free = 49152;  // the first of those that nobody registers (RFC 6335)
  for (const auto& [name, protocol] : port_names) {
    const auto [it, fresh] = numbers.try_emplace(name, free);
    if (fresh) {
      while (free < 65535 && used[free]) ++free;
      it->second = free;
      if (free < 65535) ++free;
    }
    ports.push_back({name, it->second, protocol});
  }
  if (namespaces.empty()) namespaces.insert("default");
  for (const std::string& ns : namespaces) wanted.insert({{}, {}, ns});
  std::uint32_t number = 0;
  for (const Wanted& w : wanted) {
    std::string text;
    for (const auto& [key, value] : w.labels) {
      text += fmt::format("{}{}={}", text.empty() ? "" : ",", key, value);
    }
    if (text.empty()) text = "no labels";
    std::vector<std::string> homes(namespaces.begin(), namespaces.end());
    if (w.ns) homes = {*w.ns};
    if (!w.ns_labels.empty() && !w.ns) {
      std::string home;
      for (const auto& [key, value] : w.ns_labels) {
        home += fmt::format("{}{}={}", home.empty() ? "" : ",", key, value);
      }
      if (inventory.find_namespace(home) == nullptr) {
        inventory.namespaces.push_back({home, w.ns_labels, {}});
        std::sort(inventory.namespaces.begin(), inventory.namespaces.end(),
                  [](const auto& a, const auto& b) { return a.name < b.name; });
      }
      homes = {home};
    }
    for (const std::string& ns : homes) {
      ir::Pod pod;
      pod.ns = ns;
      pod.kind = "Any";
      pod.name = text;
      pod.labels = w.labels;
      pod.ports = ports;
      pod.synthetic_ip = true;
      // 198.18.0.0/15: for what never leaves a laboratory (RFC 2544).
      pod.ips = {ir::IpAddress::from_v4(0xC6120000U + ++number)};
      inventory.pods.push_back(std::move(pod));
    }
  }
  std::sort(inventory.pods.begin(), inventory.pods.end(), [](const ir::Pod& a, const ir::Pod& b) {
    return std::tie(a.ns, a.kind, a.name) < std::tie(b.ns, b.kind, b.name);
  });
  return numbers;
}

}  // namespace policyc
