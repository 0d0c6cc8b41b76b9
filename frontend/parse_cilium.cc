// CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy: tree to AST, as the CRD's schema sees it.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "frontend/read_parts.h"
#include "ir/base/diag_code.h"

namespace policyc::frontend {
namespace {

constexpr std::size_t kMaxPorts = 40;
constexpr std::size_t kMaxIcmpFields = 40;

bool letter(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0;
}
bool digit(char c) {
  return c >= '0' && c <= '9';
}

// The CRD's pattern binds less than it seems: a number at the start, or a name at the end.
bool is_schema_port(std::string_view text) {
  if (text.empty()) return false;
  if (digit(text.front())) return true;
  for (std::size_t i = text.size(); i-- > 0;) {
    if (letter(text[i])) return true;
    if (digit(text[i])) continue;
    const bool inner = text[i] == '-' && i + 1 < text.size() && text[i + 1] != '-';
    if (!inner) return false;
  }
  return false;
}

bool is_name_with(std::string_view text, std::string_view extra) {
  bool after_dot = true;  // a dot needs something before it
  if (text.empty()) return false;
  for (char c : text) {
    if (c == '.') {
      if (after_dot) return false;
      after_dot = true;
    } else if (letter(c) || digit(c) || extra.find(c) != std::string_view::npos) {
      after_dot = false;
    } else {
      return false;
    }
  }
  return true;
}
bool is_dns_name(std::string_view text) {
  return is_name_with(text, "-_");
}
bool is_dns_pattern(std::string_view text) {
  return is_name_with(text, "-_*");
}
bool is_filled(std::string_view text) {
  return !text.empty();
}

// The names that the CRD's pattern lists; `ExtendedEchoReply` is misspelt there.
bool is_schema_icmp_type(std::string_view text) {
  static constexpr std::string_view kNames[] = {"EchoReply",
                                                "DestinationUnreachable",
                                                "Redirect",
                                                "Echo",
                                                "RouterAdvertisement",
                                                "RouterSelection",
                                                "TimeExceeded",
                                                "ParameterProblem",
                                                "Timestamp",
                                                "TimestampReply",
                                                "Photuris",
                                                "ExtendedEchoRequest",
                                                "ExtendedEcho Reply",
                                                "PacketTooBig",
                                                "EchoRequest",
                                                "MulticastListenerQuery",
                                                "MulticastListenerReport",
                                                "MulticastListenerDone",
                                                "RouterSolicitation",
                                                "NeighborSolicitation",
                                                "NeighborAdvertisement",
                                                "RedirectMessage",
                                                "RouterRenumbering",
                                                "ICMPNodeInformationQuery",
                                                "ICMPNodeInformationResponse",
                                                "InverseNeighborDiscoverySolicitation",
                                                "InverseNeighborDiscoveryAdvertisement",
                                                "HomeAgentAddressDiscoveryRequest",
                                                "HomeAgentAddressDiscoveryReply",
                                                "MobilePrefixSolicitation",
                                                "MobilePrefixAdvertisement",
                                                "DuplicateAddressRequestCodeSuffix",
                                                "DuplicateAddressConfirmationCodeSuffix"};
  if (std::find(std::begin(kNames), std::end(kNames), text) != std::end(kNames)) return true;
  if (text.empty() || text.size() > 3 || !std::all_of(text.begin(), text.end(), digit))
    return false;
  int value = 0;
  for (char c : text) value = value * 10 + (c - '0');
  return value <= 255 && (text.size() == 1 || text.front() != '0');
}

StringRule cidr_rule() {
  return {{}, 0, is_cidr, "a CIDR", cidr_hint};
}

std::string dns_name_hint(std::string_view text) {
  if (text.find("://") != std::string_view::npos) return "write the host name alone";
  if (text.find('*') != std::string_view::npos) {
    return fmt::format("write `matchPattern: \"{}\"`", text);
  }
  return "write the name as in a URL: letters, digits, `-`, `_` and single dots";
}

struct Section {
  std::string_view key;
  bool ingress;
  bool deny;
};
constexpr Section kSections[] = {{"ingress", true, false},
                                 {"ingressDeny", true, true},
                                 {"egress", false, false},
                                 {"egressDeny", false, true}};

bool any_port(const RuleItemAst& item) {
  if (!item.ports) return false;
  return std::any_of(item.ports->begin(), item.ports->end(),
                     [](const PortRuleAst& rule) { return rule.ports && !rule.ports->empty(); });
}

// What an item means once the API server has dropped its unknown fields.
std::string what_is_left(const RuleItemAst& item, const Section& section) {
  const auto empty = [](const auto& list) { return list && list->empty(); };
  const auto filled = [](const auto& list) { return list && !list->empty(); };
  const bool nobody = empty(item.endpoints) || empty(item.cidr) || empty(item.cidr_set) ||
                      empty(item.entities) || empty(item.nodes);
  const bool peers = filled(item.endpoints) || filled(item.cidr) || filled(item.cidr_set) ||
                     filled(item.entities) || filled(item.nodes) || filled(item.fqdns) ||
                     filled(item.services) || item.groups;
  const bool ports = filled(item.ports);
  const bool icmps = filled(item.icmps);
  const std::string_view dropped = "the API server drops the field; ";
  if (nobody || (!peers && !ports && !icmps) || (ports && !any_port(item))) {
    if (section.deny) {
      return fmt::format("{}what is left denies nothing (fails open)", dropped);
    }
    return fmt::format("{}what is left lets nothing through (fails closed)", dropped);
  }
  const std::string_view verb = section.deny ? "denies" : "lets";
  const std::string_view through = section.deny ? "" : " through";
  const std::string_view fails = section.deny ? "" : " (fails open)";
  const std::string_view l4 = ports ? " on these ports" : icmps ? " with these ICMP types" : "";
  if (!peers) {
    return fmt::format("{}what is left {} every peer{}{}{}", dropped, verb, through, l4, fails);
  }
  if (!ports && !icmps) {
    return fmt::format("{}what is left {} its peers{} on every port and protocol{}", dropped, verb,
                       through, fails);
  }
  return fmt::format("{}what is left {} its other peers{}{}", dropped, verb, through, l4);
}

class CiliumReader {
 public:
  CiliumReader(const ir::Settings& settings, Findings& findings)
      : release_(settings.release()), findings_(findings) {}

