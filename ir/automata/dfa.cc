#include "ir/automata/dfa.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>
#include <unordered_map>
#include <utility>

namespace policyc::ir {
namespace {

constexpr std::size_t kMaxInstructions = 200'000;

Error too_large(std::string_view what, std::size_t limit) {
  return Error{fmt::format("too large: more than {} {}", limit, what)};
}

// ---- Thompson's automaton

struct Instruction {
  enum class Kind : std::uint8_t { Bytes, Split, Assert, Match };
  Kind kind = Kind::Match;
  std::uint8_t first = 0, last = 0;
  Assertion assertion = Assertion::TextBegin;
  std::uint32_t next = 0, other = 0;
};

// Compiles from the end to the beginning: each piece is given what follows it.
class Compiler {
 public:
  bool run(const Regex& regex, std::uint32_t* start) {
    const std::uint32_t match = add({});
    *start = compile(regex, match);
    return program_.size() <= kMaxInstructions;
  }
  const std::vector<Instruction>& program() const { return program_; }

 private:
  std::uint32_t add(Instruction instruction) {
    program_.push_back(instruction);
    return static_cast<std::uint32_t>(program_.size() - 1);
  }
  std::uint32_t split(std::uint32_t a, std::uint32_t b) {
    Instruction i;
    i.kind = Instruction::Kind::Split;
    i.next = a;
    i.other = b;
    return add(i);
  }
  std::uint32_t bytes(std::uint32_t first, std::uint32_t last, std::uint32_t next) {
    Instruction i;
    i.kind = Instruction::Kind::Bytes;
    i.first = static_cast<std::uint8_t>(first);
    i.last = static_cast<std::uint8_t>(last);
    i.next = next;
    return add(i);
  }

  std::uint32_t compile(const Regex& regex, std::uint32_t next) {
    if (program_.size() > kMaxInstructions) return next;
    switch (regex.kind) {
      case Regex::Kind::Class:
      case Regex::Kind::Byte: {
        std::vector<std::uint32_t> ways;
        for (const RuneRange& r : regex.runes) {
          if (regex.kind == Regex::Kind::Byte) {
            ways.push_back(bytes(r.first, r.last, next));
          } else {
            runes(r.first, r.last, next, &ways);
          }
        }
        return any_of(ways);
      }
      case Regex::Kind::Concat:
        for (std::size_t i = regex.parts.size(); i-- > 0;) next = compile(regex.parts[i], next);
        return next;
      case Regex::Kind::Alternate: {
        std::vector<std::uint32_t> ways;
        ways.reserve(regex.parts.size());
        for (const Regex& part : regex.parts) ways.push_back(compile(part, next));
        return any_of(ways);
      }
      case Regex::Kind::Repeat: {
        const Regex& part = regex.parts[0];
        if (regex.max < 0) {
          const std::uint32_t loop = split(0, next);
          program_[loop].next = compile(part, loop);
          next = loop;
        } else {
          const std::uint32_t end = next;
          for (int i = regex.min; i < regex.max && program_.size() <= kMaxInstructions; ++i) {
            next = split(compile(part, next), end);
          }
        }
        for (int i = 0; i < regex.min && program_.size() <= kMaxInstructions; ++i) {
          next = compile(part, next);
        }
        return next;
      }
      case Regex::Kind::Assert: {
        Instruction i;
        i.kind = Instruction::Kind::Assert;
        i.assertion = regex.assertion;
        i.next = next;
        return add(i);
      }
    }
    return next;
  }

  std::uint32_t any_of(const std::vector<std::uint32_t>& ways) {
    if (ways.empty()) return bytes(1, 0, 0);  // an empty range: matches nothing
    std::uint32_t out = ways.back();
    for (std::size_t i = ways.size() - 1; i-- > 0;) out = split(ways[i], out);
    return out;
  }

