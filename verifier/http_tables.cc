#include "verifier/http_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace policyc::verify {

namespace {

constexpr std::size_t kSkipBytes = 48;  // u64 first[3], last[3]
constexpr std::size_t kNarrowSteps = 0x20000;
constexpr std::size_t kMostPairs = 1'000'000;

std::uint32_t word(std::string_view bytes, std::size_t at, unsigned count) {
  std::uint32_t out = 0;
  if (at + count <= bytes.size()) std::memcpy(&out, bytes.data() + at, count);
  return out;
}

// Those that read best come first.
std::vector<std::uint8_t> all_bytes() {
  const auto rank = [](unsigned b) {
    return b >= 'a' && b <= 'z' ? 0 : b >= 'A' && b <= 'Z' ? 1 : b > ' ' && b < 127 ? 2 : 3;
  };
  std::vector<std::uint8_t> out;
  for (unsigned b = 0; b < 256; ++b) out.push_back(static_cast<std::uint8_t>(b));
  std::stable_sort(out.begin(), out.end(),
                   [&](std::uint8_t a, std::uint8_t b) { return rank(a) < rank(b); });
  return out;
}

}  // namespace

Expected<HttpTables> HttpTables::read(const ebpf::Object& object) {
  HttpTables out;
  const auto take = [&](const char* name, std::string& bytes) {
    const ebpf::Variable* v = object.variable(name);
    if (v == nullptr) return false;
    const ebpf::Map& map = object.maps[v->map];
    if (!map.read_only || v->offset > map.initial.size() ||
        map.initial.size() - v->offset < v->size) {
      return false;
    }
    bytes = map.initial.substr(v->offset, v->size);
    return true;
  };
  for (const auto& [name, bytes] : {std::pair{"http_starts", &out.starts_},
                                    {"http_columns", &out.columns_},
                                    {"http_steps", &out.steps_},
                                    {"http_skips", &out.skips_}}) {
    if (!take(name, *bytes)) return Error{fmt::format("the object has no table {}", name)};
  }
  out.wide_ = out.steps_.size() != kNarrowSteps;
  if (out.filters() < 2 || !std::has_single_bit(out.filters()) || out.starts_.size() % 4 != 0 ||
      out.columns_.size() != out.filters() * 512 || out.skips_.empty() ||
      out.skips_.size() % kSkipBytes != 0 || !std::has_single_bit(out.skips_.size() / kSkipBytes) ||
      !std::has_single_bit(out.steps_.size()) || out.steps_.size() < kNarrowSteps) {
    return Error{"the tables of requests have sizes that are not known"};
  }
  return out;
}

std::uint32_t HttpTables::cell(std::uint32_t state, std::uint32_t column) const {
  if (!wide_) return word(steps_, std::size_t{state} + column, 2);
  return word(steps_, (state + column) & (steps_.size() - 4), 4);
}

std::uint32_t HttpTables::start(std::uint32_t filter) const {
  const std::uint32_t state = word(starts_, 4 * (filter & (filters() - 1)), 4);
  return state & static_cast<std::uint32_t>(wide_ ? steps_.size() - 4 : 0xFFFF);
}

std::uint32_t HttpTables::column(std::uint32_t filter, std::uint8_t byte) const {
  return word(columns_, 512 * (filter & (filters() - 1)) + std::size_t{2} * byte, 2);
}

std::uint32_t HttpTables::next(std::uint32_t filter, std::uint32_t state, std::uint8_t byte) const {
  // What is lost stays so: the loop ends there.
  if (state == 0) return 0;
  const std::uint32_t to = cell(state, column(filter, byte));
  return to & static_cast<std::uint32_t>(wide_ ? steps_.size() - 4 : 0xFFFF);
}

std::uint32_t HttpTables::verdict(std::uint32_t filter, std::string_view bytes) const {
  std::uint32_t state = start(filter);
  for (const char c : bytes) state = next(filter, state, static_cast<std::uint8_t>(c));
  return state == 0 ? 0 : cell(state, 0);
}

std::uint32_t HttpTables::outcome(std::uint32_t filter, std::string_view payload,
                                  bool proxy) const {
  if (payload.empty() || payload.size() > kHeadBlocks * 8 + 7) return 3;
  const std::uint32_t said = verdict(filter, payload);
  return said == 2 ? 2 : said == 1 && !proxy ? 1 : 3;
}

std::string HttpTables::example(std::uint32_t filter, std::uint32_t verdict,
                                std::size_t length) const {
  // A shortest one first: from which state, and by which byte, each state is first reached.
  struct Step {
    std::uint32_t from = 0;
    std::uint8_t byte = 0;
  };
  const std::vector<std::uint8_t> order = all_bytes();
  std::map<std::uint32_t, Step> reached = {{start(filter), {}}};
  std::vector<std::uint32_t> states = {start(filter)};
  std::size_t found = 0;
  const auto says = [&](std::uint32_t state) { return state != 0 && cell(state, 0) == verdict; };
  for (; found < states.size() && !says(states[found]); ++found) {
    for (const std::uint8_t b : order) {
      const std::uint32_t to = next(filter, states[found], b);
      if (reached.try_emplace(to, Step{states[found], b}).second) states.push_back(to);
    }
  }
  if (found == states.size()) return {};
  std::string out;
  std::vector<std::uint32_t> on_the_way;
  for (std::uint32_t at = states[found]; at != states.front(); at = reached[at].from) {
    out.insert(out.begin(), static_cast<char>(reached[at].byte));
    on_the_way.insert(on_the_way.begin(), at);
  }
  // As long as it must be by a byte that changes nothing, one that reads well.
  for (const std::uint8_t b : order) {
    for (std::size_t i = 0; i < on_the_way.size() && out.size() < length; ++i) {
      if (next(filter, on_the_way[i], b) != on_the_way[i]) continue;
      out.insert(i + 1, length - out.size(), static_cast<char>(b));
    }
  }
  return out.size() == length && this->verdict(filter, out) == verdict ? out : std::string();
}

