#include "ir/automata/regex.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

namespace policyc::ir {
namespace {

constexpr std::uint32_t kLastRune = 0x10FFFF;
constexpr int kMaxRepeat = 1000;  // as in RE2
constexpr int kMaxDepth = 1000;   // as in RE2

using Ranges = std::vector<RuneRange>;

Ranges sorted(Ranges ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const RuneRange& a, const RuneRange& b) { return a.first < b.first; });
  Ranges out;
  for (const RuneRange& r : ranges) {
    if (!out.empty() && r.first <= out.back().last + 1) {
      out.back().last = std::max(out.back().last, r.last);
    } else {
      out.push_back(r);
    }
  }
  return out;
}

Ranges negated(const Ranges& ranges) {
  Ranges out;
  std::uint32_t next = 0;
  for (const RuneRange& r : sorted(ranges)) {
    if (r.first > next) out.push_back({next, r.first - 1});
    next = r.last + 1;
  }
  if (next <= kLastRune) out.push_back({next, kLastRune});
  return out;
}

// What ASCII letters match without case: two letters have a third form beyond ASCII.
Ranges folded(const Ranges& ranges) {
  constexpr std::uint32_t kKelvin = 0x212A, kLongS = 0x17F;
  Ranges out = ranges;
  for (const RuneRange& r : ranges) {
    for (std::uint32_t c = r.first; c <= r.last; ++c) {
      const std::uint32_t low = c | 0x20U;
      if (low < 'a' || low > 'z') continue;
      out.push_back({c ^ 0x20U, c ^ 0x20U});
      if (low == 'k') out.push_back({kKelvin, kKelvin});
      if (low == 's') out.push_back({kLongS, kLongS});
    }
  }
  return sorted(std::move(out));
}

struct NamedClass {
  std::string_view name;
  Ranges ranges;
};

const Ranges* posix_class(std::string_view name) {
  static const std::array<NamedClass, 14> table = {{
      {"alnum", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}},
      {"alpha", {{'A', 'Z'}, {'a', 'z'}}},
      {"ascii", {{0, 127}}},
      {"blank", {{'\t', '\t'}, {' ', ' '}}},
      {"cntrl", {{0, 31}, {127, 127}}},
      {"digit", {{'0', '9'}}},
      {"graph", {{'!', '~'}}},
      {"lower", {{'a', 'z'}}},
      {"print", {{' ', '~'}}},
      {"punct", {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}}},
      {"space", {{'\t', '\r'}, {' ', ' '}}},
      {"upper", {{'A', 'Z'}}},
      {"word", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}},
      {"xdigit", {{'0', '9'}, {'A', 'F'}, {'a', 'f'}}},
  }};
  for (const NamedClass& c : table) {
    if (c.name == name) return &c.ranges;
  }
  return nullptr;
}

// \d, \s, \w by their lower-case letter.
const Ranges* perl_class(char letter) {
  static const Ranges space = {{'\t', '\n'}, {'\f', '\r'}, {' ', ' '}};
  if (letter == 'd') return posix_class("digit");
  if (letter == 's') return &space;
  if (letter == 'w') return posix_class("word");
  return nullptr;
}

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 16;
}

bool is_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

Regex class_of(Ranges ranges) {
  Regex out;
  out.kind = Regex::Kind::Class;
  out.runes = sorted(std::move(ranges));
  return out;
}

Regex assertion(Assertion what) {
  Regex out;
  out.kind = Regex::Kind::Assert;
  out.assertion = what;
  return out;
}

