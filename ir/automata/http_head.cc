#include "ir/automata/http_head.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "ir/l7_match.h"

namespace policyc::ir {
namespace {

using Key = Dfa::Key;
using Numbers = std::vector<std::uint32_t>;

constexpr std::string_view kVersion = "HTTP/1.";
constexpr const char* kPlainMethod = "[A-Z]+(-[A-Z]+)*";
// Segments that are neither empty (but the last), nor `.`, nor `..`; then perhaps a query.
constexpr const char* kPlainTarget =
    "/|(/(\\.?[A-Za-z0-9_~!$&'()*+,;=:@-]|\\.\\.[A-Za-z0-9._~!$&'()*+,;=:@-])"
    "[A-Za-z0-9._~!$&'()*+,;=:@-]*)+/?";
constexpr const char* kPlainQuery = "(\\?[A-Za-z0-9._~!$&'()*+,;=:@/?%\\[\\]-]*)?";
constexpr const char* kPlainHost = "([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]+)?";

bool is_blank(std::uint8_t c) {
  return c == ' ' || c == '\t';
}
bool is_token(std::uint8_t c) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         kMarks.find(static_cast<char>(c)) != std::string_view::npos;
}
// May stand in a header's value.
bool is_field(std::uint8_t c) {
  return c == '\t' || (c >= ' ' && c != 127);
}

// Headers that the proxy adds, takes away or rewrites before its rules see the request, or that it
// knows by another name.
bool proxy_changes(std::string_view name) {
  static const std::set<std::string_view> known = {"connection",
                                                   "content-length",
                                                   "date",
                                                   "expect",
                                                   "host",
                                                   "keep-alive",
                                                   "proxy-connection",
                                                   "te",
                                                   "transfer-encoding",
                                                   "upgrade",
                                                   "via",
                                                   "x-request-id"};
  return known.contains(name) || name.starts_with("x-envoy-") || name.starts_with("x-forwarded-");
}

// Sets and lists as numbers.
class Interner {
 public:
  std::uint32_t number(const Numbers& list) {
    const auto [it, fresh] = numbers_.try_emplace(list, static_cast<std::uint32_t>(lists_.size()));
    if (fresh) lists_.push_back(list);
    return it->second;
  }
  const Numbers& list(std::uint32_t number) const { return lists_[number]; }

 private:
  std::map<Numbers, std::uint32_t> numbers_;
  std::vector<Numbers> lists_;
};

// Several automata that run side by side. A position is a list of (automaton, state), without those
// that can match no more.
class Patterns {
 public:
  std::uint32_t add(const std::string& name, Dfa dfa) {
    const auto [it, fresh] = by_name_.try_emplace(name, static_cast<std::uint32_t>(all_.size()));
    if (fresh) {
      dead_.push_back(dfa.dead());
      all_.push_back(std::move(dfa));
    }
    return it->second;
  }
  static void start(const std::set<std::uint32_t>& which, Key* position) {
    for (const std::uint32_t p : which) {
      position->push_back(p);
      position->push_back(0);
    }
  }
  // From the position that begins at `from[skip]`; appended to `to`.
  void step(const Key& from, std::size_t skip, std::uint8_t byte, Key* to) const {
    for (std::size_t i = skip; i < from.size(); i += 2) {
      const std::uint32_t state = all_[from[i]].step(from[i + 1], byte);
      if (state == dead_[from[i]]) continue;
      to->push_back(from[i]);
      to->push_back(state);
    }
  }
  Numbers matched(const Key& at, std::size_t skip) const {
    Numbers out;
    for (std::size_t i = skip; i < at.size(); i += 2) {
      if (all_[at[i]].label(at[i + 1]) != 0) out.push_back(at[i]);
    }
    return out;
  }
  const std::vector<Dfa>& all() const { return all_; }

