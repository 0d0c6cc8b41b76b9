// What HTTP rules match, decided by automata: rules that no request meets, and rules whose every
// request passes by other rules anyway. What passes a budget is not decided, and not reported.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "ir/automata/dfa.h"
#include "ir/base/diag_code.h"
#include "ir/base/text.h"
#include "ir/l7_match.h"
#include "verifier/checks_context.h"
#include "verifier/checks_http.h"
#include "verifier/l7_places.h"
#include "verifier/request_language.h"

namespace policyc::checks {
namespace {

using ir::Dfa;
using ir::HttpRule;

constexpr std::size_t kStates = 2'000;    // of one expression
constexpr std::size_t kMostInUnion = 24;  // rules that together may allow all of one

// What parts of real requests look like, beside what RequestLanguage says that they can be.
constexpr const char* kUpperCase = "[A-Z][A-Z0-9_-]*";
constexpr const char* kBeginsLikePath = R"(/(?s:\C*)|\*)";
constexpr const char* kNoCapitals = R"([^A-Z]*)";

// The automata of one run, each made once. nullptr: not decided.
class Languages {
 public:
  const Dfa* of(const std::string& regex) {
    const auto [it, fresh] = made_.try_emplace(regex);
    if (fresh) {
      if (auto dfa = Dfa::from_regex(regex, kStates)) it->second = std::move(*dfa);
    }
    return it->second ? &*it->second : nullptr;
  }
  // What both expressions match.
  const Dfa* both(const std::string& regex, const char* frame) {
    const auto [it, fresh] = framed_.try_emplace({regex, frame});
    if (fresh) {
      const Dfa *a = of(regex), *b = of(frame);
      if (a != nullptr && b != nullptr) {
        if (auto dfa = Dfa::intersect(*a, *b, kStates)) it->second = std::move(*dfa);
      }
    }
    return it->second ? &*it->second : nullptr;
  }
  // Whether it is certain that something matches both.
  bool some(const std::string& regex, const char* frame) {
    const Dfa* dfa = both(regex, frame);
    return dfa != nullptr && !dfa->empty();
  }
  // Whether it is certain that nothing matches both.
  bool never(const std::string& regex, const char* frame) {
    const Dfa* dfa = both(regex, frame);
    return dfa != nullptr && dfa->empty();
  }