  // Code points as UTF-8. As in RE2, everything from 80 up is taken together and then admits
  // overlong forms and values above the last code point; surrogates are code points.
  void runes(std::uint32_t first, std::uint32_t last, std::uint32_t next,
             std::vector<std::uint32_t>* ways) {
    constexpr std::array<std::uint32_t, 4> kLast = {0x7F, 0x7FF, 0xFFFF, 0x10FFFF};
    if (first == 0x80 && last == kLast[3]) {
      const std::uint32_t one = bytes(0x80, 0xBF, next);
      const std::uint32_t two = bytes(0x80, 0xBF, one);
      const std::uint32_t three = bytes(0x80, 0xBF, two);
      ways->push_back(bytes(0xC2, 0xDF, one));
      ways->push_back(bytes(0xE0, 0xEF, two));
      ways->push_back(bytes(0xF0, 0xF4, three));
      return;
    }
    for (std::size_t i = 0; i + 1 < kLast.size(); ++i) {
      if (first <= kLast[i] && kLast[i] < last) {
        runes(first, kLast[i], next, ways);
        runes(kLast[i] + 1, last, next, ways);
        return;
      }
    }
    if (last <= kLast[0]) {
      ways->push_back(bytes(first, last, next));
      return;
    }
    // Split until first and last differ only in trailing bytes that run over all values.
    const unsigned length = last <= kLast[1] ? 2 : last <= kLast[2] ? 3 : 4;
    for (unsigned i = 1; i < length; ++i) {
      const std::uint32_t mask = (1U << (6 * i)) - 1;
      if ((first & ~mask) == (last & ~mask)) continue;
      if ((first & mask) != 0) {
        runes(first, first | mask, next, ways);
        runes((first | mask) + 1, last, next, ways);
        return;
      }
      if ((last & mask) != mask) {
        runes(first, (last & ~mask) - 1, next, ways);
        runes(last & ~mask, last, next, ways);
        return;
      }
    }
    constexpr std::array<std::uint32_t, 5> kLead = {0, 0, 0xC0, 0xE0, 0xF0};
    for (unsigned i = 0; i < length; ++i) {
      const std::uint32_t lead = i + 1 == length ? kLead[length] : 0x80;
      const std::uint32_t mask = i + 1 == length ? 0x3FU >> (length - 1) : 0x3F;
      next = bytes(lead | (first >> (6 * i) & mask), lead | (last >> (6 * i) & mask), next);
    }
    ways->push_back(next);
  }