  RuleAst rule(const Cursor& at) {
    Fields f(findings_, at);
    RuleAst out;
    out.path = at.path;
    out.range = at.range();
    f.exactly_one({"endpointSelector", "nodeSelector"},
                  "write `endpointSelector: {}` to select every pod in scope");
    out.endpoint_selector = selector(f, "endpointSelector");
    out.node_selector = selector(f, "nodeSelector");
    bool any_section = false;
    for (const Section& section : kSections) {
      auto items =
          f.each(section.key, [&](const Cursor& item) { return rule_item(item, section); });
      any_section = any_section || items.has_value();
      target(out, section) = std::move(items);
    }
    if (release_.section_required && !any_section && f.is_mapping()) {
      findings_
          .refuse_schema(DiagCode::MissingField, at.range(), at.path,
                         "the rule has neither `ingress` nor `egress`, nor a deny section")
          .help = "write the section that the rule is about, or delete the rule";
    }
    if (auto edd = f.field("enableDefaultDeny")) {
      Fields e(findings_, *edd);
      out.default_deny_ingress = e.boolean("ingress");
      out.default_deny_egress = e.boolean("egress");
      e.finish();
    }
    out.description = f.text("description");
    f.each("labels", [&](const Cursor& item) {
      Fields label(findings_, item);
      label.required_text("key");
      label.text("value");
      label.text("source");
      label.know("cidr");
      label.finish();
      return 0;
    });
    if (release_.minor >= 18) {
      if (auto log = f.field("log")) {
        Fields l(findings_, *log);
        l.text("value");
        l.finish();
      }
    }
    f.finish({{"podSelector", "write `endpointSelector`; `podSelector` belongs to NetworkPolicy"},
              {"policyTypes",
               "leave it out; a direction is isolated by the presence of its rules, see "
               "`enableDefaultDeny`"}},
             [&]() -> std::string {
               if (any_section) {
                 return "the API server drops the field; the rule's other sections stay in force";
               }
               return "the API server drops the field; the rule is left without ingress and egress "
                      "and restricts nothing (fails open)";
             });
    return out;
  }

