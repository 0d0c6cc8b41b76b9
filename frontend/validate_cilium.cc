// What Cilium's agent refuses although the CRD's schema lets it in.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "frontend/lower_parts.h"
#include "frontend/read_parts.h"
#include "ir/base/diag_code.h"
#include "ir/base/text.h"
#include "ir/ip.h"
#include "ir/l7_match.h"

namespace policyc::frontend {
namespace {

constexpr std::size_t kMaxPorts = 40;

// The key as the agent stores it: `source.key`.
std::string stored_key(const std::string& key) {
  if (!key.empty() && key[0] == '$') return "reserved." + key.substr(1);
  const std::size_t colon = key.find(':');
  if (colon != std::string::npos && colon > 0) {
    return fmt::format("{}.{}", key.substr(0, colon), key.substr(colon + 1));
  }
  if (key.rfind("reserved.", 0) == 0) return key;
  return fmt::format("any.{}", key);
}

bool selects_init(const SelectorAst& selector) {
  const auto init = [](const Text& key) { return stored_key(key.text) == "reserved.init"; };
  return std::any_of(selector.match_labels.begin(), selector.match_labels.end(),
                     [&](const auto& pair) { return init(pair.first); }) ||
         std::any_of(selector.match_expressions.begin(), selector.match_expressions.end(),
                     [&](const MatchExpressionAst& e) { return init(e.key); });
}

template <class T>
bool filled(const OptList<T>& list) {
  return list && !list->empty();
}

class CiliumChecks {
 public:
  CiliumChecks(const PolicyAst& policy, const ir::Settings& settings, Findings& findings)
      : settings_(settings),
        release_(settings.release()),
        findings_(findings),
        namespaced_(policy.kind == PolicyKind::CiliumNetworkPolicy) {}

  void rule(const RuleAst& rule) {
    subject(rule);
    host_ = rule.node_selector.has_value();
    section(rule.ingress, rule.path + ".ingress", true, false);
    section(rule.ingress_deny, rule.path + ".ingressDeny", true, true);
    section(rule.egress, rule.path + ".egress", false, false);
    section(rule.egress_deny, rule.path + ".egressDeny", false, true);
  }

 private:
  void subject(const RuleAst& rule) {
    if (rule.endpoint_selector) {
      validate_selector(*rule.endpoint_selector, "", rule.path + ".endpointSelector", findings_);
      if (namespaced_ && selects_init(*rule.endpoint_selector)) {
        findings_
            .refuse_agent(DiagCode::InitInNamespacedPolicy, rule.endpoint_selector->range,
                          rule.path + ".endpointSelector",
                          "a CiliumNetworkPolicy cannot select `reserved:init`")
            .help = "such endpoints have no namespace yet; use a CiliumClusterwideNetworkPolicy";
      }
    }
    if (!rule.node_selector) return;
    validate_selector(*rule.node_selector, "", rule.path + ".nodeSelector", findings_);
    if (!namespaced_ || rule.endpoint_selector) return;
    if (rule.path == "spec" || !release_.specs_node_selector) {
      findings_
          .refuse_agent(DiagCode::NodeSelectorInNamespacedPolicy, rule.node_selector->range,
                        rule.path, "a CiliumNetworkPolicy cannot have a `nodeSelector`")
          .help = "nodes belong to no namespace; use a CiliumClusterwideNetworkPolicy";
    } else {
      findings_
          .warn(DiagCode::NodeSelectorIgnored, rule.node_selector->range, rule.path,
                "a `nodeSelector` below `specs` of a CiliumNetworkPolicy has no effect")
          .help = "move the rule to a CiliumClusterwideNetworkPolicy";
    }
  }

  void section(const OptList<RuleItemAst>& items, const std::string& path, bool ingress,
               bool deny) {
    if (!items) return;
    for (std::size_t i = 0; i < items->size(); ++i) {
      item((*items)[i], fmt::format("{}[{}]", path, i), ingress, deny);
    }
  }