 private:
  std::map<std::string, std::optional<Dfa>> made_;
  std::map<std::pair<std::string, std::string>, std::optional<Dfa>> framed_;
};

bool token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+.^_`|~-").find(c) != std::string_view::npos;
  });
}

// In lower case, but for what a backslash makes a class of its own (`\S`).
std::string lower_regex(std::string text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    char& ch = text[i];
    if (ch == '\\') {
      ++i;
    } else if (ch >= 'A' && ch <= 'Z') {
      ch = static_cast<char>(ch - 'A' + 'a');
    }
  }
  return text;
}

// `a|(b|c)` is `a` and `(b|c)`: what the bars outside parentheses and classes divide.
std::vector<std::string> alternatives(const std::string& regex) {
  std::vector<std::string> out(1);
  int depth = 0;
  bool in_class = false;
  for (std::size_t i = 0; i < regex.size(); ++i) {
    const char ch = regex[i];
    if (ch == '|' && depth == 0 && !in_class) {
      out.emplace_back();
      continue;
    }
    out.back() += ch;
    if (ch == '\\' && i + 1 < regex.size()) {
      out.back() += regex[++i];
    } else if (in_class) {
      in_class = ch != ']';
    } else if (ch == '[') {
      in_class = true;
    } else if (ch == '(' || ch == ')') {
      depth += ch == '(' ? 1 : -1;
    }
  }
  return out;
}

// How to write the path that is meant; an example where each way of it would not match either.
std::string with_slash(Languages& l, const std::string& regex) {
  std::vector<std::string> each = alternatives(regex);
  for (std::string& one : each) {
    if (!one.empty() && one[0] == '^') one.erase(0, 1);
    if (!l.some(fmt::format("/(?:{})", one), kAnyPath)) {
      return "begin the expression with `/`, as in `/api/.*`";
    }
  }
  const char* anchor = regex[0] == '^' ? "^" : "";
  return each.size() == 1 ? fmt::format("write `{}/{}`", anchor, each[0])
                          : fmt::format("write `{}/({})`", anchor, fmt::join(each, "|"));
}

// Of a URL, the host.
std::string host_part(std::string text) {
  if (const auto scheme = text.find("://"); scheme != std::string::npos) text.erase(0, scheme + 3);
  text.erase(std::min(text.size(), std::min(text.find_first_of("/ #"), text.find("\\?"))));
  if (!text.empty() && text.back() == '\\') text.pop_back();  // of `\/`
  return lower_regex(text);
}

// How to write the hosts that are meant; an example where one of them would not match either.
std::string write_host(Languages& l, const std::vector<std::string>& hosts) {
  for (const std::string& host : hosts) {
    if (!l.some(host, kAnyHost) || l.never(host, kNoCapitals)) {
      return "write the name alone, in lower case, such as `api[.]example[.]com`";
    }
  }
  return fmt::format("write `{}`", fmt::join(hosts, "|"));
}

using Place = L7Place;

SourceRange known_or(SourceRange range, SourceRange otherwise) {
  return range.known() ? range : otherwise;
}

// The place of `host: VALUE` inside the rule's text; the rule where it is not found.
SourceRange host_range(const Context& c, const HttpRule& http) {
  const SourceRange key = c.key_range(http.range, "host");
  if (key == http.range) return key;
  const std::string_view text = c.sources.slice(http.range);
  const std::size_t from = key.end - http.range.begin;
  const std::size_t at = text.find(http.host, from);
  if (at == std::string_view::npos || at > from + 4) return http.range;
  const auto begin = static_cast<std::uint32_t>(http.range.begin + at);
  return {http.range.file, begin, begin + static_cast<std::uint32_t>(http.host.size())};
}

// ---- rules that no request meets

void method_never(Context& c, Languages& l, const Place& p, const HttpRule& http) {
  if (http.method.empty() || !l.never(http.method, kUpperCase)) return;
  const bool characters = l.never(http.method, kAnyMethod);
  Diagnostic& d = c.report(
      DiagCode::HttpNeverMatches, *p.rule, known_or(http.method_range, http.range),
      characters
          ? fmt::format("method `{}` never matches: a method is one word of letters", http.method)
          : fmt::format("method `{}` never matches: methods are upper case, and case counts",
                        http.method),
      p.item->origin.path);
  std::string meant;
  for (const char ch : upper(http.method)) {
    if (!characters || (ch != ' ' && ch != ',')) {
      meant += ch;
    } else if (!meant.empty() && meant.back() != '|') {
      meant += '|';
    }
  }
  const auto each = alternatives(meant);
  const bool works = std::all_of(each.begin(), each.end(),
                                 [&](const std::string& one) { return l.some(one, kUpperCase); });
  d.help = works ? fmt::format("write `{}`", meant)
                 : "write one method, such as `GET`, or several, such as `GET|POST`";
}

void path_never(Context& c, Languages& l, const Place& p, const HttpRule& http) {
  if (http.path.empty()) return;
  std::string why, help;
  if (const Dfa* all = l.of(http.path); all != nullptr && all->empty()) {
    why = "no text at all matches it";
    help = "take out what cannot stand in the middle, such as `$` or `^`";
  } else if (l.never(http.path, kBeginsLikePath)) {
    why = "the path of a request begins with `/`, and the whole of it must match";
    help = with_slash(l, http.path);
  } else if (l.never(http.path, kAnyPath) && l.never(http.path, kServerPath)) {
    why = "the path of a request has no blanks and no `#`";
    help = "a blank is sent as `%20`; what follows a `#` is never sent";
  } else {
    return;
  }
  c.report(DiagCode::HttpNeverMatches, *p.rule, known_or(http.path_range, http.range),
           fmt::format("path `{}` never matches: {}", http.path, why), p.item->origin.path)
      .help = help;
}