 private:
  std::map<std::string, std::uint32_t> by_name_;
  std::vector<Dfa> all_;
  std::vector<std::optional<std::uint32_t>> dead_;
};

bool contains(const Numbers& list, std::uint32_t number) {
  return std::find(list.begin(), list.end(), number) != list.end();
}

// Where the reading stands; a key is the place, what is left of the rules, what the headers have
// said, which header this is, and the position in the patterns that run.
enum Place : std::uint32_t {
  kLost,  // undecided, whatever comes
  kMethod,
  kTarget,
  kVersionText,  // `which`: bytes read
  kLineFeed,     // the one that ends a line
  kLine,         // at the beginning of a header line
  kName,
  kSkip,   // a value that no rule wants
  kBlank,  // in front of the value of `which`
  kValue,
  kTrail,     // blanks behind a host
  kLastFeed,  // the one that ends the head
  kAllowed,
  kDenied
};
constexpr std::size_t kPlace = 0, kRules = 1, kSaid = 2, kWhich = 3, kHeadOfKey = 4;

class Builder {
 public:
  std::optional<Error> add_rules(const std::vector<HttpRule>& rules) {
    plain_method_ = fixed(kPlainMethod);
    plain_target_ = fixed(fmt::format("({}){}", kPlainTarget, kPlainQuery));
    plain_host_ = fixed(kPlainHost);
    host_ = header("host");
    length_ = header("content-length");
    coding_ = header("transfer-encoding");
    number_ = fixed("[0-9]+[ \\t]*");
    headers_[host_].values = {plain_host_};
    headers_[length_].values = {number_};
    for (const HttpRule& rule : rules) {
      if (auto error = add_rule(rule)) return error;
    }
    return std::nullopt;
  }

  Expected<Dfa> run(std::size_t budget) {
    Dfa::Steps steps;
    for (unsigned byte = 0; byte < 256; ++byte) {
      steps.class_of[byte] = byte_kind(static_cast<std::uint8_t>(byte));
    }
    for (const Dfa& p : patterns_.all()) {
      steps.class_of = common_classes(steps.class_of, p.class_table());
    }
    Numbers all(rules_.size());
    for (std::uint32_t i = 0; i < all.size(); ++i) all[i] = i;
    steps.start = {kMethod, lists_.number(all), said_nothing(), 0};
    std::set<std::uint32_t> methods = {plain_method_};
    for (const Rule& rule : rules_) {
      if (rule.method) methods.insert(*rule.method);
    }
    Patterns::start(methods, &steps.start);
    steps.step = [this](const Key& at, std::uint8_t byte) { return step(at, byte); };
    steps.label = [](const Key& at) {
      return static_cast<std::uint32_t>(at[kPlace] == kAllowed  ? HeadVerdict::Allow
                                        : at[kPlace] == kDenied ? HeadVerdict::Deny
                                                                : HeadVerdict::Undecided);
    };
    return Dfa::explore(steps, budget);
  }

 private:
  struct Rule {
    std::optional<std::uint32_t> method, target;
    std::uint32_t rest = 0;  // in rests_
  };
  // What a rule still wants behind the request line: pattern of the host, and of headers (nullopt:
  // presence).
  struct Rest {
    std::optional<std::uint32_t> host;
    std::set<std::pair<std::uint32_t, std::optional<std::uint32_t>>> headers;
    auto operator<=>(const Rest&) const = default;
  };
  struct Header {
    std::uint32_t name = 0;               // pattern
    std::set<std::uint32_t> values = {};  // patterns; none: only presence is asked for
  };

  std::uint32_t fixed(const std::string& regex) {
    return patterns_.add("regex " + regex, *Dfa::from_regex(regex));
  }

  std::uint32_t header(const std::string& name) {
    const auto it = header_of_.find(name);
    if (it != header_of_.end()) return it->second;
    Regex regex;
    for (const char c : name) {
      Regex letter = Regex::literal(std::string_view(&c, 1));
      Regex& byte = letter.parts[0];
      if (c >= 'a' && c <= 'z') {
        const auto upper = static_cast<std::uint32_t>(c - 'a' + 'A');
        byte.runes.insert(byte.runes.begin(), {upper, upper});
      }
      regex.parts.push_back(std::move(letter));
    }
    const auto index = static_cast<std::uint32_t>(headers_.size());
    headers_.push_back({patterns_.add("name " + name, *Dfa::from_regex(regex))});
    header_of_.emplace(name, index);
    return index;
  }