  std::vector<Instruction> program_;
};

// What stands before and behind a place between two bytes.
enum class Neighbour : std::uint8_t { Edge, Newline, Word, Other };

Neighbour neighbour(std::uint8_t byte) {
  if (byte == '\n') return Neighbour::Newline;
  if ((byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
      (byte >= 'A' && byte <= 'Z') || byte == '_') {
    return Neighbour::Word;
  }
  return Neighbour::Other;
}

bool holds(Assertion assertion, Neighbour before, Neighbour after) {
  switch (assertion) {
    case Assertion::TextBegin:
      return before == Neighbour::Edge;
    case Assertion::TextEnd:
      return after == Neighbour::Edge;
    case Assertion::LineBegin:
      return before == Neighbour::Edge || before == Neighbour::Newline;
    case Assertion::LineEnd:
      return after == Neighbour::Edge || after == Neighbour::Newline;
    case Assertion::WordBoundary:
      return (before == Neighbour::Word) != (after == Neighbour::Word);
    case Assertion::NoWordBoundary:
      return (before == Neighbour::Word) == (after == Neighbour::Word);
  }
  return false;
}

// The instructions that can be reached without a byte, at a place between two bytes.
class Closure {
 public:
  explicit Closure(const std::vector<Instruction>& program)
      : program_(program), mark_(program.size(), 0) {}

  // Calls `found` for every Bytes and Match instruction.
  template <class Found>
  void run(const std::uint32_t* from, std::size_t count, Neighbour before, Neighbour after,
           const Found& found) {
    ++round_;
    stack_.assign(from, from + count);
    while (!stack_.empty()) {
      const std::uint32_t at = stack_.back();
      stack_.pop_back();
      if (mark_[at] == round_) continue;
      mark_[at] = round_;
      const Instruction& i = program_[at];
      switch (i.kind) {
        case Instruction::Kind::Split:
          stack_.push_back(i.next);
          stack_.push_back(i.other);
          break;
        case Instruction::Kind::Assert:
          if (holds(i.assertion, before, after)) stack_.push_back(i.next);
          break;
        case Instruction::Kind::Bytes:
        case Instruction::Kind::Match:
          found(i);
          break;
      }
    }
  }

 private:
  const std::vector<Instruction>& program_;
  std::vector<std::uint32_t> mark_, stack_;
  std::uint32_t round_ = 0;
};

struct KeyHash {
  std::size_t operator()(const Dfa::Key& key) const {
    std::size_t h = 1469598103934665603U;
    for (const std::uint32_t v : key) h = (h ^ v) * 1099511628211U;
    return h ^ (h >> 29U);
  }
};

// Classes of bytes from cuts: a class begins at each byte that is marked.
std::array<std::uint8_t, 256> classes_from(const std::array<bool, 257>& cut) {
  std::array<std::uint8_t, 256> out{};
  std::uint8_t number = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (byte > 0 && cut[byte]) ++number;
    out[byte] = number;
  }
  return out;
}

// Bytes from the one that reads best to the one that reads worst.
const std::array<std::uint8_t, 256>& reading_order() {
  static const std::array<std::uint8_t, 256> order = [] {
    std::array<std::uint8_t, 256> out{};
    std::iota(out.begin(), out.end(), std::uint8_t{0});
    const auto rank = [](std::uint8_t c) {
      if (c >= 'a' && c <= 'z') return 0;
      if (c >= '0' && c <= '9') return 1;
      if (c == '/' || c == '-' || c == '.') return 2;
      if (c >= 'A' && c <= 'Z') return 3;
      if (c > ' ' && c < 127) return 4;
      return c == ' ' ? 5 : 6;
    };
    std::stable_sort(out.begin(), out.end(),
                     [&](std::uint8_t a, std::uint8_t b) { return rank(a) < rank(b); });
    return out;
  }();
  return order;
}

}  // namespace

std::array<std::uint8_t, 256> common_classes(const std::array<std::uint8_t, 256>& a,
                                             const std::array<std::uint8_t, 256>& b) {
  std::map<std::pair<std::uint8_t, std::uint8_t>, std::uint8_t> number;
  std::array<std::uint8_t, 256> out{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    out[byte] = number.try_emplace({a[byte], b[byte]}, static_cast<std::uint8_t>(number.size()))
                    .first->second;
  }
  return out;
}

// An automaton before it is minimised; every state is reachable from state 0.
struct Dfa::Raw {
  std::array<std::uint8_t, 256> class_of{};
  std::size_t classes = 1;
  std::vector<std::uint32_t> next;
  std::vector<std::uint32_t> labels;
};

// Hopcroft's refinement, then breadth-first numbers and the coarsest byte classes.
Dfa Dfa::minimised(const Raw& raw) {
  const std::size_t states = raw.labels.size(), classes = raw.classes;
  // Predecessors by class.
  std::vector<std::uint32_t> first(classes * states + 1, 0), before(classes * states);
  for (std::size_t s = 0; s < states; ++s) {
    for (std::size_t c = 0; c < classes; ++c) ++first[c * states + raw.next[s * classes + c] + 1];
  }
  std::partial_sum(first.begin(), first.end(), first.begin());
  std::vector<std::uint32_t> fill(first.begin(), first.end() - 1);
  for (std::size_t s = 0; s < states; ++s) {
    for (std::size_t c = 0; c < classes; ++c) {
      before[fill[c * states + raw.next[s * classes + c]]++] = static_cast<std::uint32_t>(s);
    }
  }
  // Blocks are stretches of `order`; states already hit by the splitter stand at their front.
  std::vector<std::uint32_t> order(states), place(states), block(states);
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return raw.labels[a] < raw.labels[b]; });
  std::vector<std::uint32_t> begin, end, hit;
  for (std::size_t i = 0; i < states; ++i) {
    if (i == 0 || raw.labels[order[i]] != raw.labels[order[i - 1]]) {
      begin.push_back(static_cast<std::uint32_t>(i));
      end.push_back(static_cast<std::uint32_t>(i));
    }
    ++end.back();
    place[order[i]] = static_cast<std::uint32_t>(i);
    block[order[i]] = static_cast<std::uint32_t>(begin.size() - 1);
  }
  hit.assign(begin.size(), 0);
  std::vector<std::pair<std::uint32_t, std::uint32_t>> work;  // block, class
  std::vector<std::vector<bool>> waiting(begin.size(), std::vector<bool>(classes, true));
  for (std::uint32_t b = 0; b < begin.size(); ++b) {
    for (std::uint32_t c = 0; c < classes; ++c) work.emplace_back(b, c);
  }
  std::vector<std::uint32_t> touched, members;
  while (!work.empty()) {
    const auto [splitter, c] = work.back();
    work.pop_back();
    waiting[splitter][c] = false;
    members.assign(order.begin() + begin[splitter], order.begin() + end[splitter]);
    touched.clear();
    for (const std::uint32_t m : members) {
      for (std::uint32_t i = first[c * states + m]; i < first[c * states + m + 1]; ++i) {
        const std::uint32_t s = before[i], b = block[s];
        const std::uint32_t to = begin[b] + hit[b];
        if (hit[b]++ == 0) touched.push_back(b);
        const std::uint32_t other = order[to];
        std::swap(order[place[s]], order[to]);
        place[other] = place[s];
        place[s] = to;
      }
    }
    for (const std::uint32_t b : touched) {
      const std::uint32_t count = std::exchange(hit[b], 0U);
      if (count == end[b] - begin[b]) continue;
      // The smaller part becomes the new block.
      const auto fresh = static_cast<std::uint32_t>(begin.size());
      const std::uint32_t middle = begin[b] + count;
      if (count <= end[b] - middle) {
        begin.push_back(begin[b]);
        end.push_back(middle);
        begin[b] = middle;
      } else {
        begin.push_back(middle);
        end.push_back(end[b]);
        end[b] = middle;
      }
      hit.push_back(0);
      waiting.emplace_back(classes, false);
      for (std::uint32_t i = begin[fresh]; i < end[fresh]; ++i) block[order[i]] = fresh;
      for (std::uint32_t k = 0; k < classes; ++k) {
        // A waiting pair is split in two; otherwise the smaller part suffices.
        waiting[fresh][k] = true;
        work.emplace_back(fresh, k);
      }
    }
  }

  // Which old classes go the same way from every block.
  std::map<std::vector<std::uint32_t>, std::uint8_t> columns;
  std::array<std::uint8_t, 256> new_class{};
  Dfa out(std::vector<std::uint32_t>{});
  std::vector<std::uint8_t> representative;
  std::vector<bool> seen_class(classes, false);
  for (unsigned byte = 0; byte < 256; ++byte) {
    const std::uint8_t old = raw.class_of[byte];
    if (!seen_class[old]) {
      seen_class[old] = true;
      std::vector<std::uint32_t> column(begin.size());
      for (std::size_t b = 0; b < begin.size(); ++b) {
        column[b] = block[raw.next[order[begin[b]] * classes + old]];
      }
      const auto [it, is_new] =
          columns.try_emplace(std::move(column), static_cast<std::uint8_t>(columns.size()));
      if (is_new) representative.push_back(old);
      new_class[old] = it->second;
    }
    out.class_of_[byte] = new_class[old];
  }
  out.classes_ = representative.size();
  // Breadth first over blocks.
  std::vector<std::uint32_t> number(begin.size(), UINT32_MAX), queue = {block[0]};
  number[block[0]] = 0;
  for (std::size_t i = 0; i < queue.size(); ++i) {
    const std::uint32_t member = order[begin[queue[i]]];
    out.labels_.push_back(raw.labels[member]);
    for (const std::uint8_t old : representative) {
      const std::uint32_t to = block[raw.next[member * classes + old]];
      if (number[to] == UINT32_MAX) {
        number[to] = static_cast<std::uint32_t>(queue.size());
        queue.push_back(to);
      }
      out.next_.push_back(number[to]);
    }
  }
  return out;
}