  void selectors(const OptList<SelectorAst>& list, const std::string& path) {
    if (!list) return;
    for (std::size_t i = 0; i < list->size(); ++i) {
      validate_selector((*list)[i], "", fmt::format("{}[{}]", path, i), findings_);
    }
  }

  void item(const RuleItemAst& item, const std::string& path, bool ingress, bool deny) {
    const std::string from = ingress ? "from" : "to";
    one_peer_kind(item, path, from);
    selectors(item.endpoints, fmt::format("{}.{}Endpoints", path, from));
    selectors(item.requires_, fmt::format("{}.{}Requires", path, from));
    selectors(item.nodes, fmt::format("{}.{}Nodes", path, from));
    if (filled(item.nodes) && !settings_.node_selector_labels) {
      findings_
          .refuse_agent(DiagCode::NodesNeedFlag, item.nodes->front().range, path,
                        fmt::format("`{}Nodes` needs `enable-node-selector-labels`", from))
          .help = fmt::format(
          "set it in the cluster, or write `{}Entities: [host, remote-node]` for all nodes", from);
    }
    if (item.groups) {
      findings_
          .refuse_agent(
              DiagCode::GroupsNotEvaluated, item.groups_range, path,
              fmt::format("`{}Groups` needs a policy that the operator derives from it; this "
                          "object itself is not enforced",
                          from))
          .help = "lint and query the derived policy of a cluster dump";
    }
    cidrs(item, path, from);
    if (filled(item.services) && filled(item.ports) && !release_.services_with_ports) {
      findings_
          .refuse_agent(DiagCode::ServicesWithPorts, item.range, path,
                        "`toServices` cannot stand beside `toPorts` before Cilium 1.17")
          .help = "select the pods of the Service with `toEndpoints`";
    }
    icmps(item, path);
    if (!item.ports) return;
    for (std::size_t i = 0; i < item.ports->size(); ++i) {
      port_rule((*item.ports)[i], fmt::format("{}.toPorts[{}]", path, i), ingress, deny);
    }
  }

  void one_peer_kind(const RuleItemAst& item, const std::string& path, const std::string& from) {
    struct Member {
      std::string name;
      SourceRange range;
    };
    std::vector<Member> members;
    const auto add = [&](const auto& list, const std::string& name) {
      if (filled(list)) members.push_back({name, list->front().range});
    };
    add(item.endpoints, from + "Endpoints");
    add(item.cidr, from + "CIDR");
    add(item.cidr_set, from + "CIDRSet");
    add(item.entities, from + "Entities");
    add(item.nodes, from + "Nodes");
    if (item.groups) members.push_back({from + "Groups", item.groups_range});
    add(item.services, "toServices");
    add(item.fqdns, "toFQDNs");
    if (members.size() < 2) return;
    Diagnostic& d = findings_.refuse_agent(
        DiagCode::CombinedPeers, members[1].range, path,
        fmt::format("`{}` and `{}` cannot stand in one rule item; the whole policy is refused",
                    members[0].name, members[1].name));
    d.labels.push_back({members[0].range, fmt::format("`{}` stands here", members[0].name)});
    d.help = "write two items; either one then lets its peers through";
  }

  void cidrs(const RuleItemAst& item, const std::string& path, const std::string& from) {
    if (item.cidr) {
      for (std::size_t i = 0; i < item.cidr->size(); ++i) {
        const Text& cidr = (*item.cidr)[i];
        if (cidr.unknown || findings_.schema_refused(cidr.range)) continue;
        if (!ir::parse_prefix(cidr.text, true)) {
          findings_.refuse_agent(DiagCode::BadCidr, cidr.range,
                                 fmt::format("{}.{}CIDR[{}]", path, from, i),
                                 fmt::format("`{}` is no prefix", cidr.text));
        }
      }
    }
    if (!item.cidr_set) return;
    for (std::size_t i = 0; i < item.cidr_set->size(); ++i) {
      const CidrSetAst& set = (*item.cidr_set)[i];
      if (!set.cidr || findings_.schema_refused(set.cidr->range)) continue;
      validate_except(*set.cidr, set.except, release_.narrow_except,
                      fmt::format("{}.{}CIDRSet[{}]", path, from, i), findings_);
    }
  }

