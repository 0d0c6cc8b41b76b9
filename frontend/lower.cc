#include "frontend/lower.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "frontend/lower_parts.h"
#include "ir/identity.h"
#include "ir/l7_match.h"

namespace policyc::frontend {

using ir::Operator;
using ir::Peer;
using ir::PeerKind;
using ir::Requirement;
using ir::Selector;

std::string symbol_of(const Text& text, const SourceMap& sources) {
  return text.unknown ? fmt::format("{} at {}", text.text, sources.place(text.range)) : "";
}

namespace {

std::string lower_case(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

Requirement requirement(std::string source, std::string key, Operator op,
                        std::vector<std::string> values, SourceRange range) {
  Requirement r;
  r.source = std::move(source);
  r.key = std::move(key);
  r.op = op;
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  r.values = std::move(values);
  r.range = range;
  return r;
}

Operator parse_operator(const std::string& text) {
  if (text == "In") return Operator::In;
  if (text == "NotIn") return Operator::NotIn;
  if (text == "DoesNotExist") return Operator::DoesNotExist;
  return Operator::Exists;
}

SourceRange join(SourceRange a, SourceRange b) {
  if (!a.known()) return b;
  if (!b.known() || a.file != b.file) return a;
  return {a.file, std::min(a.begin, b.begin), std::max(a.end, b.end)};
}

}  // namespace

Selector lower_selector(const SelectorAst& ast, const SourceMap& sources,
                        const std::string& forced_source, const std::string& key_prefix) {
  Selector out;
  out.range = ast.range;
  auto split = [&](const Text& key) -> std::pair<std::string, std::string> {
    if (!forced_source.empty()) return {forced_source, key_prefix + key.text};
    return ir::split_key(key.text);
  };
  for (const auto& [key, value] : ast.match_labels) {
    auto [source, name] = split(key);
    Requirement r =
        requirement(source, name, Operator::In, {value.text}, join(key.range, value.range));
    r.symbol = key.unknown ? symbol_of(key, sources) : symbol_of(value, sources);
    out.requirements.push_back(std::move(r));
  }
  for (const MatchExpressionAst& e : ast.match_expressions) {
    auto [source, name] = split(e.key);
    std::vector<std::string> values;
    std::string symbol = symbol_of(e.key, sources);
    if (symbol.empty()) symbol = symbol_of(e.op, sources);
    for (const Text& v : e.values) {
      values.push_back(v.text);
      if (symbol.empty()) symbol = symbol_of(v, sources);
    }
    Requirement r = requirement(source, name, parse_operator(e.op.text), values, e.range);
    r.symbol = std::move(symbol);
    out.requirements.push_back(std::move(r));
  }
  // A `cidr:` key names a prefix; IPv6 colons are written as dashes.
  for (Requirement& r : out.requirements) {
    if (r.source != "cidr") continue;
    std::string text = r.key;
    std::replace(text.begin(), text.end(), '-', ':');
    r.cidr = ir::parse_prefix(text, true);
  }
  return out;
}

Requirement namespace_requirement(const std::string& ns) {
  return requirement("k8s", std::string(ir::kNamespaceKey), Operator::In, {ns}, {});
}

Requirement namespace_exists() {
  return requirement("k8s", std::string(ir::kNamespaceKey), Operator::Exists, {}, {});
}

void confine_to_cluster(Selector& selector, const ir::Settings& settings) {
  if (!settings.default_local_cluster && !settings.release().local_cluster_default) return;
  for (const Requirement& r : selector.requirements) {
    if (r.key == ir::kClusterKey || r.source == "reserved") return;
  }
  // The wildcard of a NetworkPolicy stays the wildcard.
  if (selector.wildcard()) return;
  selector.requirements.push_back(requirement("k8s", std::string(ir::kClusterKey), Operator::In,
                                              {settings.cluster_name}, selector.range));
}

Selector reserved_selector(const std::string& name, SourceRange range) {
  return Selector{{requirement("reserved", name, Operator::Exists, {}, range)}, range};
}

Selector cidr_selector(const ir::Prefix& prefix, const ir::Settings& settings, SourceRange range) {
  if (prefix.length == 0 && !settings.kubernetes_semantics) {
    const bool v4 = prefix.address.family == ir::Family::V4;
    const char* world = settings.dual_stack() ? (v4 ? "world-ipv4" : "world-ipv6") : "world";
    return reserved_selector(world, range);
  }
  Requirement r = requirement("cidr", prefix.str(), Operator::Exists, {}, range);
  r.cidr = prefix;
  return Selector{{std::move(r)}, range};
}

namespace {

class CiliumLowering {
 public:
  CiliumLowering(const Loaded& loaded, const LoadedPolicy& policy, std::size_t index,
                 const ir::Settings& settings, ir::PolicySet& out)
      : loaded_(loaded),
        sources_(*loaded.sources),
        policy_(policy),
        index_(index),
        settings_(settings),
        out_(out),
        clusterwide_(policy.ast.kind == PolicyKind::CiliumClusterwideNetworkPolicy) {}

