#include "verifier/program_proof.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <random>
#include <utility>

#include "verifier/bpf_executor.h"
#include "verifier/request_functions.h"

namespace policyc::verify {

namespace {

// Where the object keeps the two maps.
struct MapNumbers {
  std::size_t node = 0, policy = 0;
  std::size_t flows = 0, fragments = 0;  // with connection tracking
};

// The variable parts of the places that the meaning reads, in its order.
class Places {
 public:
  void add(Terms& terms, unsigned array, Term index) {
    if (terms.is_constant(index)) return;
    const Term part = terms.without_constant(index);
    auto& known = of_array_[array];
    if (std::find(known.begin(), known.end(), part) == known.end()) known.push_back(part);
  }
  const std::vector<Term>& of(unsigned array) { return of_array_[array]; }
  // A value of the meaning that a program will compute too, in its own way.
  void add_value(const Terms& terms, Term value) {
    if (!terms.is_constant(value)) values_.push_back(value);
  }
  const std::vector<Term>& values() const { return values_; }

 private:
  std::map<unsigned, std::vector<Term>> of_array_;
  std::vector<Term> values_;
};

class SymbolicTables {
 public:
  SymbolicTables(Terms& terms, MapNumbers maps, Places& places)
      : terms_(terms), maps_(maps), places_(places) {}
  Term word(DatapathMap map, Term offset, unsigned bytes) {
    const unsigned array = map_array(map == DatapathMap::Node ? maps_.node : maps_.policy);
    places_.add(terms_, array, offset);
    return terms_.read(array, offset, bytes);
  }
  void note(Term value) { places_.add_value(terms_, value); }

 private:
  Terms& terms_;
  MapNumbers maps_;
  Places& places_;
};

// The entries of the maps of connection tracking that the meaning asks for: any contents.
class SymbolicFlows {
 public:
  SymbolicFlows(Terms& terms, MapNumbers maps) : terms_(terms) {
    for (std::size_t k = 0; k < kFlowEntries; ++k) {
      const bool first = k == static_cast<std::size_t>(FlowEntry::First);
      MapEntry entry;
      entry.map = first ? maps.fragments : maps.flows;
      entry.present = terms.symbol(symbol(k, "present"), 1);
      for (const unsigned width : first ? std::vector{16U, 16U} : std::vector{64U, 32U, 32U}) {
        entry.fields.push_back(terms.symbol(symbol(k, std::to_string(entry.fields.size())), width));
      }
      entries.push_back(std::move(entry));
    }
  }
  FlowValue<Term> look_up(FlowEntry which, FlowMap, const std::vector<Term>& key, Term) {
    const auto k = static_cast<std::size_t>(which);
    keys[k] = key;
    return {entries[k].present, entries[k].fields};
  }
  Term clock(unsigned called_before) {
    return terms_.symbol(helper_symbol(kClock, called_before), 64);
  }
  static std::string symbol(std::size_t entry, const std::string& what) {
    return fmt::format("entry{}.{}", entry, what);
  }

  std::vector<MapEntry> entries;
  // Of those that are asked for; otherwise empty.
  std::array<std::vector<Term>, kFlowEntries> keys;

 private:
  Terms& terms_;
};

// The packets that go one way: at each turn that `ways` knows, all others are left out.
class SymbolicPacket {
 public:
  SymbolicPacket(Terms& terms, Places& places, const std::vector<bool>& ways)
      : terms_(terms), places_(places), ways_(ways) {}
  Term turn(Term truth) {
    if (terms_.is_constant(truth) || ended_) return truth;
    if (turns_ == ways_.size()) {
      more_ = true;
      return truth;
    }
    const bool way = ways_[turns_++];
    given_.push_back(way ? truth : terms_.not_(truth));
    here_ = terms_.and_(here_, given_.back());
    terms_.assume(truth, way ? 1 : 0);
    return terms_.truth(way);
  }
  Term end(Term truth) {
    const Term way = turn(truth);
    ended_ = ended_ || terms_.is_constant(way, 1);
    return way;
  }
  void follows(Term truth) {
    if (ended_ || terms_.is_constant(truth, 1)) return;
    exceptions_.push_back(terms_.and_(here_, terms_.not_(truth)));
    given_.push_back(truth);
    terms_.assume(truth, 1);
  }
  // None of these may ever hold, or what was said to follow does not.
  const std::vector<Term>& exceptions() const { return exceptions_; }
  void leave_out() { left_out_ = ended_ = true; }
  bool left_out() const { return left_out_; }
  // Whether the packets that are left part ways once more.
  bool more() const { return more_; }
  // What holds of them.
  Term here() const { return here_; }
  const std::vector<Term>& given() const { return given_; }
  Term length() { return terms_.zext(terms_.symbol(kPacketLength, 16), 32); }
  Term whole() { return terms_.eq(terms_.symbol(context_symbol(kSkbLen), 32), length()); }
  Term request(Term filter, Term offset) {
    const Term at = terms_.concat(filter, terms_.zext(offset, 16));
    places_.add(terms_, kAskArray, at);
    const Term answer = terms_.read(kAskArray, at, 4);
    // A filter, of so many, that passes or drops it, and some payload.
    likely_ = [this, filter, answer](std::size_t filters) {
      const auto within = [&](Term x, std::uint64_t low, std::uint64_t high) {
        const unsigned w = terms_.width(x);
        return terms_.and_(terms_.not_(terms_.ult(x, terms_.constant(low, w))),
                           terms_.not_(terms_.ult(terms_.constant(high, w), x)));
      };
      return terms_.and_(within(filter, 1, filters - 1),
                         terms_.and_(within(answer, 1, 2), within(length(), 300, 1200)));
    };
    return answer;
  }
  // What a packet that shows a difference in what is asked would be like; true where nothing is.
  Term likely(std::size_t filters) { return likely_ ? likely_(filters) : terms_.truth(true); }
  Term byte(Term at) {
    places_.add(terms_, kPacketArray, at);
    return terms_.read(kPacketArray, at, 1);
  }