// `/search?q=1`: the `?` is taken for "the letter before it or not".
void query_mark(Context& c, Languages& l, const Place& p, const HttpRule& http) {
  const auto word = [](char ch) {
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
           ch == '_' || ch == '-';
  };
  const std::string& path = http.path;
  for (std::size_t at = path.find('?'); at != std::string::npos; at = path.find('?', at + 1)) {
    if (at == 0 || !(word(path[at - 1]) || path[at - 1] == '/')) continue;
    if (at > 1 && path[at - 2] == '\\') continue;  // `\d?`
    std::size_t end = at + 1;
    while (end < path.size() && word(path[end])) ++end;
    if (end == at + 1 || end >= path.size() || path[end] != '=') continue;
    const std::string name = path.substr(at + 1, end - at - 1);
    const Dfa* real = l.both(path, kAnyPath);
    if (real == nullptr || real->empty()) return;
    const std::string meant = fmt::format(R"((?:{})\?{}=(?s:\C*))", path.substr(0, at), name);
    if (!l.never(path, meant.c_str())) return;
    Diagnostic& d = c.report(
        DiagCode::HttpQueryMark, *p.rule, known_or(http.path_range, http.range),
        fmt::format("`?` makes the `{}` before it optional: no path with the query `?{}=` matches",
                    path[at - 1], name),
        p.item->origin.path);
    d.notes.push_back(fmt::format("it matches `{}`", *real->witness()));
    d.help = fmt::format(R"(write `\?{}=`)", name);
    return;
  }
}

void host_never(Context& c, Languages& l, const Place& p, const HttpRule& http) {
  if (http.host.empty()) return;
  std::string why, help;
  DiagCode code = DiagCode::HttpNeverMatches;
  const bool has_scheme = http.host.find("://") != std::string::npos;
  if (std::string error; !ir::valid_regex(http.host, &error)) {
    why = fmt::format("it is no regular expression ({})", error);
    if (http.host[0] == '*') {
      std::string meant = ".*";
      for (const char ch : http.host.substr(1)) meant += ch == '.' ? "\\." : std::string(1, ch);
      help = write_host(l, {lower_regex(meant)});
    } else {
      help = "write an expression in RE2's syntax";
    }
  } else if (l.never(http.host, kAnyHost)) {
    why = has_scheme ? "the host of a request has no scheme"
                     : "the host of a request has neither path nor blanks";
    std::vector<std::string> names;
    for (const std::string& one : alternatives(http.host)) names.push_back(host_part(one));
    help = write_host(l, names);
  } else if (l.never(http.host, kNoCapitals)) {
    code = DiagCode::HttpHostCapitals;
    help = write_host(l, {lower_regex(http.host)});
  } else {
    return;
  }
  c.report(code, *p.rule, host_range(c, http),
           code == DiagCode::HttpHostCapitals
               ? fmt::format("host `{}` matches only hosts that are sent with capitals: case "
                             "counts, and clients send lower case",
                             http.host)
               : fmt::format("host `{}` never matches: {}", http.host, why),
           p.item->origin.path)
      .help = help;
}

void header_never(Context& c, const Place& p, const HttpRule& http) {
  for (const ir::HeaderMatch& h : http.headers) {
    if (h.action != ir::HeaderAction::None) continue;
    const std::string name = h.name.substr(h.name.rfind(':', 0) == 0 ? 1 : 0);  // `:authority`
    std::string message, help;
    if (!token(name)) {
      if (!h.value && name.size() > 1 && name.back() == ':') continue;  // POL0143 says so
      message = fmt::format("header `{}` never matches: no header has such a name", h.name);
      help = "write `Name: value`, or `Name` alone";
    } else if (h.value && !h.value->empty() &&
               (h.value->front() == ' ' || h.value->back() == ' ')) {
      message = fmt::format(
          "header value `{}` never matches: blanks around a value are no part of it", *h.value);
      help = "write one blank behind the name, and none behind the value";
    } else {
      continue;
    }
    c.report(DiagCode::HttpNeverMatches, *p.rule, known_or(h.range, http.range), message,
             p.item->origin.path)
        .help = help;
  }
}

// ---- rules whose requests pass anyway

// A rule in words: "GET /api/.*".
std::string words(const HttpRule& http) {
  std::vector<std::string> out;
  if (!http.method.empty()) out.push_back(http.method);
  if (!http.path.empty()) out.push_back(http.path);
  if (!http.host.empty()) out.push_back("host " + http.host);
  for (const ir::HeaderMatch& h : http.headers) {
    if (h.action != ir::HeaderAction::None) continue;
    out.push_back(h.value ? fmt::format("{}: {}", h.name, *h.value) : "header " + h.name);
  }
  return out.empty() ? "every request" : fmt::format("`{}`", fmt::join(out, " "));
}

bool same_text(const HttpRule& a, const HttpRule& b) {
  return words(a) == words(b);
}

// Requests with the headers of `narrow` have those of `wide`.
bool headers_cover(const HttpRule& wide, const HttpRule& narrow) {
  return std::all_of(wide.headers.begin(), wide.headers.end(), [&](const ir::HeaderMatch& w) {
    if (w.action != ir::HeaderAction::None) return true;
    return std::any_of(narrow.headers.begin(), narrow.headers.end(), [&](const auto& n) {
      return n.action == ir::HeaderAction::None && n.name == w.name &&
             (!w.value || n.value == w.value);
    });
  });
}