  void run() {
    for (const RuleAst& rule : policy_.ast.rules) lower_rule(rule);
  }

 private:
  // The policy's own namespace; a placeholder there is a symbol.
  Requirement own_namespace() const {
    Requirement r = namespace_requirement(policy_.ns);
    if (policy_.ast.ns) r.symbol = symbol_of(*policy_.ast.ns, sources_);
    return r;
  }
  bool group_unknown(const std::string& name, std::string& symbol) const;
  // A peer of this kind that selects whom we do not know.
  static Peer unknown_peer(Peer peer, const std::string& symbol) {
    Requirement r = requirement("any", peer.text, Operator::Exists, {}, peer.range);
    r.symbol = symbol;
    peer.selector = Selector{{std::move(r)}, peer.range};
    return peer;
  }

  void lower_rule(const RuleAst& ast);
  Selector subject(const SelectorAst& ast);
  Selector peer_selector(const SelectorAst& ast, bool reserved_exit);
  void section(const OptList<RuleItemAst>& items, ir::Direction direction, bool deny,
               const char* name, const RuleAst& rule, ir::Rule& out);
  void peers(const RuleItemAst& ast, ir::RuleItem& item, bool has_l4);
  void entity(const Text& text, ir::RuleItem& item);
  void cidr_set(const CidrSetAst& ast, ir::RuleItem& item);
  bool service(const ServiceAst& ast, ir::RuleItem& item);
  void port_rule(const PortRuleAst& ast, ir::RuleItem& item);
  void icmp(const IcmpAst& ast, ir::RuleItem& item);

