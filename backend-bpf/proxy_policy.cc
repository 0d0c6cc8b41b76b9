#include "backend-bpf/proxy_policy.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace policyc::bpf {
namespace {

using Json = nlohmann::ordered_json;

Json regex_header(const char* name, const std::string& regex) {
  return {{"name", name}, {"safeRegexMatch", {{"regex", regex}}}};
}

const char* mismatch_action(ir::HeaderAction action) {
  switch (action) {
    case ir::HeaderAction::None:
      return "FAIL_ON_MISMATCH";
    case ir::HeaderAction::Log:
      return "CONTINUE_ON_MISMATCH";
    case ir::HeaderAction::Add:
      return "ADD_ON_MISMATCH";
    case ir::HeaderAction::Delete:
      return "DELETE_ON_MISMATCH";
    case ir::HeaderAction::Replace:
      return "REPLACE_ON_MISMATCH";
  }
  return "FAIL_ON_MISMATCH";
}

// HttpNetworkPolicyRule; nullopt where the rule can match nothing (a value that cannot be read).
std::optional<Json> http_rule(const ir::HttpRule& rule) {
  Json headers = Json::array();
  Json matches = Json::array();
  if (!rule.path.empty()) headers.push_back(regex_header(":path", rule.path));
  if (!rule.method.empty()) headers.push_back(regex_header(":method", rule.method));
  if (!rule.host.empty()) headers.push_back(regex_header(":authority", rule.host));
  for (const ir::HeaderMatch& h : rule.headers) {
    if (h.secret && !h.value) return std::nullopt;
    if (h.action != ir::HeaderAction::None) {
      Json match = {{"name", h.name}};
      if (h.value) match["value"] = *h.value;
      match["mismatchAction"] = mismatch_action(h.action);
      matches.push_back(std::move(match));
    } else if (h.value) {
      headers.push_back({{"name", h.name}, {"stringMatch", {{"exact", *h.value}}}});
    } else {
      headers.push_back({{"name", h.name}, {"presentMatch", true}});
    }
  }
  Json out = Json::object();
  if (!headers.empty()) out["headers"] = std::move(headers);
  if (!matches.empty()) out["headerMatches"] = std::move(matches);
  return out;
}

Json kafka_rule(const ir::KafkaRule& rule) {
  Json out = {{"apiVersion", rule.api_version.value_or(-1)}};
  if (!rule.api_keys.empty()) out["apiKeys"] = rule.api_keys;
  if (!rule.client_id.empty()) out["clientId"] = rule.client_id;
  if (!rule.topic.empty()) out["topic"] = rule.topic;
  return out;
}

// L7NetworkPolicyRules. Rules of Envoy's own filters compare metadata by path, and `action: deny`
// makes a rule one that refuses.
Json generic_rules(const std::string& parser, const std::vector<ir::GenericRule>& rules) {
  const bool metadata = parser.rfind("envoy.", 0) == 0;
  Json out = Json::object();
  for (const ir::GenericRule& r : rules) {
    const char* list = "l7AllowRules";
    Json rule = Json::object();
    for (const auto& [key, value] : r.fields) {
      if (metadata && key == "action") {
        if (value == "deny") list = "l7DenyRules";
        continue;
      }
      if (!metadata) {
        rule["rule"][key] = value;
        continue;
      }
      Json path = Json::array();
      for (std::size_t at = 0; at <= key.size();) {
        const std::size_t end = std::min(key.find('/', at), key.size());
        path.push_back({{"key", key.substr(at, end - at)}});
        at = end + 1;
      }
      rule["metadataRule"].push_back(
          {{"filter", parser},
           {"path", std::move(path)},
           {"value", value.empty() ? Json{{"presentMatch", true}}
                                   : Json{{"stringMatch", {{"exact", value}}}}}});
    }
    out[list].push_back(std::move(rule));
  }
  return out;
}

Json tls_context(const std::string& secret, bool downstream) {
  return {{downstream ? "tlsSdsSecret" : "validationContextSdsSecret", secret}};
}

// PortNetworkPolicyRules that pass what the filter passes, for these peers (empty = any).
std::vector<Json> rules_of(const ir::ProxyFilter& filter, const std::vector<std::uint32_t>& peers) {
  std::vector<Json> out;
  const auto base = [&] {
    Json rule = Json::object();
    if (!filter.listeners.empty()) rule["name"] = filter.listeners.front().name;
    if (!peers.empty()) rule["remotePolicies"] = peers;
    if (!filter.tls.empty()) {
      const ir::TlsContext& t = filter.tls.front();
      if (!t.terminating_secret.empty()) {
        rule["downstreamTlsContext"] = tls_context(t.terminating_secret, true);
      }
      if (!t.originating_secret.empty()) {
        rule["upstreamTlsContext"] = tls_context(t.originating_secret, false);
      }
    }
    return rule;
  };
  if (filter.everything) return {base()};
  if (!filter.server_names.empty()) {
    Json rule = base();
    rule["serverNames"] = filter.server_names;
    out.push_back(std::move(rule));
  }
  Json http = Json::array();
  for (const ir::HttpRule& r : filter.http) {
    if (auto rule = http_rule(r)) http.push_back(std::move(*rule));
  }
  if (!http.empty()) {
    Json rule = base();
    rule["httpRules"] = {{"httpRules", std::move(http)}};
    out.push_back(std::move(rule));
  }
  if (!filter.kafka.empty()) {
    Json rule = base();
    for (const ir::KafkaRule& r : filter.kafka) {
      rule["kafkaRules"]["kafkaRules"].push_back(kafka_rule(r));
    }
    out.push_back(std::move(rule));
  }
  if (!filter.generic.empty()) {
    Json rule = base();
    rule["l7Proto"] = filter.generic_parser;
    rule["l7Rules"] = generic_rules(filter.generic_parser, filter.generic);
    out.push_back(std::move(rule));
  }
  // A rule that matches nothing cannot be written, and no rule at all would pass everything.
  if (out.empty()) {
    Json rule = base();
    rule["deny"] = true;
    out.push_back(std::move(rule));
  }
  return out;
}

Json dns_rules_of(const ir::ProxyFilter& filter, const std::vector<std::uint32_t>& peers) {
  Json rule = Json::object();
  if (!peers.empty()) rule["remotePolicies"] = peers;
  if (!filter.everything) {
    rule["patterns"] = Json::array();
    for (const ir::DnsRule& r : filter.dns) rule["patterns"].push_back(r.pattern);
  }
  return rule;
}

// The redirected stretches of one direction, with DNS or without.
Json port_policies(const ir::PolicyTable& table, bool dns,
                   const std::vector<std::uint32_t>& numbers,
                   const std::vector<ir::IdentityIndex>& identities) {
  struct Stretch {
    ir::L4Key begin, end;
    std::map<std::uint16_t, std::vector<std::uint32_t>> peers;  // filter + 1 → numbers
  };
  std::vector<Stretch> stretches;
  const std::size_t columns = table.columns();
  for (std::size_t k = 0; k < columns; ++k) {
    Stretch s{
        table.column_begin[k], k + 1 < columns ? table.column_begin[k + 1] : ir::kL4KeyEnd, {}};
    if (table.cell_filters.empty()) continue;
    for (const ir::IdentityIndex i : identities) {
      const std::size_t cell = table.class_of[i] * columns + k;
      if (table.cell_filters[cell] == 0) continue;
      if ((table.records[table.cells[cell]].parser == "dns") != dns) continue;
      s.peers[table.cell_filters[cell]].push_back(numbers[i]);
    }
    if (s.peers.empty()) continue;
    for (auto& [filter, peers] : s.peers) {
      std::sort(peers.begin(), peers.end());
      peers.erase(std::unique(peers.begin(), peers.end()), peers.end());
    }
    if (!stretches.empty() && stretches.back().end == s.begin &&
        stretches.back().peers == s.peers && (s.begin & 0xffffU) != 0) {
      stretches.back().end = s.end;
    } else {
      stretches.push_back(std::move(s));
    }
  }
  Json out = Json::array();
  for (const Stretch& s : stretches) {
    std::uint32_t first = s.begin & 0xffffU;
    const std::uint32_t last = (s.end - 1) & 0xffffU;
    if (last == 0) continue;
    // To the proxy port 0 means all ports.
    if (first == 0 && last != 0xffffU) first = 1;
    const auto protocol = ir::class_protocol(static_cast<ir::ProtocolClass>(s.begin >> 16U));
    Json policy = {{"port", first}};
    if (last != first && first != 0) policy["endPort"] = last;
    policy["protocol"] = ir::protocol_name(protocol);
    // Where one filter is for everybody who is known, it is for everybody.
    const bool all =
        s.peers.size() == 1 && s.peers.begin()->second.size() ==
                                   std::set<std::uint32_t>(numbers.begin(), numbers.end()).size();
    policy["rules"] = Json::array();
    for (const auto& [filter, peers] : s.peers) {
      const ir::ProxyFilter& f = table.proxy_filters[filter - 1U];
      const std::vector<std::uint32_t> remote = all ? std::vector<std::uint32_t>{} : peers;
      if (dns) {
        policy["rules"].push_back(dns_rules_of(f, remote));
      } else {
        for (Json& rule : rules_of(f, remote)) policy["rules"].push_back(std::move(rule));
      }
    }
    out.push_back(std::move(policy));
  }
  return out;
}

}  // namespace