  std::optional<Error> pattern(const std::string& regex, std::optional<std::uint32_t>* out) {
    if (regex.empty()) return std::nullopt;
    if (!valid_regex(regex, nullptr)) {
      *out = patterns_.add("nothing", Dfa::nothing());
      return std::nullopt;
    }
    auto dfa = Dfa::from_regex(regex);
    if (!dfa) return Error{fmt::format("regular expression `{}`: {}", regex, dfa.error())};
    *out = patterns_.add("regex " + regex, std::move(*dfa));
    return std::nullopt;
  }

  std::optional<Error> add_rule(const HttpRule& in) {
    if (!in.symbol.empty()) return Error{"a rule hangs on the placeholder " + in.symbol};
    Rule rule;
    Rest rest;
    for (const HeaderMatch& m : in.headers) {
      if (m.secret && !m.value) return std::nullopt;  // matches nothing
      if (m.secret) return Error{fmt::format("header `{}`: its value is a secret", m.name)};
      if (m.action != HeaderAction::None) {
        return Error{fmt::format("header `{}`: only a proxy can log or change it", m.name)};
      }
      if (proxy_changes(m.name)) {
        return Error{fmt::format("header `{}`: the proxy changes it before it judges", m.name)};
      }
      const std::uint32_t which = header(m.name);
      std::optional<std::uint32_t> value;
      if (m.value) {
        Regex regex = Regex::literal(*m.value);
        Regex blanks;
        blanks.kind = Regex::Kind::Repeat;
        blanks.parts.push_back(Regex::literal(" "));
        blanks.parts[0].parts[0].runes = {{'\t', '\t'}, {' ', ' '}};
        regex.parts.push_back(std::move(blanks));
        auto dfa = Dfa::from_regex(regex);
        if (!dfa) return Error{fmt::format("header `{}`: {}", m.name, dfa.error())};
        // Values are read without the blanks around them.
        if (m.value->ends_with(' ') || m.value->ends_with('\t')) *dfa = Dfa::nothing();
        value = patterns_.add("value " + *m.value, std::move(*dfa));
        headers_[which].values.insert(*value);
      }
      rest.headers.emplace(which, value);
    }
    if (auto error = pattern(in.method, &rule.method)) return error;
    if (auto error = pattern(in.path, &rule.target)) return error;
    if (auto error = pattern(in.host, &rest.host)) return error;
    if (rest.host) headers_[host_].values.insert(*rest.host);
    const auto [it, fresh] =
        rest_number_.try_emplace(rest, static_cast<std::uint32_t>(rests_.size()));
    if (fresh) rests_.push_back(rest);
    rule.rest = it->second;
    rules_.push_back(rule);
    return std::nullopt;
  }

  static std::uint8_t byte_kind(std::uint8_t c) {
    constexpr std::string_view kAlone = " \t\r\n:";
    if (const std::size_t i = kAlone.find(static_cast<char>(c)); i != std::string_view::npos) {
      return static_cast<std::uint8_t>(i);
    }
    if (const std::size_t i = kVersion.find(static_cast<char>(c)); i != std::string_view::npos) {
      return static_cast<std::uint8_t>(8 + i);
    }
    if (c == '0') return 5;
    return is_token(c) ? 6 : is_field(c) ? 7 : 16;
  }

  // Per header: what has been read of it. From kRead on: the number of the list of those patterns
  // that its value matches and that a rule still wants.
  enum Said : std::uint32_t { kUnseen, kIgnored, kRead };
  std::uint32_t said_nothing() { return lists_.number(Numbers(headers_.size(), kUnseen)); }