  const Loaded& loaded_;
  const SourceMap& sources_;
  const LoadedPolicy& policy_;
  std::size_t index_;
  const ir::Settings& settings_;
  ir::PolicySet& out_;
  bool clusterwide_;
  bool init_subject_ = false;
  std::optional<Requirement> overwritten_;  // by subject()
};

bool is_namespace_key(const Requirement& r) {
  return (r.source == "k8s" || r.source == "any") && r.key == ir::kNamespaceKey;
}

Selector CiliumLowering::subject(const SelectorAst& ast) {
  Selector s = lower_selector(ast, sources_, "", "");
  if (clusterwide_) return s;
  // The policy's namespace overwrites a matchLabel of the very same key.
  const std::size_t labels = ast.match_labels.size();
  for (std::size_t i = 0; i < labels; ++i) {
    const Requirement& r = s.requirements[i];
    if (r.source == "k8s" && r.key == ir::kNamespaceKey) {
      if (r.symbol.empty() && r.values != std::vector<std::string>{policy_.ns}) {
        overwritten_ = r;
      }
      s.requirements.erase(s.requirements.begin() + static_cast<std::ptrdiff_t>(i));
      break;
    }
  }
  s.requirements.push_back(own_namespace());
  return s;
}

// Step by step.
Selector CiliumLowering::peer_selector(const SelectorAst& ast, bool reserved_exit) {
  Selector s = lower_selector(ast, sources_, "", "");
  const auto any = [&](auto test) {
    return std::any_of(s.requirements.begin(), s.requirements.end(), test);
  };
  if (reserved_exit && any([](const Requirement& r) { return r.source == "reserved"; })) return s;
  if (any(is_namespace_key)) {
    const bool negative = !any([](const Requirement& r) {
      return is_namespace_key(r) && (r.op == Operator::In || r.op == Operator::Exists);
    });
    if (negative && settings_.release().positive_namespace) {
      s.requirements.push_back(namespace_exists());
    }
    return s;
  }
  if (clusterwide_) {
    if (!init_subject_) s.requirements.push_back(namespace_exists());
    return s;
  }
  if (any([](const Requirement& r) {
        return (r.source == "k8s" || r.source == "any") &&
               r.key.rfind(ir::kNamespaceLabelsPrefix, 0) == 0;
      })) {
    return s;
  }
  s.requirements.push_back(own_namespace());
  return s;
}

// Whether a CiliumCIDRGroup of the input (any, for an empty name) has a placeholder among its
// prefixes.
bool CiliumLowering::group_unknown(const std::string& name, std::string& symbol) const {
  for (const LoadedPolicy& p : loaded_.policies) {
    if (!p.ast.cidr_group || (!name.empty() && p.ast.name.text != name)) continue;
    for (const Text& cidr : p.ast.cidr_group->cidrs) {
      if (cidr.unknown) symbol = symbol_of(cidr, sources_);
    }
  }
  return !symbol.empty();
}

void CiliumLowering::lower_rule(const RuleAst& ast) {
  ir::Rule rule;
  rule.policy = index_;
  rule.ns = clusterwide_ ? "" : policy_.ns;
  rule.origin = {index_, ast.path, ast.range};
  if (ast.description) rule.description = ast.description->text;
  if (ast.node_selector) {
    // In a CNP it is accepted under `specs`, and has no effect.
    if (!clusterwide_) return;
    rule.host_subject = true;
    rule.subject = lower_selector(*ast.node_selector, sources_, "", "");
  } else if (ast.endpoint_selector) {
    overwritten_.reset();
    rule.subject = subject(*ast.endpoint_selector);
    if (overwritten_) {
      rule.overwritten_ns = overwritten_->values.empty() ? "" : overwritten_->values[0];
      rule.overwritten_range = overwritten_->range;
    }
  }
  init_subject_ =
      std::any_of(rule.subject.requirements.begin(), rule.subject.requirements.end(),
                  [](const Requirement& r) { return r.source == "reserved" && r.key == "init"; });
  if (policy_.ast.ns && policy_.ast.ns->unknown) rule.symbol = symbol_of(*policy_.ast.ns, sources_);

  using ir::Direction;
  section(ast.ingress, Direction::Ingress, false, "ingress", ast, rule);
  section(ast.ingress_deny, Direction::Ingress, true, "ingressDeny", ast, rule);
  section(ast.egress, Direction::Egress, false, "egress", ast, rule);
  section(ast.egress_deny, Direction::Egress, true, "egressDeny", ast, rule);
  const auto some = [](const OptList<RuleItemAst>& list) { return list && !list->empty(); };
  rule.has_ingress = some(ast.ingress) || some(ast.ingress_deny);
  rule.has_egress = some(ast.egress) || some(ast.egress_deny);
  const auto empty = [](const OptList<RuleItemAst>& list) { return list && list->empty(); };
  rule.empty_ingress = empty(ast.ingress);
  rule.empty_egress = empty(ast.egress);
  rule.asked_deny_ingress = ast.default_deny_ingress.value_or(false);
  rule.asked_deny_egress = ast.default_deny_egress.value_or(false);
  rule.default_deny_ingress = ast.default_deny_ingress.value_or(true);
  rule.default_deny_egress = ast.default_deny_egress.value_or(true);
  out_.rules.push_back(std::move(rule));
}

void CiliumLowering::section(const OptList<RuleItemAst>& items, ir::Direction direction, bool deny,
                             const char* name, const RuleAst& rule, ir::Rule& out) {
  if (!items) return;
  for (std::size_t i = 0; i < items->size(); ++i) {
    const RuleItemAst& ast = (*items)[i];
    ir::RuleItem item;
    item.direction = direction;
    item.deny = deny;
    item.origin = {index_, fmt::format("{}.{}[{}]", rule.path, name, i), ast.range};
    const bool has_ports = ast.ports && !ast.ports->empty();
    const bool has_icmps = ast.icmps && !ast.icmps->empty();
    item.all_l4 = !has_ports && !has_icmps;
    if (ast.requires_) {
      for (const SelectorAst& s : *ast.requires_) {
        const Selector lowered = peer_selector(s, false);
        item.requires_.insert(item.requires_.end(), lowered.requirements.begin(),
                              lowered.requirements.end());
      }
    }
    if (ast.authentication && !deny) {
      const std::string& mode = ast.authentication->text;
      item.auth = mode == "required"           ? ir::AuthType::Spire
                  : mode == "test-always-fail" ? ir::AuthType::AlwaysFail
                                               : ir::AuthType::Disabled;
      item.auth_symbol = symbol_of(*ast.authentication, sources_);
    }
    peers(ast, item, has_ports || has_icmps);
    if (has_ports) {
      for (const PortRuleAst& p : *ast.ports) port_rule(p, item);
    }
    if (has_icmps) {
      for (const IcmpAst& p : *ast.icmps) icmp(p, item);
    }
    out.items.push_back(std::move(item));
  }
}

// Nil, empty and filled peer lists mean three different things.
void CiliumLowering::peers(const RuleItemAst& ast, ir::RuleItem& item, bool has_l4) {
  const auto empty = [](const auto& list) { return list && list->empty(); };
  const auto filled = [](const auto& list) { return list && !list->empty(); };
  const bool fqdns = filled(ast.fqdns);
  // An empty list selects nobody, whatever else is there; names survive empty address lists.
  item.empty_peers = empty(ast.endpoints) || empty(ast.nodes) ||
                     ((empty(ast.cidr) || empty(ast.cidr_set) || empty(ast.entities)) && !fqdns);
  if (item.empty_peers) return;

  if (ast.groups) {
    // The operator turns groups into addresses that only the cloud knows.
    const bool from = item.direction == ir::Direction::Ingress;
    Requirement r = requirement("cidr", from ? "fromGroups" : "toGroups", Operator::Exists, {},
                                ast.groups_range);
    r.symbol = fmt::format("the addresses of {} at {}", r.key, sources_.place(ast.groups_range));
    item.peers.push_back({PeerKind::Cidr, Selector{{std::move(r)}, ast.groups_range}, false,
                          ast.groups_range, from ? "fromGroups" : "toGroups"});
    return;
  }
  if (filled(ast.nodes)) {
    for (const SelectorAst& s : *ast.nodes) {
      Peer peer{PeerKind::Node, lower_selector(s, sources_, "", ""), false, s.range, ""};
      peer.text = peer.selector.text();
      item.peers.push_back(std::move(peer));
    }
  }
  if (filled(ast.endpoints)) {
    for (const SelectorAst& s : *ast.endpoints) {
      Peer peer{PeerKind::Endpoint, peer_selector(s, true), true, s.range, ""};
      confine_to_cluster(peer.selector, settings_);
      peer.text = peer.selector.text();
      item.peers.push_back(std::move(peer));
    }
  }
  if (filled(ast.entities)) {
    for (const Text& e : *ast.entities) entity(e, item);
  }
  const auto cidr_peer = [&](const Text& text) {
    Peer peer{PeerKind::Cidr, {}, false, text.range, text.text};
    if (text.unknown) {
      Requirement r = requirement("cidr", text.text, Operator::Exists, {}, text.range);
      r.symbol = symbol_of(text, sources_);
      peer.selector = Selector{{std::move(r)}, text.range};
    } else if (const auto prefix = ir::parse_prefix(text.text, true)) {
      peer.selector = cidr_selector(*prefix, settings_, text.range);
    } else {
      return;
    }
    item.peers.push_back(std::move(peer));
  };
  if (filled(ast.cidr)) {
    for (const Text& c : *ast.cidr) cidr_peer(c);
  }
  if (filled(ast.cidr_set)) {
    for (const CidrSetAst& c : *ast.cidr_set) cidr_set(c, item);
  }
  if (fqdns) {
    for (const FqdnAst& f : *ast.fqdns) {
      const Text& name = f.match_name ? *f.match_name : f.match_pattern ? *f.match_pattern : Text{};
      Requirement r = requirement("fqdn", name.text, Operator::Exists, {}, f.range);
      r.symbol = symbol_of(name, sources_);
      item.peers.push_back(
          {PeerKind::Fqdn, Selector{{std::move(r)}, f.range}, false, f.range, name.text});
    }
  }
  if (filled(ast.services)) {
    bool found = false;
    // In a deny section services are never resolved.
    for (const ServiceAst& s : *ast.services) found = (!item.deny && service(s, item)) || found;
    // Nothing found leaves a peer list that is there but empty: everybody on those ports.
    item.services_unmatched = !found;
    if (!found) item.any_peer = has_l4;
    return;
  }
  const bool no_peer_field =
      !ast.endpoints && !ast.cidr && !ast.cidr_set && !ast.entities && !ast.nodes && !fqdns;
  if (no_peer_field) item.any_peer = has_l4;
}

void CiliumLowering::entity(const Text& text, ir::RuleItem& item) {
  const auto add = [&](Selector s) {
    s.range = text.range;
    item.peers.push_back({PeerKind::Entity, std::move(s), false, text.range, text.text});
  };
  if (text.unknown) {
    Requirement r = requirement("reserved", text.text, Operator::Exists, {}, text.range);
    r.symbol = symbol_of(text, sources_);
    return add(Selector{{std::move(r)}, text.range});
  }
  if (text.text == "all") return add(Selector{});
  if (text.text == "world") {
    for (const char* w : {"world", "world-ipv4", "world-ipv6"}) {
      add(reserved_selector(w, text.range));
    }
    return;
  }
  if (text.text == "cluster") {
    for (const char* e :
         {"host", "remote-node", "init", "ingress", "health", "unmanaged", "kube-apiserver"}) {
      add(reserved_selector(e, text.range));
    }
    add(Selector{{requirement("k8s", std::string(ir::kClusterKey), Operator::In,
                              {settings_.cluster_name}, text.range)},
                 text.range});
    return;
  }
  add(reserved_selector(text.text, text.range));
}

void CiliumLowering::cidr_set(const CidrSetAst& ast, ir::RuleItem& item) {
  Peer peer{PeerKind::Cidr, {}, false, ast.range, ""};
  if (ast.cidr) {
    peer.text = ast.cidr->text;
    if (ast.cidr->unknown) {
      Requirement r = requirement("cidr", ast.cidr->text, Operator::Exists, {}, ast.range);
      r.symbol = symbol_of(*ast.cidr, sources_);
      peer.selector = Selector{{std::move(r)}, ast.range};
    } else if (const auto prefix = ir::parse_prefix(ast.cidr->text)) {
      peer.selector = cidr_selector(*prefix, settings_, ast.range);
    } else {
      return;
    }
  } else if (ast.group_ref) {
    peer.kind = PeerKind::CidrGroup;
    peer.text = "cidrGroup " + ast.group_ref->text;
    Requirement r =
        requirement("cidrgroup", std::string(ir::kCidrGroupNamePrefix) + ast.group_ref->text,
                    Operator::Exists, {}, ast.range);
    r.symbol = symbol_of(*ast.group_ref, sources_);
    if (r.symbol.empty()) group_unknown(ast.group_ref->text, r.symbol);
    peer.selector = Selector{{std::move(r)}, ast.range};
  } else if (ast.group_selector) {
    peer.kind = PeerKind::CidrGroup;
    peer.selector = lower_selector(*ast.group_selector, sources_, "cidrgroup", "");
    peer.text = "cidrGroups " + peer.selector.text();
    // A group whose labels are not known may be selected too.
    std::string symbol;
    if (group_unknown("", symbol)) item.peers.push_back(unknown_peer(peer, symbol));
  }
  for (const Text& e : ast.except) {
    Requirement r = requirement("cidr", e.text, Operator::DoesNotExist, {}, e.range);
    r.symbol = symbol_of(e, sources_);
    if (!e.unknown) {
      const auto prefix = ir::parse_prefix(e.text, true);
      if (!prefix) continue;
      r.key = prefix->str();
      r.cidr = prefix;
    }
    peer.selector.requirements.push_back(std::move(r));
  }
  item.peers.push_back(std::move(peer));
}

// True when some service matches.
bool CiliumLowering::service(const ServiceAst& ast, ir::RuleItem& item) {
  bool found = false;
  for (const auto* t : {&ast.name, &ast.ns}) {
    if (!*t || !(*t)->unknown) continue;
    const Peer asked{PeerKind::Service, {}, false, ast.range, "service " + (*t)->text};
    item.peers.push_back(unknown_peer(asked, symbol_of(**t, sources_)));
    return true;
  }
  const std::string ns = ast.ns ? ast.ns->text : "";
  std::optional<Selector> wanted;
  if (ast.selector) wanted = lower_selector(*ast.selector, sources_, "k8s", "");
  for (const ir::Service& s : loaded_.inventory.services) {
    if (!ns.empty() && s.ns != ns) continue;
    if (wanted) {
      std::vector<ir::Label> labels;
      for (const auto& [key, value] : s.labels) labels.push_back({"k8s", key, value});
      if (!wanted->matches(ir::LabelSet(std::move(labels)))) continue;
    } else if (!ast.name || s.name != ast.name->text) {
      continue;
    }
    found = true;
    const std::string text = fmt::format("service {}/{}", s.ns, s.name);
    if (!s.selector.empty()) {
      Selector selector;
      selector.range = ast.range;
      for (const auto& [key, value] : s.selector) {
        // Keys with a dot are read as `source.key` by this release and match nothing.
        auto [source, name] = ir::split_key(key);
        selector.requirements.push_back(
            requirement(source, name, Operator::In, {value}, ast.range));
      }
      selector.requirements.push_back(namespace_requirement(s.ns));
      item.peers.push_back({PeerKind::Service, std::move(selector), true, ast.range, text});
      continue;
    }
    for (const ir::Endpoints& e : loaded_.inventory.endpoints) {
      if (e.ns != s.ns || e.service != s.name) continue;
      for (const ir::IpAddress& ip : e.addresses) {
        item.peers.push_back({PeerKind::Service,
                              cidr_selector(ir::host_prefix(ip), settings_, ast.range), false,
                              ast.range, text});
      }
    }
  }
  return found;
}

void CiliumLowering::port_rule(const PortRuleAst& ast, ir::RuleItem& item) {
  ir::PortRule out;
  out.range = ast.range;
  for (const PortAst& p : ast.ports.value_or(std::vector<PortAst>{})) {
    for (ir::Port& port : lower_cilium_port(p, sources_)) out.ports.push_back(std::move(port));
  }
  if (ast.rules) out.l7 = lower_l7(*ast.rules, settings_.release(), sources_);
  if (ast.server_names) {
    for (const Text& name : *ast.server_names) {
      out.server_names.push_back(name.unknown ? symbol_of(name, sources_) : name.text);
    }
  }
  const auto secret = [](const std::optional<TlsAst>& tls) {
    if (!tls) return std::string();
    return (tls->secret_namespace ? tls->secret_namespace->text : "") + "/" + tls->secret_name.text;
  };
  out.tls = {secret(ast.terminating_tls), secret(ast.originating_tls)};
  if (ast.listener) {
    ir::Listener l;
    l.kind = ast.listener->envoy_kind ? ast.listener->envoy_kind->text
             : clusterwide_           ? "CiliumClusterwideEnvoyConfig"
                                      : "CiliumEnvoyConfig";
    l.config = ast.listener->envoy_name.text;
    l.name = ast.listener->name.text;
    l.priority = static_cast<int>(ast.listener->priority.value_or(0));
    out.listener = std::move(l);
  }
  item.ports.push_back(std::move(out));
}

void CiliumLowering::icmp(const IcmpAst& ast, ir::RuleItem& item) {
  ir::PortRule out;
  out.range = ast.range;
  for (const IcmpFieldAst& f : ast.fields.value_or(std::vector<IcmpFieldAst>{})) {
    const bool v6 = f.family && f.family->text == "IPv6";
    ir::Port port;
    port.protocol = v6 ? ir::kProtoIcmp6 : ir::kProtoIcmp;
    port.range = f.range;
    const auto type = icmp_type(f.type.text, v6);
    // A type over 255 is accepted and matches nothing; type 0 is every type of the family.
    port.number = static_cast<std::uint16_t>(type.value_or(256));
    port.text = std::to_string(port.number);
    port.symbol = symbol_of(f.type, sources_);
    if (!port.symbol.empty()) port.text = f.type.text;
    if (f.family && f.family->unknown) {
      // One of the two families, we do not know which.
      for (const bool six : {false, true}) {
        port.protocol = six ? ir::kProtoIcmp6 : ir::kProtoIcmp;
        port.symbol = symbol_of(*f.family, sources_) + (six ? " is IPv6" : " is IPv4");
        out.ports.push_back(port);
      }
      continue;
    }
    out.ports.push_back(std::move(port));
  }
  item.ports.push_back(std::move(out));
}

}  // namespace

std::optional<int> icmp_type(const std::string& text, bool v6) {
  int number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size()) return number;
  struct Name {
    const char* name;
    int type;
  };
  static constexpr Name kV4[] = {{"EchoReply", 0},
                                 {"DestinationUnreachable", 3},
                                 {"Redirect", 5},
                                 {"Echo", 8},
                                 {"EchoRequest", 8},
                                 {"RouterAdvertisement", 9},
                                 {"RouterSelection", 10},
                                 {"TimeExceeded", 11},
                                 {"ParameterProblem", 12},
                                 {"Timestamp", 13},
                                 {"TimestampReply", 14},
                                 {"Photuris", 40},
                                 {"ExtendedEchoRequest", 42},
                                 {"ExtendedEchoReply", 43}};
  static constexpr Name kV6[] = {{"DestinationUnreachable", 1},
                                 {"PacketTooBig", 2},
                                 {"TimeExceeded", 3},
                                 {"ParameterProblem", 4},
                                 {"EchoRequest", 128},
                                 {"EchoReply", 129},
                                 {"MulticastListenerQuery", 130},
                                 {"MulticastListenerReport", 131},
                                 {"MulticastListenerDone", 132},
                                 {"RouterSolicitation", 133},
                                 {"RouterAdvertisement", 134},
                                 {"NeighborSolicitation", 135},
                                 {"NeighborAdvertisement", 136},
                                 {"RedirectMessage", 137},
                                 {"RouterRenumbering", 138},
                                 {"ICMPNodeInformationQuery", 139},
                                 {"ICMPNodeInformationResponse", 140},
                                 {"InverseNeighborDiscoverySolicitation", 141},
                                 {"InverseNeighborDiscoveryAdvertisement", 142},
                                 {"HomeAgentAddressDiscoveryRequest", 144},
                                 {"HomeAgentAddressDiscoveryReply", 145},
                                 {"MobilePrefixSolicitation", 146},
                                 {"MobilePrefixAdvertisement", 147},
                                 {"DuplicateAddressRequestCodeSuffix", 157},
                                 {"DuplicateAddressConfirmationCodeSuffix", 158},
                                 {"ExtendedEchoRequest", 160},
                                 {"ExtendedEchoReply", 161}};
  const auto find = [&](const auto& table) -> std::optional<int> {
    for (const Name& n : table) {
      if (text == n.name) return n.type;
    }
    return std::nullopt;
  };
  return v6 ? find(kV6) : find(kV4);
}

// Base 0, as the agent parses: 0x is hexadecimal, a leading 0 octal.
std::optional<std::uint32_t> parse_port_number(const std::string& text) {
  if (text.empty()) return std::nullopt;
  int base = 10;
  std::size_t skip = 0;
  if (text.size() > 1 && text[0] == '0') {
    const char c = text[1];
    base = c == 'x' || c == 'X' ? 16 : c == 'b' || c == 'B' ? 2 : 8;
    skip = base == 8 ? 1 : 2;
    if (c == 'o' || c == 'O') skip = 2;
  }
  std::uint32_t number = 0;
  const char* begin = text.data() + skip;
  const char* last = text.data() + text.size();
  auto [end, error] = std::from_chars(begin, last, number, base);
  if (error != std::errc() || end != last || begin == last) return std::nullopt;
  return number;
}

bool is_port_name(const std::string& text) {
  if (text.empty() || text.size() > 15) return false;
  bool letter = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool digit = c >= '0' && c <= '9';
    letter = letter || alpha;
    if (alpha || digit) continue;
    const bool inner_dash = c == '-' && i > 0 && i + 1 < text.size() && text[i - 1] != '-';
    if (!inner_dash) return false;
  }
  return letter;
}

