#include "verifier/head_rules.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <set>
#include <utility>

#include "ir/automata/http_head.h"
#include "ir/l7_match.h"

namespace policyc::verify {

namespace {

using ir::Dfa;
using ir::Regex;

// Caught in check_head_automaton and nowhere else.
struct TooLarge {
  std::string why;
};

Dfa must(Expected<Dfa> made) {
  if (!made) throw TooLarge{made.error()};
  return std::move(*made);
}

Dfa unite(const Dfa& a, const Dfa& b) {
  return must(Dfa::unite(a, b));
}
Dfa both(const Dfa& a, const Dfa& b) {
  return must(Dfa::intersect(a, b));
}
Dfa without(const Dfa& a, const Dfa& b) {
  return must(Dfa::subtract(a, b));
}

// One text of each language after the other.
Dfa in_row(const std::vector<Dfa>& parts) {
  using Key = Dfa::Key;  // pairs (part, state), ascending
  std::vector<std::optional<std::uint32_t>> dead;
  Dfa::Steps steps;
  for (const Dfa& p : parts) {
    dead.push_back(p.dead());
    steps.class_of = ir::common_classes(steps.class_of, p.class_table());
  }
  const auto settle = [&parts](std::set<std::pair<std::uint32_t, std::uint32_t>> at) {
    for (auto it = at.begin(); it != at.end(); ++it) {
      const auto [part, state] = *it;
      if (part + 1 < parts.size() && parts[part].label(state) != 0) at.insert({part + 1, 0});
    }
    Key out;
    for (const auto& [part, state] : at) {
      out.push_back(part);
      out.push_back(state);
    }
    return out;
  };
  steps.start = settle({{0, 0}});
  steps.step = [&](const Key& from, std::uint8_t byte) {
    std::set<std::pair<std::uint32_t, std::uint32_t>> to;
    for (std::size_t i = 0; i < from.size(); i += 2) {
      const std::uint32_t state = parts[from[i]].step(from[i + 1], byte);
      if (state != dead[from[i]]) to.insert({from[i], state});
    }
    return settle(std::move(to));
  };
  steps.label = [&](const Key& at) {
    for (std::size_t i = 0; i < at.size(); i += 2) {
      if (at[i] + 1 == parts.size() && parts[at[i]].label(at[i + 1]) != 0) return 1U;
    }
    return 0U;
  };
  return must(Dfa::explore(steps));
}

Dfa regex(std::string_view text) {
  return must(Dfa::from_regex(text));
}
Dfa exactly(std::string_view bytes) {
  return must(Dfa::from_regex(Regex::literal(bytes)));
}
// Any number of bytes of these ranges.
Dfa some_bytes(std::vector<ir::RuneRange> ranges, int at_least = 0) {
  Regex byte, out;
  byte.kind = Regex::Kind::Byte;
  byte.runes = std::move(ranges);
  out.kind = Regex::Kind::Repeat;
  out.min = at_least;
  out.parts = {std::move(byte)};
  return must(Dfa::from_regex(out));
}

// Heads as sets of texts. A header line is a name, a colon, and bytes that are no control
// characters but the tab.
class Heads {
 public:
  // Those with exactly one plain Host, plain request line and lengths, and no Transfer-Encoding.
  Dfa plain() const {
    const Dfa target =
        without(regex("(/[A-Za-z0-9._~!$&'()*+,;=:@-]*)+"),
                unite(regex(".*//.*"), unite(regex(".*/[.](/.*)?"), regex(".*/[.][.](/.*)?"))));
    const Dfa query = regex("([?][A-Za-z0-9._~!$&'()*+,;=:@/?%\\[\\]-]*)?");
    const Dfa line = in_row(
        {regex("[A-Z]+(-[A-Z]+)*"), exactly(" "), target, query, regex(" HTTP/1[.][01]\r\n")});
    Dfa out = in_row({line, lines_, exactly("\r\n")});
    const Dfa host = regex("([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]+)?");
    out = both(out, without(has("host", host), twice("host")));
    out = without(out, has("transfer-encoding"));
    const Dfa lengths_are_numbers =
        has("content-length", without(field_, in_row({blanks_, regex("[0-9]+"), blanks_})), false);
    return without(out, lengths_are_numbers);
  }

  // Of plain heads, those that the rule allows for certain, and those that it does not. A header
  // that comes twice and is asked for a value leaves it open.
  std::pair<Dfa, Dfa> judged(const ir::HttpRule& rule, const Dfa& plain) const {
    const Dfa to_end = some_bytes({{0, 255}});
    Dfa yes = plain;
    if (!rule.method.empty()) {
      yes = both(yes, in_row({pattern(rule.method), exactly(" /"), to_end}));
    }
    if (!rule.path.empty()) {
      yes = both(yes, in_row({regex("[A-Z-]+ "), pattern(rule.path), exactly(" HTTP/"), to_end}));
    }
    if (!rule.host.empty()) yes = both(yes, has("host", pattern(rule.host)));
    Dfa no = without(plain, yes);
    for (const ir::HeaderMatch& m : rule.headers) {
      const Dfa there = has(m.name);
      Dfa fits = m.secret && !m.value ? Dfa::nothing() : there;
      Dfa open = Dfa::nothing();
      if (m.value) {
        const bool trimmed =
            m.value->empty() || (!blank(m.value->front()) && !blank(m.value->back()));
        open = twice(m.name);
        fits = trimmed ? without(has(m.name, exactly(*m.value)), open) : Dfa::nothing();
      }
      yes = both(yes, fits);
      no = unite(no, without(plain, unite(fits, open)));
    }
    return {yes, no};
  }