 private:
  Terms& terms_;
  Places& places_;
  const std::vector<bool>& ways_;
  std::size_t turns_ = 0;
  bool more_ = false, ended_ = false, left_out_ = false;
  Term here_ = terms_.truth(true);  // the conjunction of:
  std::vector<Term> given_, exceptions_;
  std::function<Term(std::size_t)> likely_;
};

// Packets and tables to try things with: what differs there needs no solver. Seeds are fixed.
class Samples {
 public:
  Samples(const Terms& terms, bool vlan, bool stateful) : terms_(terms) {
    std::mt19937 random(20260801);
    const auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
    if (stateful) add_fragments(random);
    for (std::size_t i = 0; i < 64; ++i) {
      std::vector<std::uint8_t>& f = frames_.emplace_back(100 + below(60));
      for (std::uint8_t& b : f) b = static_cast<std::uint8_t>(random());
      static constexpr std::array<std::uint8_t, 6> kProtocols = {6, 17, 132, 1, 58, 47};
      static constexpr std::array<std::uint8_t, 5> kExtensions = {0, 43, 44, 51, 60};
      std::size_t at = 12;
      for (unsigned tags = vlan ? below(3) : 0; tags != 0; --tags, at += 4) {
        f[at] = 0x81;
        f[at + 1] = 0;
      }
      const bool v6 = i % 2 == 1;
      f[at] = v6 ? 0x86 : 0x08;
      f[at + 1] = v6 ? 0xDD : 0x00;
      at += 2;
      const std::uint8_t protocol = kProtocols[below(6)];
      // Some end in the transport header, and some ask for fragmentation.
      const auto end_near = [&](std::size_t transport, std::uint8_t kind) {
        if (kind == 1 && transport + 1 < f.size() && below(2) == 0) {
          f[transport] = 3;
          f[transport + 1] = 4;
        }
        if (below(4) == 0) f.resize(std::min(f.size(), transport + below(6)));
      };
      if (!v6) {
        f[at] = static_cast<std::uint8_t>(0x45 + below(3));
        if (below(4) != 0) f[at + 6] = f[at + 7] = 0;
        f[at + 9] = protocol;
        end_near(at + 4 * (f[at] & 15U), protocol);
        continue;
      }
      f[at] = 0x60;
      std::size_t next = at + 6;
      at += 40;
      for (std::size_t n = i / 2 % 8; n != 0 && at + 20 < f.size(); --n) {
        f[next] = kExtensions[below(5)];
        const bool fragment = f[next] == 44, auth = f[next] == 51;
        if (fragment && n > 1) f[at + 2] = f[at + 3] = 0;
        f[at + 1] = static_cast<std::uint8_t>(auth ? 2 : 0);
        next = at;
        at += auth ? 16 : 8;
      }
      f[next] = protocol;
      end_near(at, protocol);
    }
    for (std::size_t i = 0; i < frames_.size(); ++i) {
      evaluators_.emplace_back(
          terms, Assignment{[this, i](const std::string& name) -> std::uint64_t {
                              if (name == kPacketLength || name == context_symbol(kSkbLen)) {
                                return frames_[i].size();
                              }
                              if (name == context_symbol(kSkbVlanPresent)) return 0;
                              if (name.starts_with("entry") || name.starts_with("helper")) {
                                return mixed(std::hash<std::string>{}(name) + i);
                              }
                              return i;
                            },
                            [this, i](unsigned array, std::uint32_t index, unsigned bytes) {
                              return contents(i, array, index, bytes);
                            }});
    }
  }

  std::size_t count() const { return frames_.size(); }
  std::uint64_t value(std::size_t sample, Term t) { return evaluators_[sample](t); }

  // The sample as a solver would give it.
  TermAnswer answer(std::size_t sample) {
    TermAnswer out;
    out.kind = TermAnswer::Kind::Possible;
    for (std::uint32_t k = 0; k < terms_.size(); ++k) {
      const Terms::Node& n = terms_.node({k});
      if (n.op == Terms::Op::Symbol) {
        out.symbols[terms_.symbol_name(n.value)] = value(sample, {k});
      }
      if (n.op != Terms::Op::Read) continue;
      out.reads.push_back({static_cast<unsigned>(n.value >> 8U),
                           static_cast<std::uint32_t>(value(sample, n.a)),
                           static_cast<unsigned>(n.value & 255U), value(sample, {k})});
    }
    return out;
  }

 private:
  // IPv6 with up to six extension headers and every protocol, whole or in parts.
  void add_fragments(std::mt19937& random) {
    for (unsigned k = 0; k < 7 * 3 * 6; ++k) {
      const unsigned headers = k % 7, part = k / 7 % 3;  // 0: whole, 1: first, 2: later
      static constexpr std::array<std::uint8_t, 6> kProtocols = {6, 17, 132, 1, 58, 47};
      static constexpr std::array<std::uint8_t, 5> kWhole = {0, 43, 44, 51, 60};
      std::vector<std::uint8_t>& f = frames_.emplace_back(250);
      for (std::uint8_t& b : f) b = static_cast<std::uint8_t>(random());
      f[12] = 0x86;
      f[13] = 0xDD;
      f[14] = 0x60;
      std::size_t next = 20, at = 54;
      for (unsigned n = 0; n < headers; ++n) {
        const bool last = part != 0 && n + 1 == headers;
        const std::uint8_t kind = last ? 44 : kWhole[random() % 5];
        f[next] = kind;
        f[at + 1] = static_cast<std::uint8_t>(random() % 3);
        if (kind == 44) {
          f[at + 2] = last && part == 2 ? 1 : 0;
          f[at + 3] = last || random() % 3 == 0 ? 1 : 0;
        }
        next = at;
        at += kind == 44 ? 8U : kind == 51 ? (f[at + 1] + 2U) * 4 : (f[at + 1] + 1U) * 8;
      }
      f[next] = kProtocols[k / 21];
    }
  }