  // Forgets what no rule can ask for any more, so that equal futures are one state.
  Key settled(Place place, std::vector<std::uint32_t> left, Numbers said) {
    const auto refuted = [&](std::uint32_t which, std::optional<std::uint32_t> value) {
      return value && said[which] >= kRead && !contains(lists_.list(said[which] - kRead), *value);
    };
    std::erase_if(left, [&](std::uint32_t r) {
      const Rest& rest = rests_[r];
      return refuted(host_, rest.host) ||
             std::any_of(rest.headers.begin(), rest.headers.end(),
                         [&](const auto& h) { return refuted(h.first, h.second); });
    });
    std::vector<std::set<std::uint32_t>> wanted(headers_.size());
    for (const std::uint32_t r : left) {
      if (rests_[r].host) wanted[host_].insert(*rests_[r].host);
      for (const auto& [which, value] : rests_[r].headers) {
        if (value) wanted[which].insert(*value);
      }
    }
    for (std::size_t which = 0; which < said.size(); ++which) {
      if (said[which] < kRead) continue;
      Numbers matched = lists_.list(said[which] - kRead);
      std::erase_if(matched, [&](std::uint32_t v) { return !wanted[which].contains(v); });
      said[which] = kRead + lists_.number(matched);
    }
    return {place, lists_.number(left), lists_.number(said), 0};
  }

  static Key at(Place place, const Key& from, std::uint32_t which = 0) {
    return {place, from[kRules], from[kSaid], which};
  }

  Key step(const Key& from, std::uint8_t c) {
    const Key lost = {kLost, 0, 0, 0};
    switch (static_cast<Place>(from[kPlace])) {
      case kMethod:
        return c == ' ' ? method_ends(from) : run_on(from, c, plain_method_);
      case kTarget:
        return c == ' ' ? target_ends(from) : run_on(from, c, plain_target_);
      case kVersionText: {
        const std::uint32_t read = from[kWhich];
        if (read < kVersion.size()) {
          return static_cast<std::uint8_t>(kVersion[read]) == c ? at(kVersionText, from, read + 1)
                                                                : lost;
        }
        if (read == kVersion.size()) {
          return c == '0' || c == '1' ? at(kVersionText, from, read + 1) : lost;
        }
        return c == '\r' ? at(kLineFeed, from) : lost;
      }
      case kLineFeed:
        return c == '\n' ? at(kLine, from) : lost;
      case kLine: {
        if (c == '\r') return at(kLastFeed, from);
        Key name = at(kName, from);
        std::set<std::uint32_t> names;
        for (const Header& h : headers_) names.insert(h.name);
        Patterns::start(names, &name);
        return is_token(c) ? run_on(name, c, std::nullopt) : lost;
      }
      case kName:
        if (c == ':') return name_ends(from);
        return is_token(c) ? run_on(from, c, std::nullopt) : lost;
      case kSkip:
        if (c == '\r') return at(kLineFeed, from);
        return is_field(c) ? from : lost;
      case kBlank:
        if (is_blank(c)) return from;
        {
          Key value = at(kValue, from, from[kWhich]);
          Patterns::start(headers_[from[kWhich]].values, &value);
          return step(value, c);
        }
      case kValue:
        if (c == '\r') return value_ends(from, kLineFeed);
        if (from[kWhich] == host_) {
          return is_blank(c) ? value_ends(from, kTrail) : run_on(from, c, plain_host_);
        }
        return is_field(c) ? run_on(from, c, std::nullopt) : lost;
      case kTrail:
        if (c == '\r') return at(kLineFeed, from);
        return is_blank(c) ? from : lost;
      case kLastFeed:
        return c == '\n' ? head_ends(from) : lost;
      case kLost:
      case kAllowed:
      case kDenied:
        return lost;
    }
    return lost;
  }

  // One byte on; lost where the pattern that must go on does not.
  Key run_on(const Key& from, std::uint8_t c, std::optional<std::uint32_t> needed) const {
    Key to(from.begin(), from.begin() + kHeadOfKey);
    patterns_.step(from, kHeadOfKey, c, &to);
    if (needed) {
      bool there = false;
      for (std::size_t i = kHeadOfKey; i < to.size(); i += 2) there = there || to[i] == *needed;
      if (!there) return {kLost, 0, 0, 0};
    }
    return to;
  }

  Key method_ends(const Key& from) {
    const Numbers matched = patterns_.matched(from, kHeadOfKey);
    if (!contains(matched, plain_method_)) return {kLost, 0, 0, 0};
    Numbers left;
    std::set<std::uint32_t> targets = {plain_target_};
    for (const std::uint32_t r : lists_.list(from[kRules])) {
      if (rules_[r].method && !contains(matched, *rules_[r].method)) continue;
      left.push_back(r);
      if (rules_[r].target) targets.insert(*rules_[r].target);
    }
    Key to = {kTarget, lists_.number(left), from[kSaid], 0};
    Patterns::start(targets, &to);
    return to;
  }

