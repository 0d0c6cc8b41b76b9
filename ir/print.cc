#include "ir/print.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <iterator>

namespace policyc::ir {
namespace {

std::string selector_text(const Selector& s) {
  return s.wildcard() ? "everybody" : s.text();
}

void print_l7(std::string& out, const PortRule& rule) {
  auto to = std::back_inserter(out);
  for (const HttpRule& r : rule.l7.http) fmt::format_to(to, "        http {}\n", http_rule_text(r));
  for (const DnsRule& r : rule.l7.dns) fmt::format_to(to, "        dns {}\n", r.pattern);
  for (const KafkaRule& r : rule.l7.kafka) {
    fmt::format_to(to, "        kafka keys [{}] topic `{}` client `{}`\n",
                   fmt::join(r.api_keys, ","), r.topic, r.client_id);
  }
  for (const GenericRule& r : rule.l7.generic) {
    fmt::format_to(to, "        {}", rule.l7.proto);
    for (const auto& [key, value] : r.fields) fmt::format_to(to, " {}={}", key, value);
    out += '\n';
  }
  for (const std::string& name : rule.server_names) fmt::format_to(to, "        sni {}\n", name);
}

}  // namespace

std::string port_text(const Port& port) {
  if (port.protocol == kProtoIcmp || port.protocol == kProtoIcmp6) {
    return fmt::format("{} type {}", protocol_name(port.protocol),
                       port.number == 0 ? "any" : std::to_string(port.number));
  }
  const std::string name = protocol_name(port.protocol);
  if (port.text == "0" && port.end == 0) return name + "/any";
  return port.end == 0 ? fmt::format("{}/{}", name, port.text)
                       : fmt::format("{}/{}-{}", name, port.text, port.end);
}

std::string http_rule_text(const HttpRule& rule) {
  std::string out = fmt::format("{} {}", rule.method.empty() ? "any-method" : rule.method,
                                rule.path.empty() ? "any-path" : rule.path);
  if (!rule.host.empty()) out += " host " + rule.host;
  for (const HeaderMatch& h : rule.headers) {
    out += fmt::format(" header {}{}", h.name, h.value ? ": " + *h.value : "");
  }
  return out;
}

std::string print(const PolicySet& policies, const SourceMap& sources) {
  std::string out;
  for (std::size_t i = 0; i < policies.policies.size(); ++i) out += print(policies, i, &sources);
  return out;
}

std::string print(const PolicySet& policies, std::size_t i, const SourceMap* sources) {
  std::string out;
  auto to = std::back_inserter(out);
  const Policy& policy = policies.policies[i];
  const auto at = [&](SourceRange range) {
    return sources == nullptr ? std::string() : " at " + sources->place(range);
  };
  fmt::format_to(to, "policy {}{}", policy.ref.str(), at(policy.range));
  if (!policy.accepted) {
    fmt::format_to(to, " refused by {}: {}", layer_name(policy.layer), policy.error);
  }
  out += '\n';
  for (const Rule& rule : policies.rules) {
    if (rule.policy != i) continue;
    fmt::format_to(to, "  rule {} selects {} {}\n", rule.origin.path,
                   rule.host_subject ? "nodes" : "pods", selector_text(rule.subject));
    if (!rule.symbol.empty()) fmt::format_to(to, "    if {}\n", rule.symbol);
    const auto isolates = [&](bool has, bool deny, const char* direction) {
      if (!has) return;
      fmt::format_to(to, "    {}: {}\n", direction,
                     deny ? "default deny" : "no default deny of its own");
    };
    isolates(rule.has_ingress, rule.default_deny_ingress, "ingress");
    isolates(rule.has_egress, rule.default_deny_egress, "egress");
    for (const RuleItem& item : rule.items) {
      fmt::format_to(to, "    {} {}{}\n", item.deny ? "deny" : "allow", item.origin.path,
                     at(item.origin.range));
      if (item.auth) fmt::format_to(to, "      authentication {}\n", auth_name(*item.auth));
      if (item.any_peer) out += "      peer everybody\n";
      if (!item.any_peer && item.peers.empty()) out += "      peer nobody\n";
      for (const Peer& peer : item.peers) {
        fmt::format_to(to, "      peer {}\n", selector_text(peer.selector));
      }
      for (const Requirement& r : item.requires_)
        fmt::format_to(to, "      requires {}\n", r.str());
      if (item.all_l4) out += "      port any protocol\n";
      for (const PortRule& pr : item.ports) {
        if (pr.ports.empty()) out += "      port none\n";
        for (const Port& port : pr.ports) fmt::format_to(to, "      port {}\n", port_text(port));
        print_l7(out, pr);
      }
    }
  }
  return out;
}

std::string print_identities(const Resolved& resolved) {
  std::string out;
  for (const Identity& i : resolved.identities) {
    fmt::format_to(std::back_inserter(out), "{:>8}  {}\n", i.number, i.labels.str());
  }
  return out;
}

}  // namespace policyc::ir