  std::uint64_t contents(std::size_t i, unsigned array, std::uint32_t index, unsigned bytes) {
    if (array == kPacketArray) return index < frames_[i].size() ? frames_[i][index] : 0;
    if (bytes == 1 && index >= 64 && index < 320) {  // protocol classes
      switch (index - 64) {
        case 6:
          return 1;
        case 17:
          return 2;
        case 132:
          return 3;
        case 1:
          return 4;
        case 58:
          return 5;
        default:
          return 0;
      }
    }
    return mixed((index + 1) * 0x9E3779B97F4A7C15ULL ^ (i + array) * 0xC2B2AE3D27D4EB4FULL) >> 13U;
  }
  static std::uint64_t mixed(std::uint64_t v) {
    v ^= v >> 31U;
    return v * 0x94D049BB133111EBULL;
  }

  const Terms& terms_;
  std::vector<std::vector<std::uint8_t>> frames_;
  std::vector<Evaluator> evaluators_;
};

Term equal(Terms& terms, const std::vector<Term>& a, const std::vector<Term>& b) {
  Term out = terms.truth(a.size() == b.size());
  for (std::size_t k = 0; k < a.size() && k < b.size(); ++k) {
    out = terms.and_(out, terms.eq(a[k], b[k]));
  }
  return out;
}

// Recognises, while the program is executed, what the meaning computes too: places that both read,
// values, and which packets come to a point of the program. Both then go on with the same terms,
// and little is left to be said at the end.
class Matcher {
 public:
  // `here`: what holds of the packets that are looked at.
  Matcher(Terms& terms, Places& places, TermSolver& solver, Term here, const DatapathShape& shape,
          MapNumbers maps)
      : t_(terms),
        places_(places),
        solver_(solver),
        here_(here),
        node_(map_array(maps.node)),
        samples_(terms, shape.vlan, shape.stateful) {
    looked_up.fill(terms.truth(false));
  }

  std::optional<Term> operator()(const std::vector<Term>& path, unsigned array, Term index) {
    const std::vector<Term>& known = places_.of(array);
    const Term part = t_.without_constant(index);
    const std::uint64_t constant = t_.constant_part(index);
    if (std::find(known.begin(), known.end(), part) != known.end()) return index;
    const auto moved = [&](Term to, std::uint64_t by) {
      return t_.add(to, t_.constant(constant + by, 32));
    };
    std::vector<Term> given = path;
    std::sort(given.begin(), given.end());
    for (const Match& m : matches_[{array, part}]) {
      if (std::includes(given.begin(), given.end(), m.path.begin(), m.path.end())) {
        return moved(m.to, m.by);
      }
    }
    Term condition = here_, light = here_;
    for (const Term x : path) {
      condition = t_.and_(condition, x);
      if (plain(x)) light = t_.and_(light, x);
    }
    std::vector<std::size_t> reached;
    for (std::size_t i = 0; i < samples_.count(); ++i) {
      if (samples_.value(i, condition) != 0) reached.push_back(i);
    }
    for (const Term to : known) {
      std::uint64_t by = 0;
      bool same = true;
      for (const std::size_t i : reached) {
        const std::uint64_t d = (samples_.value(i, part) - samples_.value(i, to)) & 0xFFFFFFFFU;
        if (i == reached.front()) by = d;
        same = same && d == by;
      }
      if (!same) continue;
      const Term other = t_.add(to, t_.constant(by, 32));
      // Headers alone say where these are.
      const bool by_headers = array == kPacketArray || array == node_ || array == kAskArray;
      const Term differs = t_.and_(by_headers ? light : condition, t_.not_(t_.eq(part, other)));
      if (!never(differs)) continue;
      matches_[{array, part}].push_back({given, to, by});
      return moved(to, by);
    }
    return std::nullopt;
  }

  // Which of the meaning's entries has this key wherever the path condition holds.
  std::optional<std::size_t> entry(const SymbolicFlows& flows, const std::vector<Term>& path,
                                   std::size_t map, const std::vector<Term>& key) {
    Term condition = here_;
    for (const Term x : path) condition = t_.and_(condition, x);
    for (std::size_t k = 0; k < kFlowEntries; ++k) {
      if (flows.entries[k].map != map) continue;
      // Where the meaning does not ask, the program must never come here.
      const bool asked = flows.keys[k].size() == key.size();
      const Term differs =
          asked ? t_.and_(condition, t_.not_(equal(t_, key, flows.keys[k]))) : condition;
      bool seen = false;
      for (std::size_t i = 0; i < samples_.count() && !seen; ++i) {
        seen = samples_.value(i, differs) != 0;
      }
      if (seen) continue;
      if (!never(differs, kWorthOfEntry)) continue;
      looked_up[k] = t_.or_(looked_up[k], condition);
      return k;
    }
    return std::nullopt;
  }

  // A value of the meaning that this one is wherever the path leads, extended to its width.
  std::optional<Term> value(const std::vector<Term>& path, Term value) {
    const auto [found, fresh] = values_.try_emplace(value);
    if (!fresh && found->second.empty()) return std::nullopt;
    std::vector<Term> given = path;
    std::sort(given.begin(), given.end());
    for (const Match& m : found->second) {
      if (std::includes(given.begin(), given.end(), m.path.begin(), m.path.end())) return m.to;
    }
    if (!fresh) return std::nullopt;
    Term condition = here_, light = here_;
    std::vector<Term> needed;
    for (const Term x : given) {
      condition = t_.and_(condition, x);
      if (!plain(x)) continue;
      light = t_.and_(light, x);
      needed.push_back(x);
    }
    for (const Term known : places_.values()) {
      const Term to = t_.zext(known, t_.width(value));
      if (to == value) break;
      if (!alike(value, to, condition)) continue;
      if (!never(t_.and_(light, t_.not_(t_.eq(value, to))))) continue;
      found->second.push_back({needed, to});
      return to;
    }
    return std::nullopt;
  }

  // A truth of the meaning that holds exactly where the path leads.
  std::optional<Term> path(const std::vector<Term>& path) {
    Term condition = t_.truth(true);
    for (const Term x : path) condition = t_.and_(condition, x);
    if (t_.is_constant(condition)) return std::nullopt;
    const auto [found, fresh] = paths_.try_emplace(condition);
    if (!fresh) return found->second;
    for (const Term known : places_.values()) {
      if (t_.width(known) != 1 || !alike(condition, known, here_)) continue;
      if (!never(t_.and_(here_, t_.xor_(condition, known)))) continue;
      found->second = known;
      break;
    }
    return found->second;
  }