// Walks pairs of a state of the tables and a state of the automaton.
class HttpCheck {
 public:
  HttpCheck(const HttpTables& tables, std::uint32_t filter, const ir::Dfa& automaton)
      : t_(tables), filter_(filter), dfa_(automaton) {}

  HttpReport run() {
    if (filter_ == 0 || filter_ >= t_.filters()) {
      report_.reason = fmt::format("the tables have no filter {}", filter_);
      return report_;
    }
    // Within a block the loop goes on from a lost state, so its row must lead nowhere else.
    if (t_.cell(0, 0) != 0) return unknown("the row of lost states says something");
    for (unsigned b = 0; b < 256; ++b) {
      if (t_.cell(0, t_.column(filter_, static_cast<std::uint8_t>(b))) != 0) {
        return unknown("the row of lost states leads somewhere");
      }
    }
    // The loop takes states as they are within a block, and as rows between blocks.
    for (unsigned b = 0; t_.wide_ && b < 256; ++b) {
      if (t_.column(filter_, static_cast<std::uint8_t>(b)) % 4 != 0) {
        return unknown("a class of bytes has no column");
      }
    }
    const std::vector<std::uint8_t> order = all_bytes();
    meet({t_.start(filter_), 0}, 0, 0);
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
      const Pair p = pairs_[i].pair;
      const std::uint32_t said = p.state == 0 ? 0 : t_.cell(p.state, 0);
      if (said != dfa_.label(p.of_dfa)) return refuted(i);
      if (p.state != 0 && !stays(p.state)) return report_;
      for (const std::uint8_t b : order) {
        const std::uint32_t to = t_.next(filter_, p.state, b);
        if (p.state != 0 && to != t_.cell(p.state, t_.column(filter_, b))) {
          return unknown(fmt::format("byte {:#04x} leads to no row", b));
        }
        meet({to, dfa_.step(p.of_dfa, b)}, i, b);
      }
      if (pairs_.size() > kMostPairs) return unknown("the tables have too many states");
    }
    report_.states = pairs_.size();
    report_.answer = HttpReport::Answer::Proved;
    return report_;
  }

 private:
  struct Pair {
    std::uint32_t state = 0, of_dfa = 0;
    auto operator<=>(const Pair&) const = default;
  };
  struct Met {
    Pair pair;
    std::size_t from = 0;  // the pair before, by this byte; the first is its own
    std::uint8_t byte = 0;
  };

  void meet(Pair pair, std::size_t from, std::uint8_t byte) {
    if (known_.insert(pair).second) pairs_.push_back({pair, from, byte});
  }
  HttpReport unknown(std::string why) {
    report_.reason = std::move(why);
    return report_;
  }
  HttpReport refuted(std::size_t at) {
    for (; at != 0; at = pairs_[at].from) {
      report_.request.insert(report_.request.begin(), static_cast<char>(pairs_[at].byte));
    }
    report_.tables = t_.verdict(filter_, report_.request);
    report_.rules = dfa_.label_of(report_.request);
    // Computed a second time, from the start.
    if (report_.tables == report_.rules) return unknown("a difference that does not show again");
    report_.answer = HttpReport::Answer::Refuted;
    return report_;
  }

  // The bytes that the state's second cell names are passed over by eights: they must lead from the
  // state to itself.
  bool stays(std::uint32_t state) {
    const std::uint32_t cell_bytes = t_.wide_ ? 4 : 2;
    const std::uint32_t number = t_.cell(state, cell_bytes);
    if (number == 0) return true;
    const std::size_t rows = t_.skips_.size() / kSkipBytes;
    const std::size_t at = kSkipBytes * (number & (rows - 1));
    std::array<std::uint64_t, 6> sums{};
    std::memcpy(sums.data(), t_.skips_.data() + at, kSkipBytes);
    constexpr std::uint64_t kAll = 0x0101010101010101U;
    for (const std::uint64_t s : sums) {
      // Equal lanes that carry nothing into the next.
      if (s != (s & 0xFF) * kAll || (s & 0xFF) > 0x80) {
        report_.reason = "a set of bytes to pass over has a form that is not known";
        return false;
      }
    }
    for (unsigned b = 0; b < 128; ++b) {
      bool in = false;
      for (std::size_t r = 0; r < 3; ++r) {
        const std::uint64_t first = b + (sums[r] & 0xFF), last = b + (sums[r + 3] & 0xFF);
        in = in || ((first & ~last) & 0x80U) != 0;
      }
      if (in && t_.next(filter_, state, static_cast<std::uint8_t>(b)) != state) {
        report_.reason = fmt::format("byte {:#04x} is passed over and leads elsewhere", b);
        return false;
      }
    }
    return true;
  }

  const HttpTables& t_;
  std::uint32_t filter_;
  const ir::Dfa& dfa_;
  HttpReport report_;
  std::set<Pair> known_;
  std::vector<Met> pairs_;
};

HttpReport check_http_tables(const HttpTables& tables, std::uint32_t filter,
                             const ir::Dfa& automaton) {
  return HttpCheck(tables, filter, automaton).run();
}

}  // namespace policyc::verify