  // Those where a line with this name comes twice.
  Dfa twice(const std::string& name) const {
    return in_row({start_, lines_, line_of(name, field_), lines_, line_of(name, field_), lines_,
                   exactly("\r\n")});
  }

 private:
  static bool blank(char c) { return c == ' ' || c == '\t'; }
  // What matches of texts without blanks and line ends: methods, targets and hosts are such.
  static Dfa pattern(const std::string& text) {
    if (!ir::valid_regex(text, nullptr)) return Dfa::nothing();
    return both(regex(text), some_bytes({{'!', 255}}));
  }
  Dfa line_of(const std::string& name, const Dfa& value) const {
    Regex any_case;
    for (const char c : name) {
      Regex letter = Regex::literal(std::string_view(&c, 1));
      if (c >= 'a' && c <= 'z') {
        const auto upper = static_cast<std::uint32_t>(c - 'a' + 'A');
        letter.parts[0].runes.insert(letter.parts[0].runes.begin(), {upper, upper});
      }
      any_case.parts.push_back(std::move(letter));
    }
    return in_row({must(Dfa::from_regex(any_case)), exactly(":"), value, exactly("\r\n")});
  }
  // Those with a line of this name and such a value, blanks around it (or not) aside.
  Dfa has(const std::string& name, const Dfa& value, bool trim = true) const {
    const Dfa text = trim ? in_row({blanks_, value, blanks_}) : value;
    return in_row({start_, lines_, line_of(name, text), lines_, exactly("\r\n")});
  }
  Dfa has(const std::string& name) const { return has(name, field_, false); }

  const Dfa blanks_ = some_bytes({{'\t', '\t'}, {' ', ' '}});
  const Dfa field_ = some_bytes({{'\t', '\t'}, {' ', 126}, {128, 255}});
  const Dfa start_ = in_row({some_bytes({{0, '\r' - 1}, {'\r' + 1, 255}}), exactly("\r\n")});
  const Dfa lines_ = [this] {
    // What is a line, any number of times: never two ways to read one text.
    Regex token, byte, text, line, all;
    token.kind = byte.kind = Regex::Kind::Byte;
    token.runes = {{'!', '!'}, {'#', '\''}, {'*', '+'}, {'-', '.'}, {'0', '9'},
                   {'A', 'Z'}, {'^', 'z'},  {'|', '|'}, {'~', '~'}};
    byte.runes = {{'\t', '\t'}, {' ', 126}, {128, 255}};
    Regex name;
    name.kind = text.kind = all.kind = Regex::Kind::Repeat;
    name.min = 1;
    name.parts = {token};
    text.parts = {byte};
    line.parts = {name, Regex::literal(":"), text, Regex::literal("\r\n")};
    all.parts = {line};
    return must(Dfa::from_regex(all));
  }();
};

}  // namespace

HeadReport check_head_automaton(const Dfa& automaton, const std::vector<ir::HttpRule>& rules) {
  HeadReport report;
  try {
    const Heads heads;
    const Dfa plain = heads.plain();
    Dfa allowed = Dfa::nothing(), denied = plain, once = plain;
    std::set<std::string> names;
    for (const ir::HttpRule& rule : rules) {
      const auto [yes, no] = heads.judged(rule, plain);
      allowed = unite(allowed, yes);
      denied = both(denied, no);
      for (const ir::HeaderMatch& m : rule.headers) {
        if (names.insert(m.name).second) once = without(once, heads.twice(m.name));
      }
    }
    const auto labelled = [&](ir::HeadVerdict which) {
      return must(Dfa::combine(automaton, Dfa::nothing(), [&](std::uint32_t label, std::uint32_t) {
        return label == static_cast<std::uint32_t>(which) ? 1U : 0U;
      }));
    };
    for (const auto& [which, meant] :
         {std::pair(ir::HeadVerdict::Allow, &allowed), std::pair(ir::HeadVerdict::Deny, &denied)}) {
      const Dfa said = labelled(which);
      auto wrong = ir::counterexample(said, *meant);
      if (!wrong) wrong = ir::counterexample(both(*meant, once), said);
      if (!wrong) continue;
      report.answer = HeadReport::Answer::Refuted;
      report.head = std::move(*wrong);
      return report;
    }
    report.answer = HeadReport::Answer::Proved;
  } catch (const TooLarge& e) {
    report.reason = e.why;
  }
  return report;
}

}  // namespace policyc::verify
