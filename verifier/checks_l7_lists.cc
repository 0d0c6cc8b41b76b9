// DNS and Kafka rules that others take in: DNS patterns by their languages, Kafka rules by the
// requests that they tell apart.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "ir/automata/dfa.h"
#include "ir/base/diag_code.h"
#include "ir/l7_match.h"
#include "verifier/checks_context.h"
#include "verifier/l7_places.h"

namespace policyc::checks {
namespace {

constexpr std::size_t kMostTogether = 64;  // rules that are looked at for one

// How a rule is named in a message.
std::string words(const ir::DnsRule& r) {
  return fmt::format("`{}`", r.pattern);
}
std::string words(const ir::KafkaRule& r) {
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

// `list`: where L7Rules keep the rules of this kind.
template <class R>
void check_list(Context& c, std::vector<R> ir::L7Rules::*list, DiagCode code) {
  struct Reason {
    const L7Place* place;
    const R* rule;
  };
  L7Places places(c, [&](const ir::L7Rules& l7) { return !(l7.*list).empty(); });
  const std::set<SourceRange> shared = shared_texts(c, list);
  std::set<const R*> said;
  const auto rules_of = [](const std::vector<Reason>& reasons) {
    std::vector<const R*> out;
    for (const Reason& r : reasons) out.push_back(r.rule);
    return out;
  };
  const auto check = [&](const L7Place& place, const std::vector<const L7Place*>& wider,
                         const R& one) {
    std::vector<Reason> because;
    for (const L7Place* p : wider) {
      for (const R& other : p->ports->l7.*list) {
        if (&other == &one || said.count(&other) != 0) continue;
        if (other.symbol.empty()) because.push_back({p, &other});
      }
    }
    if (because.size() > kMostTogether || !covered(one, rules_of(because))) return;
    for (std::size_t i = because.size(); i-- > 0;) {
      std::vector<Reason> fewer = because;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      if (covered(one, rules_of(fewer))) because = std::move(fewer);
    }
    said.insert(&one);
    std::vector<std::string> names;
    for (const Reason& r : because) names.push_back(words(*r.rule));
    const bool same = because.size() == 1 && covered(*because[0].rule, std::vector<const R*>{&one});
    Diagnostic& d = c.report(
        code, *place.rule, one.range,
        same ? fmt::format("{} stands here twice: this rule allows nothing more", words(one))
             : fmt::format("{} already {} {}: this rule allows nothing more",
                           fmt::join(names, " and "), names.size() == 1 ? "allows" : "allow",
                           words(one)),
        place.item->origin.path);
    for (const Reason& r : because) {
      d.labels.push_back({r.rule->range, r.place->rule->policy == place.rule->policy
                                             ? "its requests pass by this rule"
                                             : fmt::format("its requests pass by this rule of {}",
                                                           c.name(*r.place->rule))});
    }
    d.help = "delete this rule, or narrow the other where it allows more than was meant";
  };
  // From the end, so that of two equal rules the later one is named; what is named once is no
  // reason for others.
  for (auto place = places.all().rbegin(); place != places.all().rend(); ++place) {
    const auto& rules = place->ports->l7.*list;
    const auto wider = places.wider(*place);
    for (auto one = rules.rbegin(); one != rules.rend(); ++one) {
      if (!one->symbol.empty() || shared.count(one->range) != 0) continue;
      // The last rule of a list cannot go: an empty list lets every request pass.
      const auto left = std::count_if(rules.begin(), rules.end(),
                                      [&](const R& r) { return said.count(&r) == 0; });
      if (left > 1) check(*place, wider, *one);
    }
  }
}

}  // namespace

void check_l7_lists(Context& c) {
  check_list(c, &ir::L7Rules::dns, DiagCode::DnsRuleCovered);
  check_list(c, &ir::L7Rules::kafka, DiagCode::KafkaRuleCovered);
}

}  // namespace policyc::checks