 private:
  static OptList<RuleItemAst>& target(RuleAst& rule, const Section& section) {
    if (section.ingress) return section.deny ? rule.ingress_deny : rule.ingress;
    return section.deny ? rule.egress_deny : rule.egress;
  }

  std::optional<SelectorAst> selector(Fields& f, std::string_view key) {
    auto at = f.field(key);
    if (!at) return std::nullopt;
    return read_selector(findings_, *at, true);
  }
  OptList<SelectorAst> selectors(Fields& f, std::string_view key) {
    return f.each(key, [&](const Cursor& at) { return read_selector(findings_, at, true); });
  }

  RuleItemAst rule_item(const Cursor& at, const Section& section) {
    Fields f(findings_, at);
    RuleItemAst out;
    out.range = at.range();
    const bool in = section.ingress;
    out.endpoints = selectors(f, in ? "fromEndpoints" : "toEndpoints");
    if (release_.requires_fields) {
      const std::string_view key = in ? "fromRequires" : "toRequires";
      out.requires_ = selectors(f, key);
      if (auto requires_at = f.field(key)) {
        findings_
            .warn(DiagCode::DeprecatedField, requires_at->range(), at.path,
                  fmt::format("`{}` is deprecated; Cilium 1.19 drops it and the rule then holds "
                              "for every peer that its other fields name",
                              key))
            .help = "write the required labels into each peer selector, or use a deny section";
      }
    }
    out.cidr = f.text_list(in ? "fromCIDR" : "toCIDR", cidr_rule());
    out.cidr_set = f.each(in ? "fromCIDRSet" : "toCIDRSet",
                          [&](const Cursor& item) { return cidr_set(item); });
    out.entities = f.text_list(in ? "fromEntities" : "toEntities",
                               {{"all", "world", "cluster", "host", "init", "ingress", "unmanaged",
                                 "remote-node", "health", "none", "kube-apiserver"}});
    out.nodes = selectors(f, in ? "fromNodes" : "toNodes");
    groups(f, in ? "fromGroups" : "toGroups", out);
    if (!in) {
      out.services = f.each("toServices", [&](const Cursor& item) { return service(item); });
      if (!section.deny) {
        out.fqdns = f.each("toFQDNs", [&](const Cursor& item) { return fqdn(item); });
      }
    }
    out.ports =
        f.each("toPorts", [&](const Cursor& item) { return port_rule(item, section.deny); });
    out.icmps = f.each("icmps", [&](const Cursor& item) { return icmp(item); });
    if (!section.deny) {
      if (auto auth = f.field("authentication")) {
        Fields a(findings_, *auth);
        out.authentication =
            a.required_text("mode", {{"disabled", "required", "test-always-fail"}});
        a.finish();
      }
    }
    null_peers(f, at, section);
    finish_item(f, out, section);
    return out;
  }

  // `fromEndpoints:` with nothing after it: the API server drops it, and the item speaks of
  // everybody, where `[]` would name nobody.
  void null_peers(const Fields& f, const Cursor& at, const Section& section) {
    using Keys = std::vector<std::string_view>;
    static const Keys kFrom = {"fromEndpoints", "fromCIDR",  "fromCIDRSet",
                               "fromEntities",  "fromNodes", "fromGroups"};
    static const Keys kTo = {"toEndpoints", "toCIDR",   "toCIDRSet",  "toEntities",
                             "toNodes",     "toGroups", "toServices", "toFQDNs"};
    const YamlEntry* null = nullptr;
    for (const std::string_view key : section.ingress ? kFrom : kTo) {
      if (f.written(key)) return;
      if (null == nullptr) null = at.node().find(key);
    }
    if (null == nullptr) return;
    findings_
        .warn(DiagCode::NullPeerList, null->key_range, at.path,
              fmt::format("`{}` without a value is the same as no `{}`: this item {} everybody",
                          null->key, null->key, section.deny ? "denies" : "allows"))
        .help = "write the list, or take the field out if that is meant";
  }