std::vector<ir::Port> lower_cilium_port(const PortAst& ast, const SourceMap& sources) {
  ir::Port port;
  port.range = ast.range;
  const std::string text = ast.port ? ast.port->text : "0";
  if (ast.port) port.symbol = symbol_of(*ast.port, sources);
  if (!port.symbol.empty()) {
    port.text = text;
    port.end = 0;
  } else if (is_port_name(text)) {
    port.name = text;
    for (char& c : port.name) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    port.text = port.name;
  } else {
    port.number = static_cast<std::uint16_t>(parse_port_number(text).value_or(0));
    port.text = std::to_string(port.number);
  }
  if (port.symbol.empty() && ast.end_port && *ast.end_port > 0 && *ast.end_port <= 65535) {
    port.end = static_cast<std::uint16_t>(*ast.end_port);
  }
  // An inverted range is its first port; `0` with the last port is all ports.
  if (port.name.empty() && port.end <= port.number) {
    const bool inverted = port.end > 0 && port.end < port.number;
    if (port.symbol.empty() && inverted) port.ignored_end = ast.end_port_range;
    port.end = 0;
  }
  if (port.name.empty() && port.number == 0 && port.end == 65535) port.end = 0;
  std::string protocol = ast.protocol ? ast.protocol->text : "ANY";
  for (char& c : protocol) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  if (ast.protocol && ast.protocol->unknown) port.symbol = symbol_of(*ast.protocol, sources);
  std::vector<ir::Protocol> protocols;
  if (protocol == "TCP") {
    protocols = {ir::kProtoTcp};
  } else if (protocol == "UDP") {
    protocols = {ir::kProtoUdp};
  } else if (protocol == "SCTP") {
    protocols = {ir::kProtoSctp};
  } else {
    protocols = {ir::kProtoTcp, ir::kProtoUdp, ir::kProtoSctp};
  }
  std::vector<ir::Port> out;
  for (const ir::Protocol p : protocols) {
    out.push_back(port);
    out.back().protocol = p;
  }
  return out;
}