  void icmps(const RuleItemAst& item, const std::string& path) {
    if (!filled(item.icmps)) return;
    const SourceRange first = item.icmps->front().range;
    if (filled(item.ports)) {
      Diagnostic& d = findings_.refuse_agent(DiagCode::IcmpWithPorts, first, path,
                                             "`icmps` cannot stand beside `toPorts`");
      d.labels.push_back({item.ports->front().range, "`toPorts` stands here"});
      d.help = "write two items with the same peers, one with `toPorts`, one with `icmps`";
    }
    if (!settings_.icmp_rules) {
      findings_
          .refuse_agent(DiagCode::IcmpDisabled, first, path,
                        "`icmps` needs `enable-icmp-rules`, which is off")
          .help = "set it in the cluster, or take `icmps` away";
    }
    for (std::size_t i = 0; i < item.icmps->size(); ++i) {
      const auto& fields = (*item.icmps)[i].fields;
      if (!fields) continue;
      for (std::size_t k = 0; k < fields->size(); ++k) {
        icmp_field((*fields)[k], fmt::format("{}.icmps[{}].fields[{}]", path, i, k));
      }
    }
  }

  void icmp_field(const IcmpFieldAst& field, const std::string& path) {
    if (field.type.unknown || field.type.empty() || (field.family && field.family->unknown) ||
        findings_.schema_refused(field.range)) {
      return;
    }
    const bool v6 = field.family && field.family->text == "IPv6";
    const auto type = icmp_type(field.type.text, v6);
    if (!type) {
      findings_
          .refuse_agent(
              DiagCode::BadIcmpType, field.type.range, path,
              fmt::format("`{}` is no ICMP type of {}", field.type.text, v6 ? "IPv6" : "IPv4"))
          .help = v6 ? "write a type of ICMPv6, or `family: IPv4`"
                     : "write a type of ICMP, or `family: IPv6`";
    }
  }

  void port_rule(const PortRuleAst& rule, const std::string& path, bool ingress, bool deny) {
    if (rule.ports) {
      if (rule.ports->size() > kMaxPorts && deny) {
        findings_
            .refuse_agent(
                DiagCode::TooManyPorts, rule.range, path,
                fmt::format("{} ports in one item; the limit is {}", rule.ports->size(), kMaxPorts))
            .help = "spread the ports over several items of `toPorts`";
      }
      for (std::size_t i = 0; i < rule.ports->size(); ++i) {
        const std::string at = fmt::format("{}.ports[{}]", path, i);
        validate_port((*rule.ports)[i], at, findings_);
        port_surprises((*rule.ports)[i], at);
      }
    }
    const bool l7 = rule.rules && has_rules(*rule.rules);
    server_names(rule, path, l7);
    if (rule.listener) listener(rule, path, ingress, l7);
    if (rule.rules) l7_rules(rule, path, ingress);
  }

  // What the agent takes without a word and reads otherwise than it looks.
  void port_surprises(const PortAst& port, const std::string& rule) {
    if (!port.port || port.port->unknown || findings_.schema_refused(port.range)) return;
    const std::string& text = port.port->text;
    const auto number = parse_port_number(text);
    if (is_port_name(text) || !number || *number > 65535) return;
    if (text.size() > 1 && text[0] == '0') {
      findings_
          .warn(DiagCode::OctalPort, port.port->range, rule,
                fmt::format("the leading 0 makes `{}` octal: port {}", text, *number))
          .help = "write the port without leading zeros";
    }
  }

  static bool has_rules(const L7RulesAst& rules) {
    return filled(rules.http) || filled(rules.kafka) || filled(rules.dns) || filled(rules.l7) ||
           (rules.l7proto && !rules.l7proto->empty());
  }