Dfa Dfa::nothing() {
  Dfa out(std::vector<std::uint32_t>{0});
  out.next_ = {0};
  return out;
}

Dfa Dfa::everything() {
  Dfa out(std::vector<std::uint32_t>{1});
  out.next_ = {0};
  return out;
}

Expected<Dfa> Dfa::explore(const Steps& steps, std::size_t budget) {
  Raw raw;
  raw.class_of = steps.class_of;
  std::vector<std::uint8_t> example;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const std::size_t c = steps.class_of[byte];
    if (c >= example.size()) example.resize(c + 1);
    example[c] = static_cast<std::uint8_t>(byte);
  }
  raw.classes = example.size();
  std::unordered_map<Key, std::uint32_t, KeyHash> number = {{steps.start, 0}};
  std::vector<Key> keys = {steps.start};
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (keys.size() > budget) return too_large("states", budget);
    const Key key = keys[i];
    raw.labels.push_back(steps.label(key));
    for (const std::uint8_t byte : example) {
      Key to = steps.step(key, byte);
      const auto [it, fresh] = number.try_emplace(to, static_cast<std::uint32_t>(keys.size()));
      if (fresh) keys.push_back(std::move(to));
      raw.next.push_back(it->second);
    }
  }
  return minimised(raw);
}