  std::uint64_t resources = 0;
  // Where the program looks an entry up, 1 bit each.
  std::array<Term, kFlowEntries> looked_up{};
  Samples& samples() { return samples_; }

 private:
  struct Match {
    std::vector<Term> path;  // sorted; the match holds where all of these do
    Term to;
    std::uint64_t by = 0;
  };

  // Of packet bytes and protocol classes only.
  bool plain(Term root) {
    if (plain_.size() < t_.size()) plain_.resize(t_.size());
    std::vector<Term> todo = {root};
    while (!todo.empty()) {
      const Term t = todo.back();
      const Terms::Node& n = t_.node(t);
      const Term of[] = {n.a, n.b, n.c};
      const std::size_t before = todo.size();
      for (unsigned k = 0; k < Terms::operand_count(n.op); ++k) {
        if (plain_[of[k].index] == 0) todo.push_back(of[k]);
      }
      if (todo.size() != before) continue;
      bool good = n.op != Terms::Op::Mul && !(n.op == Terms::Op::Read && (n.value & 255U) != 1);
      for (unsigned k = 0; k < Terms::operand_count(n.op); ++k) {
        good = good && plain_[of[k].index] == 1;
      }
      plain_[t.index] = good ? 1 : 2;
      todo.pop_back();
    }
    return plain_[root.index] == 1;
  }

  // Whether two values are one for all samples that get there, and not the same for all of those.
  bool alike(Term a, Term b, Term where) {
    std::optional<std::uint64_t> first;
    bool varies = false;
    for (std::size_t i = 0; i < samples_.count(); ++i) {
      if (samples_.value(i, where) == 0) continue;
      const std::uint64_t v = samples_.value(i, a);
      if (v != samples_.value(i, b)) return false;
      varies = varies || (first && v != *first);
      first = v;
    }
    return varies;
  }

  // What is not recognised costs more at the end; an entry that is not, the proof.
  static constexpr std::uint64_t kWorth = 1'000'000, kWorthOfEntry = 20'000'000;
  bool never(Term truth, std::uint64_t worth = kWorth) {
    if (t_.is_constant(truth)) return t_.is_constant(truth, 0);
    const TermAnswer answer = solver_.ask(
        t_, truth, TermSolver::Relate::None,
        "can what the program computes differ from what the meaning does there?", worth);
    resources += answer.resources;
    return answer.kind == TermAnswer::Kind::Never;
  }

  Terms& t_;
  Places& places_;
  TermSolver& solver_;
  Term here_;
  unsigned node_;  // the array of the node's map
  Samples samples_;
  std::vector<std::uint8_t> plain_;  // 1 yes, 2 no
  std::map<std::pair<unsigned, Term>, std::vector<Match>> matches_;
  std::map<Term, std::vector<Match>> values_;
  std::map<Term, std::optional<Term>> paths_;
};

class FramePacket {
 public:
  // `http`: null where no requests are read.
  FramePacket(const std::vector<std::uint8_t>& frame, bool whole, const HttpTables* http,
              bool proxy)
      : frame_(frame), whole_(whole), http_(http), proxy_(proxy) {}
  Number turn(Number truth) const { return truth; }
  Number end(Number truth) const { return truth; }
  void follows(Number) const {}
  void leave_out() const {}
  Number length() const { return {frame_.size(), 32}; }
  Number byte(Number at) const { return {at.value < frame_.size() ? frame_[at.value] : 0U, 8}; }
  Number whole() const { return {whole_ ? 1U : 0U, 1}; }
  Number request(Number filter, Number offset) const {
    return {http_ == nullptr ? 0U : outcome_of(*http_, frame_, filter.value, offset.value, proxy_),
            32};
  }
  // What asking about the payload at this offset gives.
  static std::uint32_t outcome_of(const HttpTables& http, const std::vector<std::uint8_t>& frame,
                                  std::uint64_t filter, std::uint64_t offset, bool proxy) {
    const std::size_t from = std::min<std::size_t>(offset, frame.size());
    return http.outcome(static_cast<std::uint32_t>(filter),
                        {reinterpret_cast<const char*>(frame.data()) + from, frame.size() - from},
                        proxy);
  }

 private:
  const std::vector<std::uint8_t>& frame_;
  bool whole_;
  const HttpTables* http_;
  bool proxy_;
};

void word_into(std::string& bytes, std::uint32_t at, unsigned count, std::uint64_t value) {
  if (at + std::size_t{count} <= bytes.size()) std::memcpy(bytes.data() + at, &value, count);
}

// The entries that a run found, in the place of maps.
class GivenFlows {
 public:
  explicit GivenFlows(FlowsFound& found) : found_(found) {}
  FlowValue<Number> look_up(FlowEntry which, FlowMap map, const std::vector<Number>& key,
                            Number when) const {
    FlowsFound::Entry& e = found_.entries[static_cast<std::size_t>(which)];
    if (when.value != 0) {
      e.key.clear();
      for (const Number b : key) e.key.push_back(static_cast<char>(b.value));
    }
    const bool first = map == FlowMap::Fragments;
    FlowValue<Number> out{{e.present ? 1U : 0U, 1}, {}};
    const std::vector<unsigned> widths = first ? std::vector{16U, 16U} : std::vector{64U, 32U, 32U};
    for (std::size_t k = 0; k < widths.size(); ++k) {
      out.fields.push_back({k < e.fields.size() ? e.fields[k] : 0, widths[k]});
    }
    return out;
  }
  Number clock(unsigned called_before) const { return {found_.clock.at(called_before), 64}; }