  void server_names(const PortRuleAst& rule, const std::string& path, bool l7) {
    if (!filled(rule.server_names)) return;
    for (const Text& name : *rule.server_names) {
      if (name.empty() && !name.unknown) {
        findings_
            .refuse_agent(DiagCode::BadServerNames, name.range, path + ".serverNames",
                          "a server name is empty")
            .help = "write the name, or take the item away";
      }
    }
    if (l7 && !rule.terminating_tls) {
      Diagnostic& d =
          findings_.refuse_agent(DiagCode::BadServerNames, rule.server_names->front().range, path,
                                 "`serverNames` beside `rules` needs `terminatingTLS`");
      d.labels.push_back({rule.rules->range, "the rules look inside the TLS session"});
      d.help = "add `terminatingTLS`, or take `rules` or `serverNames` away";
    }
  }

  void listener(const PortRuleAst& rule, const std::string& path, bool ingress, bool l7) {
    const SourceRange where = rule.listener->range;
    if (ingress) {
      findings_
          .refuse_agent(DiagCode::ListenerPlace, where, path,
                        "`listener` is not allowed on ingress")
          .help = "a listener takes egress traffic only";
    }
    if (l7) {
      findings_
          .refuse_agent(DiagCode::ListenerPlace, where, path,
                        "`listener` cannot stand beside `rules`")
          .help = "let the listener's own configuration filter, or take it away";
    }
  }

  void l7_rules(const PortRuleAst& port_rule, const std::string& path, bool ingress) {
    const L7RulesAst& rules = *port_rule.rules;
    const std::string at = path + ".rules";
    if (rules.l7 && (!rules.l7proto || rules.l7proto->empty()) &&
        !findings_.schema_refused(rules.range)) {
      findings_
          .refuse_agent(DiagCode::BadL7Rules, rules.range, at, "`l7` needs `l7proto` beside it")
          .help = "name the parser: `l7proto: …`";
    }
    if (rules.l7) {
      for (const auto& map : *rules.l7) {
        for (const auto& [key, value] : map) {
          if (!key.empty()) continue;
          findings_.refuse_agent(DiagCode::BadL7Rules, key.range, at + ".l7", "a key is empty")
              .help = "write the name of the field";
        }
      }
    }
    const bool any = has_rules(rules);
    if (any && !settings_.l7_proxy) {
      findings_
          .refuse_agent(DiagCode::L7ProxyDisabled, rules.range, path,
                        "L7 rules need the L7 proxy, which is off in this cluster")
          .help = "set `enable-l7-proxy`, or take `rules` away";
    }
    if (any && host_) on_host(rules, path, ingress);
    if (rules.dns) dns(port_rule, path, ingress);
    if (any) ports_of_rules(port_rule, path);
    if (rules.http) http(*rules.http, at + ".http");
    if (rules.kafka) kafka(*rules.kafka, at + ".kafka");
  }

  void on_host(const L7RulesAst& rules, const std::string& path, bool ingress) {
    const bool only_dns = filled(rules.dns) && !filled(rules.http) && !filled(rules.kafka) &&
                          !filled(rules.l7) && !rules.l7proto;
    if (!ingress && only_dns && release_.host_egress_dns) return;
    const std::string_view protocol = filled(rules.http)    ? "HTTP"
                                      : filled(rules.kafka) ? "Kafka"
                                      : filled(rules.dns)   ? "DNS"
                                                            : "L7";
    findings_
        .refuse_agent(DiagCode::L7OnHost, rules.range, path,
                      fmt::format("{} rules do not work on host {}", protocol,
                                  ingress ? "ingress" : "egress"))
        .help = "take `rules` away; host policies filter by peer and port";
  }