  void finish_item(Fields& f, const RuleItemAst& item, const Section& section) {
    std::vector<Fields::Elsewhere> words;
    if (section.ingress) {
      words = {
          {"from", "write `fromEndpoints`; `from` belongs to NetworkPolicy"},
          {"to", "write `toPorts` for ports, or move the peers to `egress`"},
          {"toEndpoints", "`toEndpoints` belongs in `egress`; in `ingress` write `fromEndpoints`"},
          {"toCIDR", "`toCIDR` belongs in `egress`; in `ingress` write `fromCIDR`"},
          {"toCIDRSet", "`toCIDRSet` belongs in `egress`; in `ingress` write `fromCIDRSet`"},
          {"toEntities", "`toEntities` belongs in `egress`; in `ingress` write `fromEntities`"},
          {"toServices", "`toServices` belongs in `egress`"},
          {"toFQDNs", "`toFQDNs` belongs in `egress`"},
          {"fromFQDNs", "names work in `egress` only (`toFQDNs`)"}};
    } else {
      words = {
          {"to", "write `toEndpoints`; `to` belongs to NetworkPolicy"},
          {"from", "move the peers to `ingress`, or write `toEndpoints`"},
          {"fromEndpoints",
           "`fromEndpoints` belongs in `ingress`; in `egress` write `toEndpoints`"},
          {"fromCIDR", "`fromCIDR` belongs in `ingress`; in `egress` write `toCIDR`"},
          {"fromCIDRSet", "`fromCIDRSet` belongs in `ingress`; in `egress` write `toCIDRSet`"},
          {"fromEntities", "`fromEntities` belongs in `ingress`; in `egress` write `toEntities`"},
          {"toFQDNs", "names cannot be denied; use `toCIDR`, or allow only the names wanted"}};
    }
    words.push_back({"ports", "write `toPorts: [{ports: […]}]`; `ports` belongs to NetworkPolicy"});
    words.push_back({"podSelector", "write it as an item of `fromEndpoints` or `toEndpoints`"});
    words.push_back({"namespaceSelector",
                     "write `matchLabels: {k8s:io.kubernetes.pod.namespace: …}` in the peer"});
    words.push_back({"ipBlock", section.ingress ? "write `fromCIDRSet`" : "write `toCIDRSet`"});
    words.push_back({"rules", "`rules` belongs in an item of `toPorts`, beside `ports`"});
    if (section.deny) {
      words.push_back({"authentication", "a deny rule takes no `authentication`"});
      words.push_back({"auth", "a deny rule takes no `authentication`"});
    } else {
      words.push_back({"auth", "write `authentication`"});
    }
    if (!release_.requires_fields) {
      words.push_back({"fromRequires", "gone since Cilium 1.19: write the labels into each peer"});
      words.push_back({"toRequires", "gone since Cilium 1.19: write the labels into each peer"});
    }
    f.finish(words, [&] { return what_is_left(item, section); });
  }

  void groups(Fields& f, std::string_view key, RuleItemAst& out) {
    auto at = f.field(key);
    auto items = f.list(key);
    if (!items) return;
    out.groups = !items->empty();
    out.groups_range = at->range();
    for (const Cursor& item : *items) {
      Fields group(findings_, item);
      if (auto aws = group.field("aws")) {
        Fields a(findings_, *aws);
        a.text_map("labels");
        a.text_list("securityGroupsIds");
        a.text_list("securityGroupsNames");
        a.text("region");
        a.finish();
      }
      group.finish();
    }
  }