  // From here on the rules of a key are what is left of them.
  Key target_ends(const Key& from) {
    const Numbers matched = patterns_.matched(from, kHeadOfKey);
    if (!contains(matched, plain_target_)) return {kLost, 0, 0, 0};
    std::set<std::uint32_t> left;
    for (const std::uint32_t r : lists_.list(from[kRules])) {
      if (rules_[r].target && !contains(matched, *rules_[r].target)) continue;
      left.insert(rules_[r].rest);
    }
    for (const std::uint32_t r : left) {
      if (rests_[r] != Rest{}) continue;
      left = {r};  // allows whatever the headers say
      break;
    }
    // Headers that none of these rules asks for need not be read.
    Numbers said(headers_.size(), kIgnored);
    said[host_] = said[length_] = said[coding_] = kUnseen;
    for (const std::uint32_t r : left) {
      for (const auto& [which, value] : rests_[r].headers) said[which] = kUnseen;
    }
    return settled(kVersionText, {left.begin(), left.end()}, std::move(said));
  }

  Key name_ends(const Key& from) {
    const Numbers matched = patterns_.matched(from, kHeadOfKey);
    std::uint32_t which = 0;
    while (which < headers_.size() && !contains(matched, headers_[which].name)) ++which;
    if (which == headers_.size()) return at(kSkip, from);
    Numbers said = lists_.list(from[kSaid]);
    if (which == coding_) return {kLost, 0, 0, 0};
    if (said[which] == kIgnored) return at(kSkip, from);
    if (headers_[which].values.empty()) {
      said[which] = kRead + lists_.number({});
      return {kSkip, from[kRules], lists_.number(said), 0};
    }
    if (said[which] != kUnseen) return {kLost, 0, 0, 0};
    return at(kBlank, from, which);
  }

  Key value_ends(const Key& from, Place next) {
    const std::uint32_t which = from[kWhich];
    const Numbers matched = patterns_.matched(from, kHeadOfKey);
    if ((which == host_ && !contains(matched, plain_host_)) ||
        (which == length_ && !contains(matched, number_))) {
      return {kLost, 0, 0, 0};
    }
    // A length that is repeated is one: bodies are not read, so nothing hangs on it.
    if (which == length_) return at(next, from);
    Numbers said = lists_.list(from[kSaid]);
    said[which] = kRead + lists_.number(matched);
    return settled(next, lists_.list(from[kRules]), std::move(said));
  }

  Key head_ends(const Key& from) const {
    const Numbers& said = lists_.list(from[kSaid]);
    if (said[host_] == kUnseen) return {kLost, 0, 0, 0};
    const auto says = [&](std::uint32_t which, std::optional<std::uint32_t> value) {
      return said[which] >= kRead && (!value || contains(lists_.list(said[which] - kRead), *value));
    };
    const Numbers& left = lists_.list(from[kRules]);
    const bool allowed = std::any_of(left.begin(), left.end(), [&](std::uint32_t r) {
      const Rest& rest = rests_[r];
      return (!rest.host || says(host_, rest.host)) &&
             std::all_of(rest.headers.begin(), rest.headers.end(),
                         [&](const auto& h) { return says(h.first, h.second); });
    });
    return {allowed ? kAllowed : kDenied, 0, 0, 0};
  }

  Patterns patterns_;
  Interner lists_;
  std::vector<Rule> rules_;
  std::vector<Rest> rests_;
  std::map<Rest, std::uint32_t> rest_number_;
  std::vector<Header> headers_;
  std::map<std::string, std::uint32_t> header_of_;
  std::uint32_t plain_method_ = 0, plain_target_ = 0, plain_host_ = 0, number_ = 0;
  std::uint32_t host_ = 0, length_ = 0, coding_ = 0;  // in headers_
};

}  // namespace

Expected<Dfa> http_head_automaton(const std::vector<HttpRule>& rules, std::size_t budget) {
  Builder builder;
  if (auto error = builder.add_rules(rules)) return *error;
  return builder.run(budget);
}

}  // namespace policyc::ir