  void dns(const PortRuleAst& rule, const std::string& path, bool ingress) {
    const SourceRange where = rule.rules->range;
    if (ingress) {
      findings_
          .refuse_agent(DiagCode::DnsOnIngress, where, path, "DNS rules are not allowed on ingress")
          .help = "put them into `egress`, at the pods that ask";
      return;
    }
    if (!filled(rule.ports)) {
      findings_
          .refuse_agent(DiagCode::DnsWithoutPorts, where, path,
                        "DNS rules need `ports` beside them")
          .help = "write `ports: [{port: \"53\", protocol: ANY}]`";
      return;
    }
    for (const PortAst& port : *rule.ports) {
      if (!port.end_port || !port.port || port.port->unknown) continue;
      const auto first = parse_port_number(port.port->text);
      if (*port.end_port > static_cast<std::int64_t>(first.value_or(0))) {
        findings_
            .refuse_agent(DiagCode::DnsPortRange, port.range, path, "DNS rules take no port ranges")
            .help = "write one item of `ports` for each DNS port";
      }
    }
  }

  void ports_of_rules(const PortRuleAst& rule, const std::string& path) {
    if (!rule.ports) return;
    const bool dns = filled(rule.rules->dns);
    for (const PortAst& port : *rule.ports) {
      if (findings_.schema_refused(port.range)) continue;
      const std::string protocol = upper(port.protocol ? port.protocol->text : "ANY");
      const bool unknown = port.protocol && port.protocol->unknown;
      const bool fits = dns ? protocol != "SCTP" : protocol == "TCP";
      if (!fits && !unknown) {
        const SourceRange where = port.protocol ? port.protocol->range : port.range;
        if (dns) {
          findings_
              .refuse_agent(DiagCode::L7NeedsTcp, where, path, "DNS rules do not work with SCTP")
              .help = "write `protocol: UDP`, `TCP` or `ANY`";
        } else {
          findings_
              .refuse_agent(DiagCode::L7NeedsTcp, where, path,
                            port.protocol
                                ? fmt::format("L7 rules work on TCP only, not on `{}`", protocol)
                                : "L7 rules work on TCP only; without `protocol` the port is TCP, "
                                  "UDP and SCTP")
              .help = "write `protocol: TCP`";
        }
      }
      if (port.port && !port.port->unknown && !is_port_name(port.port->text) &&
          parse_port_number(port.port->text) == 0U) {
        findings_
            .refuse_agent(DiagCode::L7PortZero, port.port->range, path,
                          "L7 rules cannot stand on port 0")
            .help = "write the ports that speak the protocol";
      }
    }
  }

  void regex(const std::optional<Text>& text, const std::string& path) {
    if (!text || text->unknown) return;
    std::string error;
    if (ir::valid_regex(text->text, &error)) return;
    Diagnostic& d = findings_.refuse_agent(DiagCode::BadHttpRegex, text->range, path,
                                           fmt::format("`{}` is no RE2 regex", text->text));
    d.notes.push_back(error);
    d.help =
        "RE2 has no look-around and no back references; `*` repeats what stands before it "
        "(`.*` is anything)";
  }

  void http(const List<HttpAst>& rules, const std::string& path) {
    for (std::size_t i = 0; i < rules.size(); ++i) {
      const HttpAst& rule = rules[i];
      const std::string at = fmt::format("{}[{}]", path, i);
      regex(rule.path, at + ".path");
      regex(rule.method, at + ".method");
      for (const Text& header : rule.headers) {
        if (!header.text.empty() && header.text.back() == ':' &&
            header.text.find(' ') == std::string::npos) {
          findings_
              .warn(DiagCode::HeaderColon, header.range, at,
                    fmt::format("the header name keeps its colon and `{}` never matches",
                                header.text))
              .help = "write the bare name to ask for presence, or `Name: value`";
        }
      }
      for (const HeaderMatchAst& match : rule.header_matches) {
        if (!match.secret_name || !match.secret_name->empty() || match.secret_name->unknown) {
          continue;
        }
        findings_
            .refuse_agent(DiagCode::BadHeaderMatch, match.secret_name->range, at,
                          "the name of the header's secret is empty")
            .help = "write the Secret's name";
      }
    }
  }

