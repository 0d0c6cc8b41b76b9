#include <fmt/format.h>

#include <algorithm>

#include "ir/base/diag_code.h"
#include "verifier/checks_context.h"

namespace policyc::checks {

bool restricts(const ir::L7Rules& l7) {
  const auto all_http = [](const ir::HttpRule& r) { return r.match_all(); };
  const auto all_dns = [](const ir::DnsRule& r) {
    return r.pattern.find_first_not_of("*.") == std::string::npos;
  };
  const auto all_kafka = [](const ir::KafkaRule& r) {
    return r.api_keys.empty() && !r.api_version && r.client_id.empty() && r.topic.empty();
  };
  if (l7.empty()) return false;
  return std::none_of(l7.http.begin(), l7.http.end(), all_http) &&
         std::none_of(l7.dns.begin(), l7.dns.end(), all_dns) &&
         std::none_of(l7.kafka.begin(), l7.kafka.end(), all_kafka);
}

namespace {

// The place in `wide` that lets the port through without L7 rules, if there is one. The DNS proxy
// looks only at rules of the very same port text.
const SourceRange* plain_allow(const ir::RuleItem& wide, const ir::Port& port, bool dns) {
  if (wide.all_l4) return dns ? nullptr : &wide.origin.range;
  for (const ir::PortRule& r : wide.ports) {
    if (r.l7.parser != ir::Parser::None || !r.l7.empty() || !r.server_names.empty() || r.listener ||
        r.tls != ir::TlsContext{}) {
      continue;
    }
    for (const ir::Port& p : r.ports) {
      if (!p.symbol.empty() || p.end != 0) continue;  // ranges may leave L7 rules in force
      const bool same =
          dns ? p.text == port.text && p.protocol == port.protocol : port_covers(p, port);
      if (same) return p.range.known() ? &p.range : &r.range;
    }
  }
  return nullptr;
}

struct Wider {
  const ir::Rule* rule;
  const ir::RuleItem* item;
  SourceRange range;
};

void check_port_rule(Context& c, const ir::Rule& rule, const ir::RuleItem& item,
                     const ir::PortRule& ports, const std::vector<const ir::Rule*>& others) {
  const bool dns = ports.l7.parser == ir::Parser::Dns;
  for (const ir::Port& port : ports.ports) {
    if (!port.symbol.empty()) continue;
    for (const ir::Rule* other : others) {
      if (!c.deployed_together(*other, rule) || !c.subject_covers(*other, rule)) continue;
      for (const ir::RuleItem& wide : other->items) {
        if (wide.deny || wide.direction != item.direction || !wide.requires_.empty()) continue;
        if (!peers_cover(wide, item, c.world.settings)) continue;
        const SourceRange* place = plain_allow(wide, port, dns);
        if (place == nullptr) continue;
        SourceRange at = ports.l7.http.empty()       ? SourceRange{}
                         : ports.l7.http.size() == 1 ? ports.l7.http[0].range
                                                     : ports.range;
        if (!at.known()) at = ports.range;
        Diagnostic& d = c.report(
            DiagCode::VoidL7Rule, rule, at,
            fmt::format("these L7 rules are void: {} allows the same peers on port {}/{} without "
                        "L7 rules, so every request passes",
                        other->policy == rule.policy ? fmt::format("`{}`", wide.origin.path)
                                                     : c.name(*other),
                        port.text, ir::protocol_name(port.protocol)),
            item.origin.path);
        d.labels.push_back({place->known() ? *place : wide.origin.range,
                            "this allows everything that the L7 rules restrict"});
        d.help = "take the wider rule away, or confine it to other ports or peers";
        c.void_l7.insert(&ports);
        return;
      }
    }
  }
}

}  // namespace

void check_void_l7(Context& c) {
  for (const ir::Rule& rule : c.rules()) {
    std::vector<const ir::Rule*> others;
    for (const ir::RuleItem& item : rule.items) {
      if (item.deny) continue;
      for (const ir::PortRule& ports : item.ports) {
        if (!restricts(ports.l7)) continue;
        if (others.empty()) others = c.companions(rule, true);
        check_port_rule(c, rule, item, ports, others);
      }
    }
  }
}

}  // namespace policyc::checks
