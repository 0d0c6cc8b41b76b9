// DNS and Kafka rules that others take in: DNS patterns by their languages, Kafka rules by the
// requests that they tell apart.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "ir/automata/dfa.h"
#include "ir/base/diag_code.h"
#include "ir/l7_match.h"
#include "ir/profile.h"
#include "verifier/checks_context.h"
#include "verifier/l7_places.h"

namespace policyc::checks {
namespace {

constexpr std::size_t kMostTogether = 64;  // rules that are looked at for one

// Rules with equal keys pass the same requests.
std::string key(const ir::DnsRule& r) {
  return r.pattern;
}
auto key(const ir::KafkaRule& r) {
  return std::tuple(r.api_keys, r.api_version, r.client_id, r.topic);
}

// The pattern as it is written, whose stars a release may read as others.
std::string written(const Context& c, const ir::DnsRule& r) {
  constexpr std::string_view kPattern =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.*";
  const std::string_view rule = c.sources.slice(r.range);
  for (const char* name : {"matchName", "matchPattern"}) {
    const SourceRange range = c.key_range(r.range, name);
    if (range == r.range) continue;
    const std::string_view after = rule.substr(range.end - r.range.begin);
    const std::string_view value =
        after.substr(std::min(after.find_first_of(kPattern), after.size()));
    const std::string_view text = value.substr(0, value.find_first_not_of(kPattern));
    if (ir::dns_pattern(c.world.settings.release(), text) == r.pattern) return std::string(text);
  }
  return r.pattern;
}

// How a rule is named in a message.
std::string words(const Context& c, const ir::DnsRule& r) {
  return fmt::format("`{}`", written(c, r));
}
std::string words(const Context&, const ir::KafkaRule& r) {
  std::vector<std::string> out;
  for (const char* role : {"produce", "consume"}) {
    if (r.api_keys == ir::kafka_role_keys(role)) out.push_back(fmt::format("role {}", role));
  }
  if (out.empty() && !r.api_keys.empty()) {
    out.push_back(fmt::format("API key {}", fmt::join(r.api_keys, " or ")));
  }
  if (r.api_version) out.push_back(fmt::format("version {}", *r.api_version));
  if (!r.topic.empty()) out.push_back("topic " + r.topic);
  if (!r.client_id.empty()) out.push_back("client " + r.client_id);
  return out.empty() ? "a rule for everything" : fmt::format("`{}`", fmt::join(out, ", "));
}

// The names that a pattern matches, in lower case and without the dot at the end.
Expected<ir::Dfa> names_of(const std::string& pattern) {
  if (pattern == "*") return ir::Dfa::everything();
  std::string text = pattern, regex;
  if (!text.empty() && text.back() == '.') text.pop_back();
  std::size_t at = 0;
  for (; text.compare(at, 3, "**.") == 0; at += 3) regex += R"((?s:\C+)\.)";  // whole labels
  if (at > 0 && text.substr(at) == "*") return ir::Dfa::from_regex(regex + R"((?s:\C*))");
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '*') {
      regex += "[-a-z0-9_]*";
    } else if (c >= 'A' && c <= 'Z') {
      regex += static_cast<char>(c - 'A' + 'a');
    } else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_') {
      regex += c;
    } else {
      regex +=
          fmt::format("[{}]", c == '^' || c == '\\' ? "\\" + std::string(1, c) : std::string(1, c));
    }
  }
  return ir::Dfa::from_regex(regex);
}

// Whether all that `one` matches is matched by some of the others. False where not decided.
bool covered(const ir::DnsRule& one, const std::vector<const ir::DnsRule*>& others) {
  auto left = names_of(one.pattern);
  for (const ir::DnsRule* other : others) {
    const auto names = names_of(other->pattern);
    if (!left || !names) return false;
    left = ir::Dfa::subtract(*left, *names);
  }
  return left && left->empty();
}

// Rules compare a request's parts with values: one request for each combination of the values that
// are mentioned, and of one more for each part, stands for all.
bool covered(const ir::KafkaRule& one, const std::vector<const ir::KafkaRule*>& others) {
  std::set<int> keys = {-1}, versions = {-1};
  for (int key = 0; key < 64; ++key) keys.insert(key);
  std::set<std::string> clients = {""}, topics = {""};
  const auto mention = [&](const ir::KafkaRule& r) {
    keys.insert(r.api_keys.begin(), r.api_keys.end());
    if (r.api_version) versions.insert(*r.api_version);
    clients.insert(r.client_id);
    topics.insert(r.topic);
  };
  mention(one);
  for (const ir::KafkaRule* r : others) mention(*r);
  for (const int key : keys) {
    for (const int version : versions) {
      for (const std::string& client : clients) {
        for (const std::string& topic : topics) {
          const ir::KafkaRequest request{std::to_string(key), version, client, topic};
          if (ir::kafka_matches(one, request) &&
              std::none_of(others.begin(), others.end(), [&](const ir::KafkaRule* r) {
                return ir::kafka_matches(*r, request);
              })) {
            return false;
          }
        }
      }
    }
  }
  return true;
}

