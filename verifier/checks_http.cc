#include "verifier/checks_http.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "ir/base/diag_code.h"
#include "verifier/checks_context.h"

namespace policyc::checks {
namespace {

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// Whether nobody would write the text as a value that stands for itself.
bool looks_like_regex(std::string_view value) {
  for (const char* part : {".*", ".+", "\\d", "\\w", "\\s", "\\."}) {
    if (contains(value, part)) return true;
  }
  for (const char* part : {"]+", "]*", "]{", ")+", ")*", "){"}) {
    const auto at = value.find(part);
    if (at != std::string_view::npos && contains(value.substr(0, at), part[0] == ']' ? "[" : "(")) {
      return true;
    }
  }
  if (value.size() > 1 && value.front() == '^' && value.back() == '$') return true;
  const auto open = value.find('('), bar = value.find('|'), close = value.rfind(')');
  return open != std::string_view::npos && close != std::string_view::npos && open < bar &&
         bar < close;
}

// `web-*`: a star at the end, but not `*/*` and `text/*`, which are values of Accept.
bool looks_like_glob(const std::string& header, std::string_view value) {
  if (value.empty() || value.back() != '*') return false;
  if (value.size() == 1) {
    static constexpr std::array kStarIsAValue = {"accept", "if-", "access-control", "depth", "te",
                                                 "cache",  "vary"};
    return std::none_of(kStarIsAValue.begin(), kStarIsAValue.end(),
                        [&](std::string_view p) { return header.rfind(p, 0) == 0; });
  }
  return value[value.size() - 2] != '/';
}

void check_headers(Context& c, const ir::Rule& rule, const ir::RuleItem& item,
                   const ir::HttpRule& http) {
  for (const ir::HeaderMatch& h : http.headers) {
    if (!h.value || h.secret || h.action != ir::HeaderAction::None) continue;
    if (contains(*h.value, "${")) continue;
    if (!looks_like_regex(*h.value) && !looks_like_glob(h.name, *h.value)) continue;
    Diagnostic& d =
        c.report(DiagCode::HeaderLooksLikePattern, rule, h.range.known() ? h.range : http.range,
                 fmt::format("header values are compared exactly: only a request whose "
                             "`{}` is literally `{}` passes",
                             h.name, *h.value),
                 item.origin.path);
    d.notes.push_back("method, path and host are regular expressions; header values are not");
    d.help =
        fmt::format("write `{}` without a value to require only that the header is there", h.name);
  }
}

void check_tls_port(Context& c, const ir::Rule& rule, const ir::RuleItem& item,
                    const ir::PortRule& ports) {
  if (ports.l7.parser != ir::Parser::Http || ports.l7.empty()) return;
  if (!ports.tls.terminating_secret.empty()) return;
  for (const ir::Port& p : ports.ports) {
    if (p.number != 443 || p.end != 0 || !p.name.empty() || !p.symbol.empty()) continue;
    Diagnostic& d = c.report(DiagCode::HttpOnTlsPort, rule, p.range,
                             "HTTP rules on port 443 without `terminatingTLS`: the proxy cannot "
                             "read encrypted requests, and refuses them",
                             item.origin.path);
    d.labels.push_back({ports.l7.http[0].range, "these rules need requests in plain text"});
    d.help = "add `terminatingTLS`, or list the names in `serverNames` in place of `rules.http`";
  }
}

void check_kafka(Context& c, const ir::Rule& rule, const ir::RuleItem& item,
                 const ir::KafkaRule& kafka) {
  const auto field = [&](const char* name, const std::string& value, SourceRange range) {
    if (value.find('*') == std::string::npos && !looks_like_regex(value)) return;
    Diagnostic& d = c.report(
        DiagCode::KafkaLooksLikePattern, rule, range.known() ? range : kafka.range,
        fmt::format("`{}` is compared exactly: only the name `{}` itself matches", name, value),
        item.origin.path);
    d.help = fmt::format("list the names one by one, or leave `{}` out", name);
  };
  field("clientID", kafka.client_id, kafka.client_id_range);
  field("topic", kafka.topic, kafka.topic_range);
}

}  // namespace

void check_http(Context& c) {
  check_http_languages(c);
  std::size_t kafka_said = SIZE_MAX;  // policy
  for (const ir::Rule& rule : c.rules()) {
    for (const ir::RuleItem& item : rule.items) {
      for (const ir::PortRule& ports : item.ports) {
        check_tls_port(c, rule, item, ports);
        for (const ir::HttpRule& http : ports.l7.http) {
          check_headers(c, rule, item, http);
        }
        for (const ir::KafkaRule& kafka : ports.l7.kafka) check_kafka(c, rule, item, kafka);
        if (!ports.l7.kafka.empty() && kafka_said != rule.policy) {
          kafka_said = rule.policy;
          c.report(DiagCode::KafkaIsGone, rule, ports.l7.kafka[0].range,
                   "Kafka rules are deprecated in Cilium 1.19 and gone in 1.20", item.origin.path)
              .help = "move what a client may do to the broker's own access control";
        }
      }
    }
  }
}

}  // namespace policyc::checks