  CidrSetAst cidr_set(const Cursor& at) {
    Fields f(findings_, at);
    CidrSetAst out;
    out.range = at.range();
    f.exactly_one({"cidr", "cidrGroupRef", "cidrGroupSelector"},
                  "write `cidr`, `cidrGroupRef` or `cidrGroupSelector`");
    out.cidr = f.text("cidr", cidr_rule());
    out.group_ref = f.text("cidrGroupRef", {{}, 253, is_subdomain, "an object name"});
    out.group_selector = selector(f, "cidrGroupSelector");
    out.except = f.text_list("except", cidr_rule()).value_or(std::vector<Text>{});
    f.finish({{"except_cidr", "write `except`"}, {"exclude", "write `except`"}},
             [] { return "the API server drops the field; the prefix then holds in full"; });
    return out;
  }

  FqdnAst fqdn(const Cursor& at) {
    Fields f(findings_, at);
    FqdnAst out;
    out.range = at.range();
    f.exactly_one({"matchName", "matchPattern"},
                  "write `matchName: www.example.com` or `matchPattern: \"*.example.com\"`");
    out.match_name = f.text("matchName", {{}, 255, is_dns_name, "a DNS name", dns_name_hint});
    out.match_pattern = f.text(
        "matchPattern", {{}, 255, is_dns_pattern, "a DNS name with `*` in it", dns_name_hint});
    f.finish({{"name", "write `matchName`"}, {"pattern", "write `matchPattern`"}});
    return out;
  }

  ServiceAst service(const Cursor& at) {
    Fields f(findings_, at);
    ServiceAst out;
    out.range = at.range();
    if (auto by_name = f.field("k8sService")) {
      Fields s(findings_, *by_name);
      out.name = s.text("serviceName");
      out.ns = s.text("namespace");
      s.finish({{"name", "write `serviceName`"}});
    }
    if (auto by_label = f.field("k8sServiceSelector")) {
      Fields s(findings_, *by_label);
      out.selector = selector(s, "selector");
      if (!out.selector && s.is_mapping()) {
        findings_.refuse_schema(DiagCode::MissingField, by_label->range(), by_label->path,
                                "`selector` is missing");
      }
      out.ns = s.text("namespace");
      s.finish();
    }
    f.finish();
    return out;
  }

  IcmpAst icmp(const Cursor& at) {
    Fields f(findings_, at);
    IcmpAst out;
    out.range = at.range();
    out.fields = f.each(
        "fields",
        [&](const Cursor& item) {
          Fields field(findings_, item);
          IcmpFieldAst one;
          one.range = item.range();
          one.family = field.text("family", {{"IPv4", "IPv6"}});
          bool numeric = false;
          auto type = field.int_or_string("type", &numeric);
          if (!type) {
            one.type = {"", item.range(), false};
            if (field.is_mapping()) {
              findings_.refuse_schema(DiagCode::MissingField, item.range(), item.path,
                                      "`type` is missing");
            }
          } else {
            one.type = *type;
            if (!numeric && !type->unknown && !findings_.schema_refused(type->range) &&
                !is_schema_icmp_type(type->text)) {
              findings_
                  .refuse_schema(DiagCode::BadFormat, type->range, item.path,
                                 fmt::format("`{}` is no ICMP type", type->text))
                  .help = "write the number (8 is EchoRequest; 128 for IPv6)";
            }
          }
          field.finish();
          return one;
        },
        kMaxIcmpFields);
    f.finish({{"type", "`type` belongs in an item of `fields`"},
              {"family", "`family` belongs in an item of `fields`"}});
    return out;
  }

  std::optional<TlsAst> tls(Fields& f, std::string_view key) {
    auto at = f.field(key);
    if (!at) return std::nullopt;
    Fields t(findings_, *at);
    TlsAst out;
    out.range = at->range();
    t.text("certificate");
    t.text("privateKey");
    t.text("trustedCA");
    if (auto secret = t.field("secret")) {
      Fields s(findings_, *secret);
      out.secret_name = s.required_text("name");
      out.secret_namespace = s.text("namespace");
      s.finish();
    } else if (t.is_mapping()) {
      findings_.refuse_schema(DiagCode::MissingField, at->range(), at->path, "`secret` is missing");
    }
    t.finish();
    return out;
  }