// Text that stands for more than one thing, by an anchor: `toFQDNs` and DNS rules share lists of
// names.
template <class R>
std::set<SourceRange> shared_texts(const Context& c, std::vector<R> ir::L7Rules::*list) {
  std::map<SourceRange, int> count;
  for (const ir::Rule& rule : c.rules()) {
    for (const ir::RuleItem& item : rule.items) {
      for (const ir::Peer& p : item.peers) {
        if (p.kind == ir::PeerKind::Fqdn) ++count[p.range];
      }
      for (const ir::PortRule& ports : item.ports) {
        for (const R& r : ports.l7.*list) ++count[r.range];
      }
    }
  }
  std::set<SourceRange> out;
  for (const auto& [range, n] : count) {
    if (n > 1) out.insert(range);
  }
  return out;
}

// `list`: where L7Rules keep the rules of this kind. What a baseline in another policy allows is no
// reason: each policy says what its pods need.
template <class R>
void check_list(Context& c, std::vector<R> ir::L7Rules::*list, DiagCode code) {
  L7Places places(c, [&](const ir::L7Rules& l7) { return !(l7.*list).empty(); });
  const std::set<SourceRange> shared = shared_texts(c, list);
  std::set<const R*> said;
  // The fewest of the others that take in `one`; none where they do not, or too many are to be
  // looked at. `equal`: those with its key.
  const auto reasons = [&](const R& one, const std::vector<const R*>& others,
                           const std::vector<const R*>& equal) {
    const auto counts = [&](const R* other) { return other != &one && said.count(other) == 0; };
    const auto first = std::find_if(equal.begin(), equal.end(), counts);
    if (first != equal.end()) return std::vector<const R*>{*first};
    std::vector<const R*> because;
    for (const R* other : others) {
      if (!counts(other)) continue;
      because.push_back(other);
      if (because.size() > kMostTogether) return std::vector<const R*>();
    }
    if (!covered(one, because)) return std::vector<const R*>();
    for (std::size_t i = because.size(); i-- > 0;) {
      std::vector<const R*> fewer = because;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      if (covered(one, fewer)) because = std::move(fewer);
    }
    return because;
  };
  const auto report = [&](const L7Place& place, const R& one,
                          const std::vector<const R*>& because) {
    std::vector<std::string> names;
    for (const R* r : because) names.push_back(words(c, *r));
    const std::string needless = words(c, one);
    const bool twice = names.size() == 1 && names[0] == needless;
    Diagnostic& d = c.report(
        code, *place.rule, one.range,
        twice ? fmt::format("{} stands here twice: this rule allows nothing more", needless)
              : fmt::format("{} already {} {}: this rule allows nothing more",
                            fmt::join(names, " and "), names.size() == 1 ? "allows" : "allow",
                            needless),
        place.item->origin.path);
    for (const R* r : because) d.labels.push_back({r->range, "its requests pass by this rule"});
    d.help = "delete this rule, or narrow the other where it allows more than was meant";
  };
  // From the end, so that of two equal rules the later one is named; what is named once is no
  // reason for others.
  for (auto place = places.all().rbegin(); place != places.all().rend(); ++place) {
    std::vector<const R*> others;
    std::map<decltype(key(R())), std::vector<const R*>> by_key;
    for (const L7Place* wide : places.wider(*place)) {
      if (wide->rule->policy != place->rule->policy) continue;
      for (const R& other : wide->ports->l7.*list) {
        if (!other.symbol.empty()) continue;
        others.push_back(&other);
        by_key[key(other)].push_back(&other);
      }
    }
    const auto& rules = place->ports->l7.*list;
    std::size_t left = rules.size();
    for (auto one = rules.rbegin(); one != rules.rend(); ++one) {
      if (left == 1) break;  // the last rule cannot go: an empty list lets every request pass
      if (!one->symbol.empty() || shared.count(one->range) != 0) continue;
      const auto because = reasons(*one, others, by_key[key(*one)]);
      if (because.empty()) continue;
      said.insert(&*one);
      --left;
      report(*place, *one, because);
    }
  }
}

}  // namespace

void check_l7_lists(Context& c) {
  check_list(c, &ir::L7Rules::dns, DiagCode::DnsRuleCovered);
  check_list(c, &ir::L7Rules::kafka, DiagCode::KafkaRuleCovered);
}

}  // namespace policyc::checks