Expected<Dfa> Dfa::from_regex(std::string_view text, std::size_t budget) {
  auto regex = parse_regex(text);
  if (!regex) return Error{regex.error()};
  return from_regex(*regex, budget);
}

// Subsets of instructions. A key is what was reached by the last byte, before anything is followed
// without a byte (that hangs on the next byte too), and in front what that last byte was.
Expected<Dfa> Dfa::from_regex(const Regex& regex, std::size_t budget) {
  Compiler compiler;
  std::uint32_t start = 0;
  if (!compiler.run(regex, &start)) return too_large("instructions", kMaxInstructions);
  const std::vector<Instruction>& program = compiler.program();

  std::array<bool, 257> cut{};
  bool words = false, lines = false, edges = false;
  for (const Instruction& i : program) {
    if (i.kind == Instruction::Kind::Bytes && i.first <= i.last) {
      cut[i.first] = cut[i.last + 1U] = true;
    }
    if (i.kind != Instruction::Kind::Assert) continue;
    edges = true;
    words |= i.assertion == Assertion::WordBoundary || i.assertion == Assertion::NoWordBoundary;
    lines |= i.assertion == Assertion::LineBegin || i.assertion == Assertion::LineEnd;
  }
  const auto seen = [&](Neighbour n) {
    if (n == Neighbour::Word && !words) return Neighbour::Other;
    if (n == Neighbour::Newline && !lines) return Neighbour::Other;
    return n == Neighbour::Edge && !edges ? Neighbour::Other : n;
  };
  for (unsigned byte = 1; byte < 256; ++byte) {
    cut[byte] = cut[byte] || seen(neighbour(static_cast<std::uint8_t>(byte))) !=
                                 seen(neighbour(static_cast<std::uint8_t>(byte - 1)));
  }

  Closure closure(program);
  Steps steps;
  steps.class_of = classes_from(cut);
  steps.start = {static_cast<std::uint32_t>(seen(Neighbour::Edge)), start};
  steps.step = [&](const Key& from, std::uint8_t byte) {
    const Neighbour after = seen(neighbour(byte));
    Key to = {static_cast<std::uint32_t>(after)};
    closure.run(from.data() + 1, from.size() - 1, static_cast<Neighbour>(from[0]), after,
                [&](const Instruction& i) {
                  if (i.kind == Instruction::Kind::Bytes && i.first <= byte && byte <= i.last) {
                    to.push_back(i.next);
                  }
                });
    std::sort(to.begin() + 1, to.end());
    to.erase(std::unique(to.begin() + 1, to.end()), to.end());
    if (to.size() == 1) to[0] = 0;  // nothing left to match: what came last is all one
    return to;
  };
  steps.label = [&](const Key& at) {
    std::uint32_t label = 0;
    closure.run(at.data() + 1, at.size() - 1, static_cast<Neighbour>(at[0]), seen(Neighbour::Edge),
                [&](const Instruction& i) {
                  if (i.kind == Instruction::Kind::Match) label = 1;
                });
    return label;
  };
  return explore(steps, budget);
}

Expected<Dfa> Dfa::combine(const Dfa& a, const Dfa& b,
                           const std::function<std::uint32_t(std::uint32_t, std::uint32_t)>& label,
                           std::size_t budget) {
  Steps steps;
  steps.class_of = common_classes(a.class_of_, b.class_of_);
  steps.start = {0, 0};
  steps.step = [&](const Key& at, std::uint8_t byte) {
    return Key{a.step(at[0], byte), b.step(at[1], byte)};
  };
  steps.label = [&](const Key& at) { return label(a.labels_[at[0]], b.labels_[at[1]]); };
  return explore(steps, budget);
}

Expected<Dfa> Dfa::intersect(const Dfa& a, const Dfa& b, std::size_t budget) {
  return combine(
      a, b, [](std::uint32_t x, std::uint32_t y) { return x != 0 && y != 0 ? 1U : 0U; }, budget);
}

Expected<Dfa> Dfa::unite(const Dfa& a, const Dfa& b, std::size_t budget) {
  return combine(
      a, b, [](std::uint32_t x, std::uint32_t y) { return x != 0 || y != 0 ? 1U : 0U; }, budget);
}

Expected<Dfa> Dfa::subtract(const Dfa& a, const Dfa& b, std::size_t budget) {
  return combine(
      a, b, [](std::uint32_t x, std::uint32_t y) { return x != 0 && y == 0 ? 1U : 0U; }, budget);
}