// Whether the rule says of every request what its parts say: nothing is open, nothing is secret.
bool plain(const HttpRule& http) {
  return http.symbol.empty() && std::none_of(http.headers.begin(), http.headers.end(),
                                             [](const auto& h) { return h.secret; });
}
bool changes_headers(const HttpRule& http) {
  return std::any_of(http.headers.begin(), http.headers.end(),
                     [](const auto& h) { return h.action != ir::HeaderAction::None; });
}

class Covers {
 public:
  Covers(Context& c, Languages& l)
      : c_(c), l_(l), places_(c, [](const ir::L7Rules& l7) { return !l7.http.empty(); }) {}

  void run() {
    // From the end, so that of two equal rules the later one is named; what is named once is no
    // reason for others.
    const auto& all = places_.all();
    for (auto it = all.rbegin(); it != all.rend(); ++it) {
      if (std::all_of(it->ports->l7.http.begin(), it->ports->l7.http.end(),
                      [](const HttpRule& r) { return !plain(r); })) {
        continue;
      }
      const std::vector<const Place*> wider = places_.wider(*it);
      const auto& rules = it->ports->l7.http;
      for (auto rule = rules.rbegin(); rule != rules.rend(); ++rule) check(*it, *rule, wider);
    }
  }

 private:
  struct Parts {
    const Dfa *method = nullptr, *path = nullptr, *host = nullptr;
    bool decided() const { return method != nullptr && path != nullptr && host != nullptr; }
  };
  Parts parts(const HttpRule& http) {
    const auto part = [&](const std::string& regex, const char* frame) {
      return regex.empty() ? l_.of(frame) : l_.both(regex, frame);
    };
    static const std::string any_target = fmt::format("{}|{}", kAnyPath, kServerPath);
    Parts out = {part(http.method, kAnyMethod), part(http.path, any_target.c_str()),
                 part(http.host, kAnyHost)};
    if (!out.decided()) return out;
    // `*` goes with OPTIONS alone: method times path is then what there is.
    if (!out.method->matches(kServerMethod)) {
      out.path = part(http.path, kAnyPath);
    } else if (const Dfa* ordinary = part(http.path, kAnyPath);
               ordinary != nullptr && ordinary->empty()) {
      out.method = part(http.method, kServerMethod);
    }
    return out;
  }

  bool covered_by(const HttpRule& narrow, const ir::HttpRequest& example, const HttpRule& wide) {
    if (!plain(wide) || !headers_cover(wide, narrow)) return false;
    const Parts n = parts(narrow), w = parts(wide);
    if (!w.decided() || !w.method->matches(example.method) || !w.path->matches(example.path) ||
        !w.host->matches(example.host)) {
      return false;
    }
    return ir::includes(*w.method, *n.method) && ir::includes(*w.path, *n.path) &&
           ir::includes(*w.host, *n.host);
  }

  // A request that the rule matches; paths and hosts that are written like plain text as they are.
  ir::HttpRequest example_of(const HttpRule& http, const RequestLanguage& language) {
    ir::HttpRequest out = *language.witness();
    const auto take = [](const std::string& text, const Dfa& all, std::string& part) {
      const bool simple = text.find_first_of("\\^$*+?()[]{}|") == std::string::npos;
      if (simple && all.matches(text)) part = text;
    };
    take(http.path, *parts(http).path, out.path);
    take(http.host, *parts(http).host, out.host);
    return out;
  }

  void check(const Place& place, const HttpRule& http, const std::vector<const Place*>& wider) {
    // Taking a rule away that changes headers would not be the same, whatever passes.
    if (!plain(http) || changes_headers(http)) return;
    const Parts own = parts(http);
    if (!own.decided() || own.method->empty() || own.path->empty() || own.host->empty()) return;
    const auto language = RequestLanguage::of(std::vector<HttpRule>{http});
    if (!language || language->empty()) return;
    const ir::HttpRequest example = example_of(http, *language);
    std::vector<Reason> others;
    for (const Place* p : wider) {
      for (const HttpRule& other : p->ports->l7.http) {
        // An alias brings the same text to two places: what it says twice was written once.
        if (&other == &http || other.range == http.range || said_.count(&other) != 0) continue;
        if (covered_by(http, example, other)) return say(place, http, example, {{p, &other}});
        if (plain(other) && headers_cover(other, http)) others.push_back({p, &other});
      }
    }
    together(place, http, *language, example, others);
  }