ir::L7Rules lower_l7(const L7RulesAst& ast, const ir::Profile& release, const SourceMap& sources) {
  ir::L7Rules out;
  const auto text = [](const std::optional<Text>& t) { return t ? t->text : std::string(); };
  const auto filled = [](const auto& list) { return list && !list->empty(); };
  if (filled(ast.http)) {
    out.parser = ir::Parser::Http;
    for (const HttpAst& h : *ast.http) {
      ir::HttpRule rule;
      rule.method = text(h.method);
      rule.path = text(h.path);
      rule.host = text(h.host);
      rule.range = h.range;
      if (h.method) rule.method_range = h.method->range;
      if (h.path) rule.path_range = h.path->range;
      for (const auto* t : {&h.method, &h.path, &h.host}) {
        if (*t && (*t)->unknown) rule.symbol = symbol_of(**t, sources);
      }
      for (const Text& header : h.headers) {
        if (header.unknown) rule.symbol = symbol_of(header, sources);
        rule.headers.push_back(lower_header(header.text));
        rule.headers.back().range = header.range;
      }
      for (const HeaderMatchAst& m : h.header_matches) {
        ir::HeaderMatch match;
        for (const auto* t : {&m.value, &m.mismatch}) {
          if (*t && (*t)->unknown) rule.symbol = symbol_of(**t, sources);
        }
        if (m.name.unknown) rule.symbol = symbol_of(m.name, sources);
        match.name = lower_case(m.name.text);
        if (m.value) match.value = m.value->text;
        match.range = m.value ? m.value->range : m.range;
        match.secret = m.secret_name.has_value();
        const std::string action = text(m.mismatch);
        match.action = action == "LOG"       ? ir::HeaderAction::Log
                       : action == "ADD"     ? ir::HeaderAction::Add
                       : action == "DELETE"  ? ir::HeaderAction::Delete
                       : action == "REPLACE" ? ir::HeaderAction::Replace
                                             : ir::HeaderAction::None;
        rule.headers.push_back(std::move(match));
      }
      out.http.push_back(std::move(rule));
    }
  } else if (filled(ast.kafka)) {
    out.parser = ir::Parser::Kafka;
    for (const KafkaAst& k : *ast.kafka) {
      ir::KafkaRule rule;
      rule.range = k.range;
      for (const auto* t : {&k.role, &k.api_key, &k.api_version, &k.client_id, &k.topic}) {
        if (*t && (*t)->unknown) rule.symbol = symbol_of(**t, sources);
      }
      rule.client_id = text(k.client_id);
      rule.topic = text(k.topic);
      rule.client_id_range = k.client_id ? k.client_id->range : k.range;
      rule.topic_range = k.topic ? k.topic->range : k.range;
      if (k.role) {
        rule.api_keys = ir::kafka_role_keys(k.role->text);
      } else if (k.api_key && !k.api_key->empty()) {
        rule.api_keys = {ir::kafka_api_key(k.api_key->text)};
      }
      if (k.api_version && !k.api_version->empty()) {
        int version = 0;
        const std::string& v = k.api_version->text;
        std::from_chars(v.data(), v.data() + v.size(), version);
        rule.api_version = version;
      }
      out.kafka.push_back(std::move(rule));
    }
  } else if (filled(ast.dns)) {
    out.parser = ir::Parser::Dns;
    for (const FqdnAst& f : *ast.dns) {
      for (const auto* t : {&f.match_name, &f.match_pattern}) {
        if (!*t) continue;
        out.dns.push_back({ir::dns_pattern(release, (*t)->text), symbol_of(**t, sources), f.range});
      }
    }
  } else if (ast.l7proto && !ast.l7proto->empty()) {
    out.parser = ir::Parser::Generic;
    out.proto = ast.l7proto->text;
    for (const auto& fields : ast.l7.value_or(std::vector<List<std::pair<Text, Text>>>{})) {
      ir::GenericRule rule;
      rule.range = ast.range;
      for (const auto& [key, value] : fields) rule.fields.emplace_back(key.text, value.text);
      out.generic.push_back(std::move(rule));
    }
  }
  return out;
}