 private:
  FlowsFound& found_;
};

std::vector<std::uint64_t> bytes_of(std::string_view text) {
  std::vector<std::uint64_t> out;
  for (const char c : text) out.push_back(static_cast<std::uint8_t>(c));
  return out;
}

std::string hex(const std::vector<std::uint64_t>& bytes) {
  std::string out;
  for (const std::uint64_t b : bytes) out += fmt::format("{:02x}", b);
  return out;
}

// One entry as text: "new flow KEY: 60000000000 2 0".
std::string kept_text(const char* what, const std::vector<std::uint64_t>& key,
                      const std::vector<std::uint64_t>& fields) {
  return fmt::format("{} {}: {}", what, hex(key), fmt::join(fields, " "));
}

PacketFate fate_from(Evaluator& evaluate, const Fate<Term>& fate) {
  PacketFate out;
  out.action = static_cast<std::uint32_t>(evaluate(fate.action));
  out.mark = static_cast<std::uint32_t>(evaluate(fate.mark));
  for (std::size_t k = 0; k < 5; ++k) {
    out.cb[k] = static_cast<std::uint32_t>(evaluate(fate.cb[k]));
  }
  return out;
}

}  // namespace

namespace {

PacketFate fate_from(const Fate<Number>& fate) {
  PacketFate out;
  out.action = static_cast<std::uint32_t>(fate.action.value);
  out.mark = static_cast<std::uint32_t>(fate.mark.value);
  for (std::size_t k = 0; k < 5; ++k) out.cb[k] = static_cast<std::uint32_t>(fate.cb[k].value);
  return out;
}

}  // namespace

PacketFate fate_of(const std::vector<std::uint8_t>& frame, std::uint32_t vlan_present,
                   unsigned direction, const DatapathShape& shape, std::string_view node,
                   std::string_view policy, const HttpTables* http, bool whole) {
  Numbers numbers;
  const MapBytes bytes(node, policy);
  const bool proxy = bytes.word(DatapathMap::Node, {8, 32}, 4).value != 0;
  const FramePacket packet(frame, whole, http, proxy);
  PacketMeaning<Numbers, Number, const MapBytes, const FramePacket> meaning(numbers, shape, bytes,
                                                                            packet, direction);
  return fate_from(meaning.fate({}, {vlan_present, 32}, bytes.word(DatapathMap::Node, {0, 32}, 4)));
}

PacketFate fate_of(const std::vector<std::uint8_t>& frame, std::uint32_t vlan_present,
                   unsigned direction, const DatapathShape& shape, std::string_view node,
                   std::string_view policy, FlowsFound& flows) {
  Numbers numbers;
  const MapBytes bytes(node, policy);
  const FramePacket packet(frame, true, nullptr, false);
  GivenFlows given(flows);
  FlowMeaning<Numbers, Number, const MapBytes, const FramePacket, GivenFlows> meaning(
      numbers, shape, bytes, packet, direction, given);
  const auto run = meaning.run({}, {vlan_present, 32}, bytes.word(DatapathMap::Node, {0, 32}, 4));
  PacketFate out = fate_from(run.fate);
  const auto values = [](const std::vector<Number>& of) {
    std::vector<std::uint64_t> v;
    for (const Number n : of) v.push_back(n.value);
    return v;
  };
  if (run.fragment.when.value != 0) {
    out.kept.push_back(
        kept_text("new fragment", values(run.fragment.key), values(run.fragment.value)));
  }
  if (run.flow.when.value != 0) {
    out.kept.push_back(kept_text("new flow", values(run.flow.key), values(run.flow.value)));
  }
  for (const auto& [which, after] :
       {std::pair(FlowEntry::Answered, &run.answered), std::pair(FlowEntry::Own, &run.own)}) {
    const FlowsFound::Entry& e = flows.entries[static_cast<std::size_t>(which)];
    if (!e.present || after->empty() || values(*after) == e.fields) continue;
    out.kept.push_back(kept_text("flow", bytes_of(e.key), values(*after)));
  }
  return out;
}

namespace {

// What a run leaves in the maps of connection tracking.
struct Keeps {
  FlowUpdate<Term> fragment, flow;
  std::array<std::vector<Term>, kFlowEntries> entries;  // the fields of those that it found
  Term twice{};                                         // 1 bit: it adds two entries to one map
};

template <class Run>
Keeps keeps(const SymbolicFlows& flows, const Run& run) {
  Keeps out{run.fragment, run.flow, {}, {}};
  for (std::size_t k = 0; k < kFlowEntries; ++k) out.entries[k] = flows.entries[k].fields;
  if (!run.answered.empty()) {
    out.entries[static_cast<std::size_t>(FlowEntry::Answered)] = run.answered;
    out.entries[static_cast<std::size_t>(FlowEntry::Own)] = run.own;
  }
  return out;
}

class ProgramProof {
 public:
  ProgramProof(const ebpf::Object& object, const ebpf::Program& code, MapNumbers maps,
               unsigned direction, const DatapathShape& shape, TermSolver& solver,
               ProofReport& report, const HttpTables* http,
               const std::optional<RequestFunctions>& functions)
      : object_(object),
        code_(code),
        maps_(maps),
        direction_(direction),
        shape_(shape),
        solver_(solver),
        report_(report),
        http_(http),
        functions_(functions) {}

  // False where the answer is settled: not proved, or refuted.
  // Packets go two ways at each turn; each way is looked at alone.
  bool holds(std::vector<bool>& ways);

 private:
  Keeps updates(Terms& terms, const Execution& run) const;

