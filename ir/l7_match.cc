#include "ir/l7_match.h"

#include <re2/re2.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <unordered_map>

#include "ir/base/text.h"
#include "ir/identity.h"

namespace policyc::ir {
namespace {

std::unique_ptr<re2::RE2> compile(std::string_view regex) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  return std::make_unique<re2::RE2>(re2::StringPiece(regex.data(), regex.size()), options);
}

// Compiled expressions of this thread: compiling costs a hundred times what matching does.
const re2::RE2& compiled(const std::string& regex) {
  constexpr std::size_t kKept = 4096;
  thread_local std::unordered_map<std::string, std::unique_ptr<re2::RE2>> cache;
  if (cache.size() > kKept) cache.clear();
  auto [it, fresh] = cache.try_emplace(regex);
  if (fresh) it->second = compile(regex);
  return *it->second;
}

re2::StringPiece piece(std::string_view text) {
  return {text.data(), text.size()};
}

bool header_matches(const HeaderMatch& match, const HttpRequest& request) {
  // With an action the rule matches whatever the header says; an unreadable secret never does.
  if (match.secret && !match.value) return false;
  if (match.action != HeaderAction::None) return true;
  for (const auto& [name, value] : request.headers) {
    if (lower(name) != match.name) continue;
    if (!match.value || *match.value == value) return true;
  }
  return false;
}

constexpr std::array kKafkaApis = {"produce",
                                   "fetch",
                                   "offsets",
                                   "metadata",
                                   "leaderandisr",
                                   "stopreplica",
                                   "updatemetadata",
                                   "controlledshutdown",
                                   "offsetcommit",
                                   "offsetfetch",
                                   "findcoordinator",
                                   "joingroup",
                                   "heartbeat",
                                   "leavegroup",
                                   "syncgroup",
                                   "describegroups",
                                   "listgroups",
                                   "saslhandshake",
                                   "apiversions",
                                   "createtopics",
                                   "deletetopics",
                                   "deleterecords",
                                   "initproducerid",
                                   "offsetforleaderepoch",
                                   "addpartitionstotxn",
                                   "addoffsetstotxn",
                                   "endtxn",
                                   "writetxnmarkers",
                                   "txnoffsetcommit",
                                   "describeacls",
                                   "createacls",
                                   "deleteacls",
                                   "describeconfigs",
                                   "alterconfigs"};

// Requests of these keys name topics.
bool has_topics(int key) {
  constexpr std::array kKeys = {0, 1, 2, 3, 4, 5, 6, 8, 9, 19, 20, 21, 23, 24, 27, 28, 34, 35, 37};
  return std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end();
}

}  // namespace

bool valid_regex(std::string_view regex, std::string* error) {
  const auto re = compile(regex);
  if (!re->ok() && error != nullptr) *error = re->error();
  return re->ok();
}

bool regex_matches(const std::string& regex, std::string_view text) {
  const re2::RE2& re = compiled(regex);
  return re.ok() && re2::RE2::FullMatch(piece(text), re);
}

std::size_t regex_prefix(const std::string& regex, std::string_view text) {
  const re2::RE2& re = compiled(regex);
  re2::StringPiece found;
  const re2::StringPiece input = piece(text);
  if (!re.ok() || !re.Match(input, 0, input.size(), re2::RE2::ANCHOR_START, &found, 1)) return 0;
  return found.size();
}

bool http_matches(const HttpRule& rule, const HttpRequest& request) {
  auto field = [](const std::string& regex, const std::string& text) {
    return regex.empty() || regex_matches(regex, text);
  };
  return field(rule.method, request.method) && field(rule.path, request.path) &&
         field(rule.host, request.host) &&
         std::all_of(rule.headers.begin(), rule.headers.end(),
                     [&](const HeaderMatch& m) { return header_matches(m, request); });
}

int kafka_api_key(std::string_view text) {
  int number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size()) return number;
  const std::string name = lower(text);
  const auto it = std::find(kKafkaApis.begin(), kKafkaApis.end(), name);
  return it == kKafkaApis.end() ? -1 : static_cast<int>(it - kKafkaApis.begin());
}

std::vector<int> kafka_role_keys(std::string_view role) {
  const std::string name = lower(role);
  if (name == "produce") return {0, 3, 18};
  if (name == "consume") return {1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18};
  return {};
}

bool kafka_matches(const KafkaRule& rule, const KafkaRequest& request) {
  const int key = kafka_api_key(request.api_key);
  if (!rule.api_keys.empty() &&
      std::find(rule.api_keys.begin(), rule.api_keys.end(), key) == rule.api_keys.end()) {
    return false;
  }
  if (rule.api_version && *rule.api_version != request.api_version) return false;
  if (!rule.client_id.empty() && rule.client_id != request.client_id) return false;
  return rule.topic.empty() || !has_topics(key) || rule.topic == request.topic;
}

bool proxy_passes(const Profile& release, const ProxyFilter& filter, const L7Request& request) {
  if (filter.everything) return true;
  const auto any = [](const auto& rules, const auto& matches) {
    return std::any_of(rules.begin(), rules.end(),
                       [&](const auto& r) { return r.symbol.empty() && matches(r); });
  };
  if (const auto* http = std::get_if<HttpRequest>(&request)) {
    return any(filter.http, [&](const HttpRule& r) { return http_matches(r, *http); });
  }
  if (const auto* kafka = std::get_if<KafkaRequest>(&request)) {
    return any(filter.kafka, [&](const KafkaRule& r) { return kafka_matches(r, *kafka); });
  }
  if (const auto* dns = std::get_if<DnsQuery>(&request)) {
    return any(filter.dns,
               [&](const DnsRule& r) { return dns_pattern_matches(r.pattern, dns->name); });
  }
  const auto* tls = std::get_if<TlsHello>(&request);
  return tls != nullptr &&
         std::any_of(filter.server_names.begin(), filter.server_names.end(),
                     [&](const std::string& n) { return sni_matches(release, n, tls->sni); });
}

}  // namespace policyc::ir