  PortRuleAst port_rule(const Cursor& at, bool deny) {
    Fields f(findings_, at);
    PortRuleAst out;
    out.range = at.range();
    // The schema limits the ports of allow rules only; the agent limits both.
    out.ports = f.each(
        "ports", [&](const Cursor& item) { return port(item); }, deny ? 0 : kMaxPorts);
    std::vector<Fields::Elsewhere> words = {
        {"port", "`port` belongs in an item of `ports`"},
        {"protocol", "`protocol` belongs in an item of `ports`"}};
    if (deny) {
      for (std::string_view key :
           {"rules", "serverNames", "listener", "terminatingTLS", "originatingTLS"}) {
        words.push_back({key, "a deny rule works on ports only; allow what is wanted instead"});
      }
    } else {
      out.terminating_tls = tls(f, "terminatingTLS");
      out.originating_tls = tls(f, "originatingTLS");
      out.server_names = f.text_list("serverNames");
      if (auto listener_at = f.field("listener")) out.listener = listener(*listener_at);
      if (auto rules_at = f.field("rules")) out.rules = rules(*rules_at);
      for (std::string_view key : {"http", "kafka", "dns"}) {
        words.push_back({key, "it belongs below `rules`"});
      }
    }
    const bool ports = out.ports && !out.ports->empty();
    f.finish(words, [&]() -> std::string {
      if (!ports) {
        return "the API server drops the field; a port rule without `ports` lets nothing through "
               "(fails closed)";
      }
      if (deny) return "the API server drops the field; these ports are denied for any request";
      return "the API server drops the field; these ports are open without it (fails open)";
    });
    return out;
  }

  ListenerAst listener(const Cursor& at) {
    Fields f(findings_, at);
    ListenerAst out;
    out.range = at.range();
    if (auto envoy = f.field("envoyConfig")) {
      Fields e(findings_, *envoy);
      out.envoy_kind = e.text("kind", {{"CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig"}});
      out.envoy_name = e.required_text("name", {{}, 0, is_filled, "a name"});
      e.finish();
    } else if (f.is_mapping()) {
      findings_.refuse_schema(DiagCode::MissingField, at.range(), at.path,
                              "`envoyConfig` is missing");
    }
    out.name = f.required_text("name", {{}, 0, is_filled, "a name"});
    out.priority = f.integer("priority", 1, 100);
    f.finish();
    return out;
  }

  PortAst port(const Cursor& at) {
    Fields f(findings_, at);
    PortAst out;
    out.range = at.range();
    if (f.is_mapping()) {
      out.port = f.required_text("port", {{}, 0, is_schema_port, "a port number or name"});
    }
    out.protocol = f.text("protocol", {{"TCP", "UDP", "SCTP", "ANY"}});
    if (auto end = f.field("endPort")) out.end_port_range = end->range();
    out.end_port = f.integer("endPort", 0, 65535);
    f.finish({{"proto", "write `protocol`"},
              {"name", "write the name as `port`"},
              {"targetPort", "write `port`; policies see the port of the pod"}},
             [&]() -> std::string {
               if (!out.protocol) {
                 return "the API server drops the field; without `protocol` the port is meant for "
                        "TCP, UDP and SCTP";
               }
               return "the API server drops the field";
             });
    return out;
  }