// "Name value", "Name: value" or "Name": split at the first space; the colon goes only with a
// value.
ir::HeaderMatch lower_header(const std::string& text) {
  ir::HeaderMatch match;
  const std::size_t space = text.find(' ');
  match.name = text.substr(0, space);
  if (space != std::string::npos) {
    match.value = text.substr(space + 1);
    if (!match.name.empty() && match.name.back() == ':') match.name.pop_back();
  }
  match.name = lower_case(match.name);
  return match;
}

ir::PolicySet lower(const Loaded& loaded, const ir::Settings& settings) {
  ir::PolicySet out;
  for (std::size_t i = 0; i < loaded.policies.size(); ++i) {
    const LoadedPolicy& p = loaded.policies[i];
    ir::Policy policy;
    policy.ref = {policy_kind_name(p.ast.kind), p.ns, p.ast.name.text};
    policy.file = p.ast.file == kNoFile ? "" : loaded.sources->path(p.ast.file);
    policy.document = p.ast.document;
    policy.accepted = p.ast.accepted;
    policy.layer = p.ast.layer;
    policy.error = p.ast.error;
    policy.range = p.ast.kind_range.known() ? p.ast.kind_range : p.ast.range;
    policy.set = p.set;
    policy.ns_guessed = !p.ns.empty() && p.ns_source == NamespaceSource::Defaulted;
    out.policies.push_back(std::move(policy));
    if (!p.ast.accepted) continue;
    // Another network plugin knows nothing of Cilium's kinds.
    if (settings.kubernetes_semantics && p.ast.kind != PolicyKind::NetworkPolicy) continue;
    switch (p.ast.kind) {
      case PolicyKind::CiliumNetworkPolicy:
      case PolicyKind::CiliumClusterwideNetworkPolicy:
        CiliumLowering(loaded, p, i, settings, out).run();
        break;
      case PolicyKind::NetworkPolicy:
        lower_netpol(loaded, p, i, settings, out);
        break;
      case PolicyKind::CiliumCidrGroup:
        break;
    }
  }
  return out;
}

}  // namespace policyc::frontend