  void kafka(const List<KafkaAst>& rules, const std::string& path) {
    for (std::size_t i = 0; i < rules.size(); ++i) {
      const KafkaAst& rule = rules[i];
      const std::string at = fmt::format("{}[{}]", path, i);
      const auto set = [](const std::optional<Text>& t) { return t && !t->empty() && !t->unknown; };
      const auto bad = [&](const Text& text, std::string message, std::string help) {
        findings_.refuse_agent(DiagCode::BadKafka, text.range, at, std::move(message)).help =
            std::move(help);
      };
      if (set(rule.role) && set(rule.api_key)) {
        bad(*rule.api_key, "`role` and `apiKey` exclude each other", "keep one of them");
      }
      if (set(rule.api_key) && ir::kafka_api_key(rule.api_key->text) < 0) {
        bad(*rule.api_key, fmt::format("`{}` is no Kafka API key", rule.api_key->text),
            "write `produce`, `fetch`, `metadata`, …");
      }
      if (set(rule.api_version)) {
        const std::string& text = rule.api_version->text;
        int version = -1;
        auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
        if (error != std::errc() || end != text.data() + text.size() || version < 0 ||
            version > 32767) {
          bad(*rule.api_version, fmt::format("`{}` is no Kafka API version", text),
              "write a number in quotes, or leave it out for any version");
        }
      }
      if (set(rule.topic)) {
        const std::string& text = rule.topic->text;
        const bool good = std::all_of(text.begin(), text.end(), [](char c) {
          return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' ||
                 c == '-';
        });
        if (!good) {
          bad(*rule.topic, fmt::format("`{}` is no Kafka topic", text),
              "topics hold letters, digits, `.`, `_` and `-`; there are no wildcards");
        }
      }
    }
  }