struct Flags {
  bool fold = false;    // i
  bool multi = false;   // m
  bool dot_nl = false;  // s
};

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Expected<Regex> run() {
    Regex out = alternation(0);
    if (!failed_ && at_ < text_.size()) fail("unexpected )");
    if (failed_) return Error{fmt::format("{} at offset {}", error_, error_at_)};
    return out;
  }

 private:
  bool more() const { return !failed_ && at_ < text_.size(); }
  bool next_is(char c) const { return at_ < text_.size() && text_[at_] == c; }
  bool take(std::string_view what) {
    if (!text_.substr(at_).starts_with(what)) return false;
    at_ += what.size();
    return true;
  }
  Regex fail(std::string message) {
    if (!failed_) {
      failed_ = true;
      error_ = std::move(message);
      error_at_ = at_;
    }
    return {};
  }

  // One code point of the text; its bytes must be UTF-8.
  std::uint32_t rune() {
    const auto byte = [&](std::size_t i) {
      return i < text_.size() ? static_cast<unsigned char>(text_[i]) : 0U;
    };
    const std::uint32_t first = byte(at_);
    std::size_t length = 1;
    std::uint32_t value = first, least = 0;
    if (first >= 0xF0 && first < 0xF8) {
      length = 4, value = first & 7U, least = 0x10000;
    } else if (first >= 0xE0) {
      length = 3, value = first & 15U, least = 0x800;
    } else if (first >= 0xC0) {
      length = 2, value = first & 31U, least = 0x80;
    } else if (first >= 0x80) {
      fail("invalid UTF-8");
    }
    for (std::size_t i = 1; i < length; ++i) {
      if ((byte(at_ + i) & 0xC0U) != 0x80) fail("invalid UTF-8");
      value = value << 6U | (byte(at_ + i) & 63U);
    }
    if (value < least || value > kLastRune || first >= 0xF8) fail("invalid UTF-8");
    at_ += length;
    return value;
  }

  Regex alternation(int depth) {
    if (depth > kMaxDepth) return fail("nesting too deep");
    Regex out;
    out.kind = Regex::Kind::Alternate;
    out.parts.push_back(concatenation(depth));
    while (more() && next_is('|')) {
      ++at_;
      out.parts.push_back(concatenation(depth));
    }
    if (out.parts.size() > 1) return out;
    Regex only = std::move(out.parts[0]);
    return only;
  }

  Regex concatenation(int depth) {
    Regex out;
    bool can_repeat = false;  // something stands here that an operator can repeat
    while (more() && !next_is('|') && !next_is(')')) {
      int min = 0, max = 0;
      if (repeat_operator(&min, &max)) {
        if (!can_repeat) return fail("nothing to repeat");
        Regex repeat;
        repeat.kind = Regex::Kind::Repeat;
        repeat.min = min;
        repeat.max = max;
        repeat.parts.push_back(std::move(out.parts.back()));
        out.parts.back() = std::move(repeat);
        can_repeat = false;
        continue;
      }
      const std::size_t parts = out.parts.size();
      atom(depth, &out.parts);
      can_repeat = out.parts.size() > parts;
    }
    if (out.parts.size() == 1) {
      Regex only = std::move(out.parts[0]);
      return only;
    }
    return out;
  }

  // * + ? {n} {n,} {n,m}, each perhaps with `?` behind. A brace that is no count is a literal.
  bool repeat_operator(int* min, int* max) {
    const std::size_t start = at_;
    if (take("*")) {
      *min = 0, *max = -1;
    } else if (take("+")) {
      *min = 1, *max = -1;
    } else if (take("?")) {
      *min = 0, *max = 1;
    } else if (take("{")) {
      const auto low = number();
      if (!low) return at_ = start, false;
      *min = *max = *low;
      if (take(",")) {
        *max = -1;
        if (!next_is('}')) {
          const auto high = number();
          if (!high) return at_ = start, false;
          *max = *high;
        }
      }
      if (!take("}")) return at_ = start, false;
      if (*min > kMaxRepeat || *max > kMaxRepeat || (*max >= 0 && *max < *min)) {
        fail("invalid repetition count");
      }
    } else {
      return false;
    }
    take("?");
    return true;
  }

  std::optional<int> number() {
    const std::size_t start = at_;
    int value = 0;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      value = std::min(value * 10 + (text_[at_] - '0'), 100'000);
      ++at_;
    }
    // Leading zeros are no number for RE2.
    if (at_ == start || (at_ > start + 1 && text_[start] == '0')) return std::nullopt;
    return value;
  }

  void atom(int depth, std::vector<Regex>* out) {
    switch (text_[at_]) {
      case '(':
        group(depth, out);
        return;
      case '[':
        out->push_back(bracket());
        return;
      case '.':
        ++at_;
        out->push_back(class_of(flags_.dot_nl ? Ranges{{0, kLastRune}}
                                              : Ranges{{0, '\n' - 1}, {'\n' + 1, kLastRune}}));
        return;
      case '^':
        ++at_;
        out->push_back(assertion(flags_.multi ? Assertion::LineBegin : Assertion::TextBegin));
        return;
      case '$':
        ++at_;
        out->push_back(assertion(flags_.multi ? Assertion::LineEnd : Assertion::TextEnd));
        return;
      case '\\':
        escape(out);
        return;
      default:
        push_literal(rune(), out);
    }
  }

  void push_literal(std::uint32_t value, std::vector<Regex>* out) {
    out->push_back(class_of(fold({{value, value}})));
  }

  Ranges fold(const Ranges& ranges) {
    if (!flags_.fold) return ranges;
    if (std::any_of(ranges.begin(), ranges.end(),
                    [](const RuneRange& r) { return r.last > 127; })) {
      fail("characters beyond ASCII under (?i) are not supported");
      return {};
    }
    return folded(ranges);
  }

  void group(int depth, std::vector<Regex>* out) {
    const Flags before = flags_;
    ++at_;
    if (take("?P<")) {
      const std::size_t start = at_;
      while (at_ < text_.size() && is_word(text_[at_])) ++at_;
      if (at_ == start || !take(">")) {
        fail("bad group name");
        return;
      }
    } else if (take("?")) {
      bool on = true, any = false;
      for (;; ++at_) {
        if (at_ >= text_.size()) {
          fail("missing )");
          return;
        }
        const char c = text_[at_];
        if (c == 'i') {
          flags_.fold = on, any = true;
        } else if (c == 'm') {
          flags_.multi = on, any = true;
        } else if (c == 's') {
          flags_.dot_nl = on, any = true;
        } else if (c == 'U') {
          any = true;
        } else if (c == '-' && on) {
          on = false, any = false;
        } else if ((c == ':' || c == ')') && (on || any)) {
          break;
        } else {
          fail("unsupported group (?");
          return;
        }
      }
      if (take(")")) return;  // flags for the rest of the enclosing group
      ++at_;
    }
    Regex inner = alternation(depth + 1);
    if (!take(")")) {
      fail("missing )");
      return;
    }
    flags_ = before;
    out->push_back(std::move(inner));
  }

  void escape(std::vector<Regex>* out) {
    if (at_ + 1 >= text_.size()) {
      fail("trailing \\");
      return;
    }
    const char c = text_[at_ + 1];
    const std::size_t start = at_;
    at_ += 2;
    switch (c) {
      case 'A':
        out->push_back(assertion(Assertion::TextBegin));
        return;
      case 'z':
        out->push_back(assertion(Assertion::TextEnd));
        return;
      case 'b':
        out->push_back(assertion(Assertion::WordBoundary));
        return;
      case 'B':
        out->push_back(assertion(Assertion::NoWordBoundary));
        return;
      case 'C': {
        Regex any;
        any.kind = Regex::Kind::Byte;
        any.runes = {{0, 255}};
        out->push_back(any);
        return;
      }
      case 'Q':
        while (more() && !take("\\E")) push_literal(rune(), out);
        return;
      default:
        break;
    }
    at_ = start;
    Ranges ranges;
    if (class_escape(&ranges)) {
      out->push_back(class_of(std::move(ranges)));
      return;
    }
    push_literal(escaped_rune(), out);
  }

  // \d \S \pN and so on; false where another escape stands here.
  bool class_escape(Ranges* out) {
    if (!next_is('\\') || at_ + 1 >= text_.size()) return false;
    const char c = text_[at_ + 1];
    if (const Ranges* ranges = perl_class(static_cast<char>(c | 0x20)); ranges != nullptr) {
      const bool positive = (c & 0x20) != 0;
      const Ranges in = fold(*ranges);
      const Ranges wanted = positive ? in : negated(in);
      out->insert(out->end(), wanted.begin(), wanted.end());
      at_ += 2;
      return true;
    }
    if (c != 'p' && c != 'P') return false;
    for (const bool negate : {false, true}) {
      for (const std::string_view any : {"{Any}", "{^Any}"}) {
        const bool caret = any[1] == '^';
        if (c != (negate ? 'P' : 'p') || !text_.substr(at_ + 2).starts_with(any)) continue;
        if (negate == caret) out->push_back({0, kLastRune});
        at_ += 2 + any.size();
        return true;
      }
    }
    fail("Unicode properties are not supported");
    return true;
  }

  // A backslash and what follows it, for one code point.
  std::uint32_t escaped_rune() {
    ++at_;
    if (at_ >= text_.size()) {
      fail("trailing \\");
      return 0;
    }
    const char c = text_[at_];
    const auto octal = [&] { return at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '7'; };
    if (c >= '0' && c <= '7') {
      ++at_;
      if (c != '0' && !octal()) {
        fail("back references are not regular");
        return 0;
      }
      auto value = static_cast<std::uint32_t>(c - '0');
      for (int i = 0; i < 2 && octal(); ++i) {
        value = value * 8 + static_cast<std::uint32_t>(text_[at_++] - '0');
      }
      return value;
    }
    if (c == 'x') return hexadecimal();
    ++at_;
    switch (c) {
      case 'a':
        return '\a';
      case 'f':
        return '\f';
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'v':
        return '\v';
      default:
        break;
    }
    if (static_cast<unsigned char>(c) < 128 && (!is_word(c) || c == '_')) {
      return static_cast<unsigned char>(c);
    }
    fail(fmt::format("unknown escape \\{}", c));
    return 0;
  }

  std::uint32_t hexadecimal() {
    ++at_;
    std::uint32_t value = 0;
    const auto digit = [&] {
      if (at_ >= text_.size() || digit_value(text_[at_]) > 15) {
        fail("bad hexadecimal escape");
        return;
      }
      value = value * 16 + static_cast<std::uint32_t>(digit_value(text_[at_++]));
      if (value > kLastRune) fail("code point out of range");
    };
    if (take("{")) {
      digit();
      while (!failed_ && !next_is('}')) digit();
      take("}");
    } else {
      digit();
      digit();
    }
    return value;
  }

  std::uint32_t bracket_rune() {
    if (at_ >= text_.size()) {
      fail("missing ]");
      return 0;
    }
    return next_is('\\') ? escaped_rune() : rune();
  }

  Regex bracket() {
    ++at_;
    const bool negate = take("^");
    Ranges ranges;
    bool first = true;
    while (first || !next_is(']')) {
      first = false;
      if (failed_ || at_ >= text_.size()) return fail("missing ]");
      if (next_is('[') && text_.substr(at_).starts_with("[:")) {
        const std::size_t end = text_.find(":]", at_ + 2);
        if (end != std::string_view::npos) {
          std::string_view name = text_.substr(at_ + 2, end - at_ - 2);
          const bool without = name.starts_with("^");
          if (without) name.remove_prefix(1);
          const Ranges* known = posix_class(name);
          if (known == nullptr) return fail("unknown character class");
          const Ranges in = fold(*known);
          const Ranges wanted = without ? negated(in) : in;
          ranges.insert(ranges.end(), wanted.begin(), wanted.end());
          at_ = end + 2;
          continue;
        }
      }
      if (class_escape(&ranges)) continue;
      const std::uint32_t low = bracket_rune();
      std::uint32_t high = low;
      if (next_is('-') && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        high = bracket_rune();
        if (high < low) return fail("class range out of order");
      }
      const Ranges wanted = fold({{low, high}});
      ranges.insert(ranges.end(), wanted.begin(), wanted.end());
    }
    ++at_;
    return class_of(negate ? negated(ranges) : ranges);
  }

  std::string_view text_;
  std::size_t at_ = 0;
  Flags flags_;
  bool failed_ = false;
  std::string error_;
  std::size_t error_at_ = 0;
};

}  // namespace

Regex Regex::literal(std::string_view bytes) {
  Regex out;
  for (const char c : bytes) {
    Regex byte;
    byte.kind = Kind::Byte;
    byte.runes = {{static_cast<unsigned char>(c), static_cast<unsigned char>(c)}};
    out.parts.push_back(std::move(byte));
  }
  return out;
}

Expected<Regex> parse_regex(std::string_view text) {
  return Parser(text).run();
}

}  // namespace policyc::ir