ProxyPolicy proxy_policy(const ir::ResolvedEndpoint& endpoint,
                         const std::vector<ir::IpAddress>& addresses, std::uint64_t endpoint_number,
                         const std::vector<std::uint32_t>& numbers,
                         const std::vector<ir::IdentityIndex>& identities) {
  Json head = Json::object();
  head["endpointIps"] = Json::array();
  for (const ir::IpAddress& ip : addresses) head["endpointIps"].push_back(ip.str());
  // 64-bit numbers are strings in protobuf JSON.
  if (endpoint_number != 0) head["endpointId"] = std::to_string(endpoint_number);
  ProxyPolicy out;
  const Json ingress = port_policies(*endpoint.ingress, false, numbers, identities);
  const Json egress = port_policies(*endpoint.egress, false, numbers, identities);
  if (!ingress.empty() || !egress.empty()) {
    Json message = head;
    if (!ingress.empty()) message["ingressPerPortPolicies"] = ingress;
    if (!egress.empty()) message["egressPerPortPolicies"] = egress;
    out.network_policy = message.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  Json dns = head;
  const Json queries = port_policies(*endpoint.egress, true, numbers, identities);
  if (!queries.empty()) {
    dns["egress"] = queries;
    out.dns = dns.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  return out;
}

}  // namespace policyc::bpf