  const ebpf::Object& object_;
  const ebpf::Program& code_;
  MapNumbers maps_;
  unsigned direction_;
  const DatapathShape& shape_;
  TermSolver& solver_;
  ProofReport& report_;
  // Of a program that reads requests.
  const HttpTables* http_;
  const std::optional<RequestFunctions>& functions_;
};

// Of the program: what it does where is put together for each map.
Keeps ProgramProof::updates(Terms& terms, const Execution& run) const {
  Keeps out;
  const Term never = terms.truth(false);
  out.twice = out.fragment.when = out.flow.when = never;
  for (const MapUpdate& e : run.updates) {
    const bool first = e.map == maps_.fragments;
    FlowUpdate<Term>& update = first ? out.fragment : out.flow;
    std::vector<Term> value;
    std::size_t at = 0;
    for (const std::size_t bytes :
         first ? std::vector<std::size_t>{2, 2} : std::vector<std::size_t>{8, 4, 4}) {
      Term field = e.value[at];
      for (std::size_t k = 1; k < bytes; ++k) field = terms.concat(e.value[at + k], field);
      value.push_back(field);
      at += bytes;
    }
    if (update.key.empty()) {
      update = {e.when, e.key, std::move(value)};
      continue;
    }
    out.twice = terms.or_(out.twice, terms.and_(update.when, e.when));
    update.when = terms.or_(update.when, e.when);
    for (std::size_t k = 0; k < e.key.size(); ++k) {
      update.key[k] = terms.ite(e.when, e.key[k], update.key[k]);
    }
    for (std::size_t k = 0; k < value.size(); ++k) {
      update.value[k] = terms.ite(e.when, value[k], update.value[k]);
    }
  }
  std::copy(run.entries.begin(), run.entries.end(), out.entries.begin());
  return out;
}

Term keep_differs(Terms& terms, const Keeps& program, const Keeps& meaning) {
  Term out = program.twice;
  for (const auto& [a, b] :
       {std::pair(&program.fragment, &meaning.fragment), std::pair(&program.flow, &meaning.flow)}) {
    out = terms.or_(out, terms.xor_(a->when, b->when));
    if (a->key.empty() || b->key.empty()) continue;  // the one never happens
    const Term same = terms.and_(equal(terms, a->key, b->key), equal(terms, a->value, b->value));
    out = terms.or_(out, terms.and_(b->when, terms.not_(same)));
  }
  for (std::size_t k = 0; k < kFlowEntries; ++k) {
    out = terms.or_(out, terms.not_(equal(terms, program.entries[k], meaning.entries[k])));
  }
  return out;
}

// Whether two of the entries that the program looks up are one: what is written to the one would
// then be read from the other.
Term one_entry_twice(Terms& terms, const SymbolicFlows& flows,
                     const std::array<Term, kFlowEntries>& looked_up) {
  Term out = terms.truth(false);
  for (std::size_t a = 0; a < kFlowEntries; ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      if (flows.keys[a].empty() || flows.keys[b].empty()) continue;
      if (flows.entries[a].map != flows.entries[b].map) continue;
      const Term both = terms.and_(looked_up[a], looked_up[b]);
      out = terms.or_(out, terms.and_(both, equal(terms, flows.keys[a], flows.keys[b])));
    }
  }
  return out;
}

std::vector<std::string> kept_lines(Evaluator& evaluate, const SymbolicFlows& flows,
                                    const Keeps& keeps) {
  std::vector<std::string> out;
  const auto values = [&](const std::vector<Term>& of) {
    std::vector<std::uint64_t> v;
    for (const Term t : of) v.push_back(evaluate(t));
    return v;
  };
  for (const auto& [what, update] :
       {std::pair("new fragment", &keeps.fragment), std::pair("new flow", &keeps.flow)}) {
    if (evaluate(update->when) == 0) continue;
    out.push_back(kept_text(what, values(update->key), values(update->value)));
  }
  for (std::size_t k = 0; k < kFlowEntries; ++k) {
    const auto after = values(keeps.entries[k]);
    const MapEntry& before = flows.entries[k];
    if (evaluate(before.present) == 0 || after == values(before.fields)) continue;
    out.push_back(kept_text("flow", values(flows.keys[k]), after));
  }
  return out;
}

bool ProgramProof::holds(std::vector<bool>& ways) {
  Terms terms;
  Fate<Term> before;
  before.action = terms.constant(0, 32);
  before.mark = terms.symbol(context_symbol(kSkbMark), 32);
  for (std::size_t k = 0; k < 5; ++k) {
    before.cb[k] = terms.symbol(context_symbol(kSkbCb + 4 * k), 32);
  }
  Places places;
  SymbolicTables tables(terms, maps_, places);
  SymbolicPacket packet(terms, places, ways);
  const Term vlan = terms.symbol(context_symbol(kSkbVlanPresent), 32);
  const Term generation = terms.symbol(volatile_symbol(maps_.node, 0, 0), 32);
  SymbolicFlows flows(terms, maps_);
  Fate<Term> want;
  Keeps wants;
  if (shape_.stateful) {
    FlowMeaning<Terms, Term, SymbolicTables, SymbolicPacket, SymbolicFlows> meaning(
        terms, shape_, tables, packet, direction_, flows);
    const auto kept = meaning.run(before, vlan, generation);
    want = kept.fate;
    wants = keeps(flows, kept);
  } else {
    PacketMeaning<Terms, Term, SymbolicTables, SymbolicPacket> meaning(terms, shape_, tables,
                                                                       packet, direction_);
    want = meaning.fate(before, vlan, generation);
  }
  if (packet.more()) {
    for (const bool way : {true, false}) {
      ways.push_back(way);
      const bool holds_there = holds(ways);
      ways.pop_back();
      if (!holds_there) return false;
    }
    return true;
  }
  if (packet.left_out()) {
    report_.left_out = true;
    return true;
  }
  // No more lies here than there is.
  const Term here =
      shape_.http
          ? terms.and_(
                packet.here(),
                terms.not_(terms.ult(terms.symbol(context_symbol(kSkbLen), 32), packet.length())))
          : packet.here();
  solver_.forget();
  const std::size_t asked_before = solver_.asked();
  report_.answer = ProofReport::Answer::NotProved;
  for (const Term x : packet.exceptions()) {
    if (terms.never(x)) continue;
    const TermAnswer answer =
        solver_.ask(terms, x, TermSolver::Relate::None, "does what was supposed follow?");
    report_.resources += answer.resources;
    if (answer.kind == TermAnswer::Kind::Never) continue;
    report_.questions += solver_.asked() - asked_before;
    report_.reason = "what was supposed of the packets does not follow";
    return false;
  }
  Matcher matcher(terms, places, solver_, here, shape_, maps_);
  ExecutorOptions options;
  options.volatile_words = {{maps_.node, 0}};
  options.given = packet.given();
  options.same_place = [&](const std::vector<Term>& path, unsigned array, Term index) {
    return matcher(path, array, index);
  };
  options.same_value = [&](const std::vector<Term>& path, Term value) {
    return matcher.value(path, value);
  };
  options.same_path = [&](const std::vector<Term>& path) { return matcher.path(path); };
  if (shape_.http) {
    options.summaries.emplace(functions_->ask, ask_summary(terms));
    options.gathered_at = *behind_pull(code_);
  }
  if (shape_.stateful) {
    options.helpers = {kMapLookup, kMapUpdate, kClock};
    options.keyed = {{maps_.flows, {kFlowKeyBytes, kFlowBytes}},
                     {maps_.fragments, {kFragmentKeyBytes, kFragmentBytes}}};
    options.entries = flows.entries;
    options.look_up = [&](const std::vector<Term>& path, std::size_t map,
                          const std::vector<Term>& key) {
      return matcher.entry(flows, path, map, key);
    };
  }
  const auto run = execute(terms, object_, code_, options);
  const auto count = [&] {
    report_.terms += terms.size();
    report_.questions += solver_.asked() - asked_before;
  };
  report_.resources += matcher.resources;
  if (!run) {
    count();
    report_.reason = run.error();
    return false;
  }
  Fate<Term> does = before;
  does.action = run->result;
  for (const auto& [offset, word] : run->context) {
    (offset == kSkbMark ? does.mark : does.cb[(offset - kSkbCb) / 4]) = word;
  }
  // An access outside, or another fate.
  Term outside = terms.truth(false);
  for (const Obligation& o : run->obligations) {
    outside = terms.or_(outside, terms.and_(o.when, terms.not_(o.holds)));
  }
  Term differs = terms.not_(terms.eq(does.action, want.action));
  differs = terms.or_(differs, terms.not_(terms.eq(does.mark, want.mark)));
  for (std::size_t k = 0; k < 5; ++k) {
    differs = terms.or_(differs, terms.not_(terms.eq(does.cb[k], want.cb[k])));
  }
  Keeps does_keep;
  if (shape_.stateful) {
    does_keep = updates(terms, *run);
    differs = terms.or_(differs, keep_differs(terms, does_keep, wants));
    differs = terms.or_(differs, one_entry_twice(terms, flows, matcher.looked_up));
  }
  const Term wrong = terms.or_(outside, differs);
  if (terms.is_constant(wrong, 0)) {
    count();
    report_.answer = ProofReport::Answer::Proved;
    return true;
  }
  const Term question = terms.and_(here, wrong);
  // What an answer says is looked at once more, over the bytes that would really be there.
  const auto confirmed = [&](const TermAnswer& answer) {
    ProgramWitness w;
    const auto symbol = [&](const std::string& name) {
      const auto it = answer.symbols.find(name);
      return it == answer.symbols.end() ? std::uint64_t{0} : it->second;
    };
    w.frame.resize(symbol(kPacketLength));
    w.whole = !shape_.http || symbol(context_symbol(kSkbLen)) == w.frame.size();
    w.vlan_present = static_cast<std::uint32_t>(symbol(context_symbol(kSkbVlanPresent)));
    w.node.resize(object_.maps[maps_.node].size);
    w.policy.resize(object_.maps[maps_.policy].size);
    const auto generation_value =
        static_cast<std::uint32_t>(symbol(volatile_symbol(maps_.node, 0, 0)));
    std::memcpy(w.node.data(), &generation_value, 4);
    for (const TermAnswer::Read& r : answer.reads) {
      if (r.array == kPacketArray) {
        if (r.index < w.frame.size()) w.frame[r.index] = static_cast<std::uint8_t>(r.value);
      } else if (r.array == map_array(maps_.node)) {
        word_into(w.node, r.index, r.bytes, r.value);
      } else if (r.array == map_array(maps_.policy)) {
        word_into(w.policy, r.index, r.bytes, r.value);
      } else if (r.array == kAskArray && (r.index & 511U) < w.frame.size()) {
        // A payload that is answered so.
        const std::size_t from = r.index & 511U;
        const std::string payload = http_->example(
            r.index >> 16U, static_cast<std::uint32_t>(r.value), w.frame.size() - from);
        std::copy(payload.begin(), payload.end(),
                  w.frame.begin() + static_cast<std::ptrdiff_t>(from));
      }
    }
    std::uint32_t proxy_port = 0;
    std::memcpy(&proxy_port, w.node.data() + 8, 4);
    for (unsigned k = 0; k < w.flows.clock.size(); ++k) {
      w.flows.clock[k] = symbol(helper_symbol(kClock, k));
    }
    for (std::size_t k = 0; k < kFlowEntries; ++k) {
      FlowsFound::Entry& e = w.flows.entries[k];
      e.present = symbol(SymbolicFlows::symbol(k, "present")) != 0;
      for (std::size_t f = 0; f < flows.entries[k].fields.size(); ++f) {
        e.fields.push_back(symbol(SymbolicFlows::symbol(k, std::to_string(f))));
      }
    }
    Evaluator evaluate(
        terms, {[&](const std::string& name) -> std::uint64_t {
                  if (name == kPacketLength || name == context_symbol(kSkbLen)) {
                    return symbol(name);
                  }
                  if (name == context_symbol(kSkbVlanPresent)) return w.vlan_present;
                  if (name.starts_with("map")) return generation_value;
                  return name.starts_with("skb") ? 0 : symbol(name);
                },
                [&](unsigned array, std::uint32_t index, unsigned bytes) -> std::uint64_t {
                  std::uint64_t v = 0;
                  if (array == kPacketArray) return index < w.frame.size() ? w.frame[index] : 0;
                  if (array == kAskArray) {
                    return FramePacket::outcome_of(*http_, w.frame, index >> 16U, index & 511U,
                                                   proxy_port != 0);
                  }
                  const std::string& from = array == map_array(maps_.node) ? w.node : w.policy;
                  if (index + std::size_t{bytes} <= from.size()) {
                    std::memcpy(&v, from.data() + index, bytes);
                  }
                  return v;
                }});
    if (evaluate(question) == 0) return false;
    for (const Obligation& o : run->obligations) {
      if (evaluate(o.when) != 0 && evaluate(o.holds) == 0 && w.outside.empty()) w.outside = o.what;
    }
    w.program = fate_from(evaluate, does);
    w.meaning = fate_from(evaluate, want);
    if (shape_.stateful) {
      w.program.kept = kept_lines(evaluate, flows, does_keep);
      w.meaning.kept = kept_lines(evaluate, flows, wants);
    }
    // Both roads to the meaning, over terms and over numbers, must agree.
    const PacketFate again = shape_.stateful ? fate_of(w.frame, w.vlan_present, direction_, shape_,
                                                       w.node, w.policy, w.flows)
                                             : fate_of(w.frame, w.vlan_present, direction_, shape_,
                                                       w.node, w.policy, http_, w.whole);
    if (!(w.meaning == again)) return false;
    report_.answer = ProofReport::Answer::Refuted;
    report_.witness = std::move(w);
    return true;
  };
  for (std::size_t i = 0; i < matcher.samples().count(); ++i) {
    if (matcher.samples().value(i, question) != 0 && confirmed(matcher.samples().answer(i))) {
      count();
      return false;
    }
  }
  for (const auto relate : {TermSolver::Relate::Truths, TermSolver::Relate::None,
                            TermSolver::Relate::Bytes, TermSolver::Relate::All}) {
    if (relate == TermSolver::Relate::Truths && !shape_.stateful) continue;
    const TermAnswer answer =
        solver_.ask(terms, question, relate, "can a packet meet another fate than it should?");
    report_.resources += answer.resources;
    if (answer.kind == TermAnswer::Kind::Never) {
      report_.answer = ProofReport::Answer::Proved;
    } else if (answer.kind == TermAnswer::Kind::Unknown) {
      report_.reason = answer.reason;
    } else if (!confirmed(answer)) {
      if (!shape_.http) continue;
      const TermAnswer other =
          solver_.ask(terms, terms.and_(question, packet.likely(http_->filters())), relate,
                      "can a request meet another fate than it should?");
      report_.resources += other.resources;
      if (other.kind != TermAnswer::Kind::Possible || !confirmed(other)) continue;
    }
    count();
    return report_.answer == ProofReport::Answer::Proved;
  }
  count();
  report_.reason = "the solver found a difference that does not show in a concrete run";
  return false;
}

// Why the program may lay the packet out otherwise than it should; empty: it does not. It asks for
// what lies elsewhere, unless the packet is too long to be decided.
std::string gathers_otherwise(const ebpf::Object& object, const ebpf::Program& code,
                              std::size_t behind, TermSolver& solver, ProofReport& report) {
  Terms t;
  solver.forget();
  BpfState start = function_start(t);
  start.regs[1] = {BpfValue::Kind::Context, 0, t.constant(0, 64)};
  const auto run = execute_stretch(t, object, code, {}, 0, std::move(start), behind);
  if (!run) return run.error();
  if (run->at_exit || !run->at_cut || !run->obligations.empty()) {
    return "the program does more than ask for the rest of a packet first";
  }
  const Term all = t.symbol(context_symbol(kSkbLen), 32);
  const Term length = t.zext(t.symbol(kPacketLength, 16), 64);
  const Term asks = t.and_(t.ult(length, t.zext(all, 64)), t.ult(all, t.constant(4096, 32)));
  const Term want = t.ite(asks, t.zext(t.symbol(kPulledLength, 16), 64), length);
  const Term differs = t.not_(t.eq(run->at_cut->length, want));
  if (t.never(differs)) return {};
  const TermAnswer answer =
      solver.ask(t, differs, TermSolver::Relate::None,
                 "can a packet's rest be asked for otherwise than it should?");
  ++report.questions;
  report.resources += answer.resources;
  if (answer.kind == TermAnswer::Kind::Never) return {};
  return answer.kind == TermAnswer::Kind::Unknown
             ? answer.reason
             : fmt::format(
                   "a packet's rest may be asked for otherwise than it should (before "
                   "instruction {})",
                   behind);
}

}  // namespace