  const ir::Settings& settings_;
  const ir::Profile& release_;
  Findings& findings_;
  bool namespaced_;
  bool host_ = false;
};

// Requirement by requirement, as Kubernetes checks label selectors.
void validate_key(const Text& key, const std::string& prefix, const std::string& rule,
                  Findings& findings) {
  if (key.unknown) return;
  const std::string stored = prefix.empty() ? stored_key(key.text) : prefix + key.text;
  if (is_qualified_name(stored)) return;
  findings
      .refuse_agent(DiagCode::BadLabelSelector, key.range, rule,
                    fmt::format("`{}` is no label key", key.text))
      .help =
      "a key is `name` or `prefix/name`: at most 63 letters, digits, `-`, `_`, `.`; the "
      "prefix a DNS name in lower case";
}

void validate_value(const Text& value, const std::string& rule, Findings& findings) {
  if (value.unknown || findings.schema_refused(value.range)) return;
  if (value.text.size() <= 63 && is_label_value(value.text)) return;
  findings
      .refuse_agent(DiagCode::BadLabelSelector, value.range, rule,
                    fmt::format("`{}` is no label value", value.text))
      .help = label_value_hint(value.text);
}

}  // namespace

void validate_selector(const SelectorAst& selector, const std::string& prefix,
                       const std::string& rule, Findings& findings) {
  for (const auto& [key, value] : selector.match_labels) {
    validate_key(key, prefix, rule, findings);
    validate_value(value, rule, findings);
  }
  for (const MatchExpressionAst& e : selector.match_expressions) {
    if (!e.key.empty() || e.key.unknown) validate_key(e.key, prefix, rule, findings);
    const auto bad = [&](SourceRange range, std::string message, std::string help) {
      findings.refuse_agent(DiagCode::BadLabelSelector, range, rule, std::move(message)).help =
          std::move(help);
    };
    if (e.op.unknown || findings.schema_refused(e.op.range)) continue;
    const bool takes_values = e.op.text == "In" || e.op.text == "NotIn";
    const bool takes_none = e.op.text == "Exists" || e.op.text == "DoesNotExist";
    if (!takes_values && !takes_none) {
      bad(e.op.range, fmt::format("`{}` is no selector operator", e.op.text),
          "write `In`, `NotIn`, `Exists` or `DoesNotExist`");
    } else if (takes_values && e.values.empty()) {
      bad(e.range, fmt::format("`{}` needs `values`", e.op.text),
          "list the values, or write `Exists` or `DoesNotExist`");
    } else if (takes_none && !e.values.empty()) {
      bad(e.values.front().range, fmt::format("`{}` takes no `values`", e.op.text),
          "take `values` away, or write `In` or `NotIn`");
    }
    for (const Text& value : e.values) validate_value(value, rule, findings);
  }
}

void validate_port(const PortAst& port, const std::string& rule, Findings& findings) {
  if (findings.schema_refused(port.range)) return;
  if (port.protocol && !port.protocol->unknown) {
    const std::string protocol = upper(port.protocol->text);
    if (protocol != "TCP" && protocol != "UDP" && protocol != "SCTP" && protocol != "ANY" &&
        !protocol.empty()) {
      findings
          .refuse_agent(DiagCode::BadProtocol, port.protocol->range, rule,
                        fmt::format("`{}` is no protocol", port.protocol->text))
          .help = "write `TCP`, `UDP` or `SCTP`; ICMP needs a CiliumNetworkPolicy (`icmps`)";
    }
  }
  if (!port.port || port.port->unknown) return;
  const std::string& text = port.port->text;
  if (is_port_name(text)) return;
  const auto number = parse_port_number(text);
  if (!number || *number > 65535) {
    Diagnostic& d = findings.refuse_agent(
        DiagCode::BadPort, port.port->range, rule,
        number ? fmt::format("port `{}` is over 65535", text)
               : fmt::format("`{}` is neither a port number nor a port name", text));
    const std::size_t dash = text.find('-');
    const bool digits = text.find_first_not_of("0123456789") == std::string::npos;
    if (number) {
      d.help = "write a port from 1 to 65535";
    } else if (digits && text.size() > 1 && text[0] == '0') {
      d.message = fmt::format("`{}` is no port: the leading 0 makes it octal", text);
      d.help = "write the port without leading zeros";
    } else if (dash != std::string::npos && dash > 0 && parse_port_number(text.substr(0, dash))) {
      d.help = fmt::format("write a range as `port: \"{}\"` and `endPort: {}`",
                           text.substr(0, dash), text.substr(dash + 1));
    } else {
      d.help = "a name has 1 to 15 letters, digits and single inner `-`, with one letter at least";
    }
    return;
  }
}

void validate_except(const Text& cidr, const std::vector<Text>& except, bool strict,
                     const std::string& rule, Findings& findings) {
  if (cidr.unknown) return;
  const auto prefix = ir::parse_prefix(cidr.text);
  if (!prefix) {
    Diagnostic& d = findings.refuse_agent(DiagCode::BadCidr, cidr.range, rule,
                                          fmt::format("`{}` is no prefix", cidr.text));
    const auto ip = ir::parse_ip(cidr.text);
    d.help = ip ? fmt::format("write `{}/{}` for one address", cidr.text, ip->bits())
                : "write address/length, such as `10.0.0.0/8`";
    return;
  }
  for (const Text& hole : except) {
    if (hole.unknown || findings.schema_refused(hole.range)) continue;
    const auto inner = ir::parse_prefix(hole.text);
    // Up to 1.19 only the address as written counts, so a wider exception passes.
    const auto address = ir::parse_ip(std::string_view(hole.text).substr(0, hole.text.find('/')));
    const bool inside =
        inner && address && (strict ? prefix->contains(*inner) : prefix->contains(*address));
    if (inside) continue;
    Diagnostic& d = findings.refuse_agent(
        DiagCode::BadExcept, hole.range, rule,
        inner ? fmt::format("`except` {} does not lie in {}", hole.text, cidr.text)
              : fmt::format("`{}` is no prefix", hole.text));
    d.labels.push_back({cidr.range, "the prefix it is taken from"});
    d.help = "an exception is a prefix inside `cidr`, of the same IP family";
  }
}

void validate_cilium(const PolicyAst& policy, const ir::Settings& settings, Findings& findings) {
  CiliumChecks checks(policy, settings, findings);
  for (const RuleAst& rule : policy.rules) checks.rule(rule);
}

}  // namespace policyc::frontend