  struct Reason {
    const Place* place;
    const HttpRule* http;
  };

  // Whether several rules allow it between them.
  void together(const Place& place, const HttpRule& http, const RequestLanguage& language,
                const ir::HttpRequest& example, std::vector<Reason> others) {
    std::erase_if(others, [&](const Reason& r) {
      const Parts a = parts(*r.http), b = parts(http);
      return !a.decided() || ir::disjoint(*a.method, *b.method) || ir::disjoint(*a.path, *b.path) ||
             ir::disjoint(*a.host, *b.host);
    });
    if (others.size() < 2 || others.size() > kMostInUnion) return;
    const auto all_but = [&](const Reason* left_out) {
      std::vector<HttpRule> list;
      for (const Reason& r : others) {
        if (&r != left_out) list.push_back(*r.http);
      }
      const auto allowed = RequestLanguage::of(list);
      if (!allowed) return false;
      const auto rest = language.subtract(*allowed);
      return rest && rest->empty();
    };
    if (!all_but(nullptr)) return;
    for (std::size_t i = others.size(); i-- > 0;) {
      if (all_but(&others[i])) others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
    }
    say(place, http, example, others);
  }

  void say(const Place& place, const HttpRule& http, const ir::HttpRequest& example,
           const std::vector<Reason>& because) {
    // The engine's own matcher has the last word on the example.
    const bool passes = std::any_of(because.begin(), because.end(), [&](const Reason& r) {
      return ir::http_matches(*r.http, example);
    });
    if (!passes || !ir::http_matches(http, example)) return;
    said_.insert(&http);
    std::vector<std::string> names;
    for (const Reason& r : because) {
      const std::string text = words(*r.http);
      names.push_back(text[0] == '`' ? text : "a rule for " + text);
    }
    const bool same = because.size() == 1 && same_text(*because[0].http, http);
    const bool elsewhere = std::any_of(because.begin(), because.end(), [&](const Reason& r) {
      return r.place->rule->policy != place.rule->policy;
    });
    Diagnostic& d = c_.report(
        DiagCode::HttpRuleCovered, *place.rule,
        http.headers.empty() && http.host.empty() ? known_or(http.path_range, http.range)
                                                  : http.range,
        same ? fmt::format("{} stands here twice: this rule allows nothing more", words(http))
             : fmt::format("{} already {} {}: this rule allows nothing more",
                           fmt::join(names, " and "), names.size() == 1 ? "allows" : "allow",
                           words(http)),
        place.item->origin.path);
    // Rules of several policies often overlap because several people look after them.
    if (elsewhere) d.severity = Severity::Note;
    for (const Reason& r : because) {
      const bool path_only = r.http->headers.empty() && r.http->host.empty();
      d.labels.push_back(
          {path_only ? known_or(r.http->path_range, r.http->range) : r.http->range,
           r.place->rule->policy == place.rule->policy
               ? "its requests pass by this rule"
               : fmt::format("its requests pass by this rule of {}", c_.name(*r.place->rule))});
    }
    if (!same) {
      std::string text = fmt::format("for example {} {}", example.method, example.path);
      if (!http.host.empty()) text += " to " + example.host;
      for (const auto& [name, value] : example.headers)
        text += fmt::format(", {}: {}", name, value);
      d.notes.push_back(std::move(text));
    }
    d.help = "delete this rule, or narrow the other where it allows more than was meant";
  }

  Context& c_;
  Languages& l_;
  L7Places places_;
  std::set<const HttpRule*> said_;
};

}  // namespace

void check_http_languages(Context& c) {
  Languages languages;
  for (const ir::Rule& rule : c.rules()) {
    for (const ir::RuleItem& item : rule.items) {
      for (const ir::PortRule& ports : item.ports) {
        for (const HttpRule& http : ports.l7.http) {
          if (!http.symbol.empty()) continue;
          const Place place{&rule, &item, &ports};
          method_never(c, languages, place, http);
          path_never(c, languages, place, http);
          query_mark(c, languages, place, http);
          host_never(c, languages, place, http);
          header_never(c, place, http);
        }
      }
    }
  }
  Covers(c, languages).run();
}

}  // namespace policyc::checks