std::string left_out(const DatapathShape& shape) {
  return fmt::format("proved of all packets but those of IPv6 with more than {} extension header{}",
                     shape.extension_headers, shape.extension_headers == 1 ? "" : "s");
}

ProofReport prove_program(const ebpf::Object& object, const std::string& program,
                          unsigned direction, const DatapathShape& shape, TermSolver& solver) {
  ProofReport report;
  const ebpf::Program* code = object.program(program);
  const ebpf::Map* node = object.map(".bss");
  const ebpf::Map* policy = object.map(".data.policy");
  if (code == nullptr || node == nullptr || policy == nullptr || !node->data || !policy->data) {
    report.reason = fmt::format("the object has no program {} over the two tables", program);
    return report;
  }
  if (node->size != shape.node_size() || policy->size != shape.policy_size()) {
    report.reason = fmt::format("the tables have {} and {} bytes; their sizes say {} and {}",
                                node->size, policy->size, shape.node_size(), shape.policy_size());
    return report;
  }
  report.instructions = code->code.size();
  std::optional<HttpTables> http;
  std::optional<RequestFunctions> functions;
  if (shape.http) {
    auto tables = HttpTables::read(object);
    const auto found = request_functions(object, *code);
    if (!tables || !found) {
      report.reason = tables ? found.error() : tables.error();
      return report;
    }
    const auto behind = behind_pull(*code);
    report.reason =
        behind ? gathers_otherwise(object, *code, *behind, solver, report) : behind.error();
    if (!report.reason.empty()) return report;
    http = std::move(*tables);
    functions = *found;
  }
  const auto number = [&](const ebpf::Map* m) {
    return static_cast<std::size_t>(m - object.maps.data());
  };
  MapNumbers maps{number(node), number(policy)};
  if (shape.stateful) {
    const ebpf::Map* flows = object.map("flows");
    const ebpf::Map* fragments = object.map("fragments");
    if (flows == nullptr || fragments == nullptr || flows->data || fragments->data) {
      report.reason = "the object has no maps of flows and fragments";
      return report;
    }
    maps.flows = number(flows);
    maps.fragments = number(fragments);
  }
  ProgramProof proof(object, *code, maps, direction, shape, solver, report, http ? &*http : nullptr,
                     functions);
  std::vector<bool> ways;
  if (proof.holds(ways) && report.left_out) {
    report.answer = ProofReport::Answer::NotProved;
    report.reason = left_out(shape);
  }
  return report;
}

}  // namespace policyc::verify