Dfa Dfa::complement() const {
  Dfa out = *this;
  for (std::uint32_t& label : out.labels_) label = label == 0 ? 1 : 0;
  return out;
}

bool Dfa::empty() const {
  return std::all_of(labels_.begin(), labels_.end(), [](std::uint32_t l) { return l == 0; });
}

std::uint32_t Dfa::label_of(std::string_view text) const {
  std::uint32_t state = 0;
  for (const char c : text) state = step(state, static_cast<std::uint8_t>(c));
  return labels_[state];
}

std::optional<std::uint32_t> Dfa::dead() const {
  for (std::uint32_t s = 0; s < states(); ++s) {
    if (labels_[s] != 0) continue;
    const auto* row = next_.data() + s * classes_;
    if (std::all_of(row, row + classes_, [&](std::uint32_t to) { return to == s; })) return s;
  }
  return std::nullopt;
}

namespace {

// Breadth first over numbered states in reading order: the first wanted state gives the text.
// `step` and `wanted` speak of states as 64-bit numbers; the walk begins at 0.
template <class Step, class Wanted>
std::optional<std::string> shortest_text(const std::vector<std::uint8_t>& bytes, const Step& step,
                                         const Wanted& wanted) {
  struct Came {
    std::uint64_t from;
    std::uint8_t byte;
  };
  std::unordered_map<std::uint64_t, Came> came = {{0, {0, 0}}};
  std::deque<std::uint64_t> queue = {0};
  while (!queue.empty()) {
    const std::uint64_t at = queue.front();
    queue.pop_front();
    if (wanted(at)) {
      std::string out;
      for (std::uint64_t s = at; s != 0; s = came.at(s).from) {
        out += static_cast<char>(came.at(s).byte);
      }
      std::reverse(out.begin(), out.end());
      return out;
    }
    for (const std::uint8_t byte : bytes) {
      const std::uint64_t to = step(at, byte);
      if (came.try_emplace(to, Came{at, byte}).second) queue.push_back(to);
    }
  }
  return std::nullopt;
}

// One byte of each class, the one that reads best, best first.
std::vector<std::uint8_t> readable_bytes(const std::array<std::uint8_t, 256>& class_of) {
  std::vector<std::uint8_t> out;
  std::array<bool, 256> seen{};
  for (const std::uint8_t byte : reading_order()) {
    if (std::exchange(seen[class_of[byte]], true)) continue;
    out.push_back(byte);
  }
  return out;
}

}  // namespace

std::optional<std::string> Dfa::witness_where(
    const std::function<bool(std::uint32_t label)>& wanted) const {
  return shortest_text(
      readable_bytes(class_of_),
      [&](std::uint64_t s, std::uint8_t byte) {
        return std::uint64_t{step(static_cast<std::uint32_t>(s), byte)};
      },
      [&](std::uint64_t s) { return wanted(labels_[s]); });
}

std::optional<std::string> Dfa::witness() const {
  return witness_where([](std::uint32_t label) { return label != 0; });
}

std::optional<std::string> Dfa::witness(std::uint32_t label) const {
  return witness_where([&](std::uint32_t l) { return l == label; });
}

namespace {

// A shortest text whose pair of answers is wanted.
template <class Wanted>
std::optional<std::string> pair_text(const Dfa& a, const Dfa& b, const Wanted& wanted) {
  return shortest_text(
      readable_bytes(common_classes(a.class_table(), b.class_table())),
      [&](std::uint64_t s, std::uint8_t byte) {
        const auto high = static_cast<std::uint32_t>(s >> 32U), low = static_cast<std::uint32_t>(s);
        return std::uint64_t{a.step(high, byte)} << 32U | b.step(low, byte);
      },
      [&](std::uint64_t s) {
        return wanted(a.label(static_cast<std::uint32_t>(s >> 32U)) != 0,
                      b.label(static_cast<std::uint32_t>(s)) != 0);
      });
}

}  // namespace

std::optional<std::string> counterexample(const Dfa& inner, const Dfa& outer) {
  return pair_text(inner, outer, [](bool in, bool out) { return in && !out; });
}

bool includes(const Dfa& outer, const Dfa& inner) {
  return !counterexample(inner, outer);
}

bool disjoint(const Dfa& a, const Dfa& b) {
  return !pair_text(a, b, [](bool in_a, bool in_b) { return in_a && in_b; });
}

}  // namespace policyc::ir