  L7RulesAst rules(const Cursor& at) {
    Fields f(findings_, at);
    L7RulesAst out;
    out.range = at.range();
    if (release_.kafka_rules && release_.generic_l7) {
      f.exactly_one({"http", "kafka", "dns", "l7proto"},
                    "write `http`, `kafka`, `dns` or `l7proto`, or take `rules` away");
    } else {
      f.exactly_one({"http", "dns"}, "write `http` or `dns`, or take `rules` away");
    }
    out.http = f.each("http", [&](const Cursor& item) { return http(item); });
    out.dns = f.each("dns", [&](const Cursor& item) { return fqdn(item); });
    if (release_.kafka_rules) {
      out.kafka = f.each("kafka", [&](const Cursor& item) { return kafka(item); });
    }
    if (release_.generic_l7) {
      out.l7proto = f.text("l7proto");
      out.l7 = f.each("l7", [&](const Cursor& item) { return l7_map(item); });
    }
    f.finish({{"kafka", "Kafka rules are gone since Cilium 1.20"},
              {"l7proto", "generic L7 rules are gone since Cilium 1.20"},
              {"l7", "generic L7 rules are gone since Cilium 1.20"}});
    return out;
  }

  List<std::pair<Text, Text>> l7_map(const Cursor& at) {
    List<std::pair<Text, Text>> out;
    if (!at.node().is_mapping()) {
      Fields only_reports(findings_, at);
      return out;
    }
    for (const YamlEntry& entry : at.node().entries) {
      out.emplace_back(
          Text{std::string(entry.key), entry.key_range, false},
          read_text(findings_, {entry.value, fmt::format("{}.{}", at.path, entry.key)}));
    }
    return out;
  }

  HttpAst http(const Cursor& at) {
    Fields f(findings_, at);
    HttpAst out;
    out.range = at.range();
    out.path = f.text("path");
    out.method = f.text("method");
    out.host = f.text("host");
    out.headers = f.text_list("headers").value_or(std::vector<Text>{});
    out.header_matches = f.each("headerMatches", [&](const Cursor& item) {
                            return header_match(item);
                          }).value_or(std::vector<HeaderMatchAst>{});
    f.finish({{"header", "write `headers`"},
              {"paths", "write one rule for each `path`"},
              {"methods", "write one rule for each, or a regex: `method: \"GET|HEAD\"`"}},
             [] {
               return "the API server drops the field; the rule then lets more requests through "
                      "(fails open)";
             });
    return out;
  }

  HeaderMatchAst header_match(const Cursor& at) {
    Fields f(findings_, at);
    HeaderMatchAst out;
    out.range = at.range();
    out.name = f.required_text("name", {{}, 0, is_filled, "a header name"});
    out.value = f.text("value");
    out.mismatch = f.text("mismatch", {{"LOG", "ADD", "DELETE", "REPLACE"}});
    if (auto secret = f.field("secret")) {
      Fields s(findings_, *secret);
      out.secret_name = s.required_text("name");
      out.secret_namespace = s.text("namespace");
      s.finish();
    }
    f.finish();
    return out;
  }

  KafkaAst kafka(const Cursor& at) {
    Fields f(findings_, at);
    KafkaAst out;
    out.range = at.range();
    out.role = f.text("role", {{"produce", "consume"}});
    out.api_key = f.text("apiKey");
    out.api_version = f.text("apiVersion");
    out.client_id = f.text("clientID");
    out.topic = f.text("topic", {{}, 255, nullptr, ""});
    f.finish();
    return out;
  }

  const ir::Profile& release_;
  Findings& findings_;
};

}  // namespace

void read_cilium(Fields& object, PolicyAst& policy, const ir::Settings& settings,
                 Findings& findings) {
  CiliumReader reader(settings, findings);
  auto spec = object.field("spec");
  if (spec) policy.rules.push_back(reader.rule(*spec));
  auto specs = object.each("specs", [&](const Cursor& at) { return reader.rule(at); });
  if (specs) {
    for (RuleAst& rule : *specs) policy.rules.push_back(std::move(rule));
  }
  if (!spec && specs && specs->empty()) {
    findings
        .warn(DiagCode::EmptySpecs, object.range(), "specs",
              "`specs` is empty: the policy has no rule and no effect")
        .help = "write a rule, or delete the object";
  }
  if (!spec && !object.written("specs")) {
    findings
        .refuse_agent(DiagCode::EmptyPolicy, policy.kind_range, "",
                      "the policy has neither `spec` nor `specs`")
        .help = "write `spec` with an `endpointSelector` and rules";
  }
}

}  // namespace policyc::frontend
