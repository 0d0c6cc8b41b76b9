#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "ir/base/diag_code.h"
#include "ir/filters.h"
#include "ir/identity.h"
#include "verifier/checks_context.h"

namespace policyc::checks {
namespace {

using ir::Direction;

bool own_condition(const ir::Requirement& r) {
  return r.range.known();  // conditions that lowering added have no place
}

bool mentions_reserved(const ir::Selector& s) {
  return std::any_of(s.requirements.begin(), s.requirements.end(), [](const ir::Requirement& r) {
    return r.source != "any" && r.source != "k8s";
  });
}

// The first condition that no pod meets, the others aside.
const ir::Requirement* impossible(const Context& c, const ir::Selector& s) {
  for (const ir::Requirement& r : s.requirements) {
    if (!own_condition(r)) continue;
    if (std::none_of(c.pods.begin(), c.pods.end(),
                     [&](const ir::LabelSet& pod) { return r.matches(pod); })) {
      return &r;
    }
  }
  return nullptr;
}

bool selects_some_pod(const Context& c, const ir::Selector& s, bool host_network_too) {
  for (std::size_t i = 0; i < c.pods.size(); ++i) {
    if (!host_network_too && c.world.inventory.pods[i].host_network) continue;
    if (s.matches(c.pods[i])) return true;
  }
  return false;
}

// "no pod has `app=web`", in the words of the manifest.
std::string nobody_has(const ir::Requirement& r) {
  ir::Requirement plain = r;
  plain.source = "any";
  const bool of_namespace = r.key.rfind(ir::kNamespaceLabelsPrefix, 0) == 0;
  if (of_namespace) plain.key = r.key.substr(ir::kNamespaceLabelsPrefix.size());
  return fmt::format("no {} has `{}`", of_namespace ? "pod's namespace" : "pod", plain.str());
}

// Findings that selectors make already without an inventory.
bool told_otherwise(const Context& c, const ir::Selector& s) {
  return has_symbol(s) || mentions_reserved(s) || contradiction(s) ||
         std::none_of(s.requirements.begin(), s.requirements.end(), own_condition) ||
         std::any_of(s.requirements.begin(), s.requirements.end(), [&](const ir::Requirement& r) {
           return (r.op == ir::Operator::In || r.op == ir::Operator::Exists) &&
                  (!ir::is_identity_label(c.world.settings, "k8s", r.key) || r.key == "namespace");
         });
}

// Where the pods are that the selector would select if lowering had not confined it to the
// namespace of the policy; sorted, without repetitions.
std::vector<std::string> other_namespaces(const Context& c, const ir::Selector& s) {
  ir::Selector anywhere = s;
  std::erase_if(anywhere.requirements, [](const ir::Requirement& r) {
    return r.key == ir::kNamespaceKey && !own_condition(r);
  });
  std::set<std::string> out;
  for (std::size_t i = 0; i < c.pods.size(); ++i) {
    const ir::Pod& pod = c.world.inventory.pods[i];
    if (!pod.host_network && anywhere.matches(c.pods[i])) out.insert(pod.ns);
  }
  return {out.begin(), out.end()};
}

// The remedy for a selector that looks in the wrong namespace.
std::string look_there(const Context& c, const ir::Rule& rule, DiagCode code,
                       const std::vector<std::string>& where) {
  std::string out = fmt::format("such pods are in `{}`", fmt::join(where, "` and `"));
  if (code == DiagCode::SubjectSelectsNobody) return out + ": move the policy there";
  out += c.is_netpol(rule)
             ? ": add `namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: "
             : fmt::format(": add `k8s:{}: ", ir::kNamespaceKey);
  return out + where.front() + (c.is_netpol(rule) ? "}}`" : "`");
}

void selects_nobody(Context& c, const ir::Rule& rule, const ir::Selector& s, DiagCode code,
                    const char* what, const std::string& path) {
  if (told_otherwise(c, s) || selects_some_pod(c, s, false)) return;
  const ir::Requirement* r = impossible(c, s);
  const bool host_network = selects_some_pod(c, s, true);
  Diagnostic& d =
      c.report(code, rule, r != nullptr && !host_network ? r->range : s.range,
               r != nullptr && !host_network
                   ? fmt::format("{} selects nobody: {}", what, nobody_has(*r))
                   : fmt::format("{} selects nobody among the pods of this inventory", what),
               path);
  if (host_network) {
    d.notes.push_back("pods on the host network have these labels, and are no endpoints");
    d.help = "use the entities `host` and `remote-node`";
  } else if (const auto where = other_namespaces(c, s); !where.empty() && where.size() <= 3) {
    d.help = look_there(c, rule, code, where);
  } else {
    d.help = "correct the labels; `policyc dump identities` shows what pods carry";
  }
}

void cidr_of_member(Context& c, const ir::Rule& rule, const ir::RuleItem& item,
                    const ir::Peer& peer) {
  if (has_symbol(peer.selector) || peer.selector.requirements.empty()) return;
  const auto& prefix = peer.selector.requirements[0].cidr;
  if (!prefix || prefix->length != prefix->address.bits()) return;
  const auto has = [&](const std::vector<ir::IpAddress>& ips) {
    return std::find(ips.begin(), ips.end(), prefix->address) != ips.end();
  };
  std::string who, help;
  for (const ir::Pod& pod : c.world.inventory.pods) {
    if (pod.synthetic_ip || pod.host_network || !has(pod.ips)) continue;
    who = fmt::format("pod {}", pod.full_name());
    help = "select the pod by its labels";
  }
  for (const ir::Node& node : c.world.inventory.nodes) {
    if (c.world.settings.cidr_match_nodes || !has(node.addresses)) continue;
    who = fmt::format("node {}", node.name);
    help = "use the entities `host`, `remote-node` or `kube-apiserver`";
  }
  if (who.empty()) return;
  c.report(
       DiagCode::CidrOfMember, rule, peer.range,
       fmt::format("`{}` is the address of {}, which address rules never match", peer.text, who),
       item.origin.path)
      .help = help;
}

// Port names that lead nowhere: an allow by such a name lets nothing through, a deny stops nothing.
void port_names(Context& c, const ir::Rule& rule, const ir::RuleItem& item) {
  const ir::Inventory& inv = c.world.inventory;
  const bool some = std::any_of(item.ports.begin(), item.ports.end(), [](const ir::PortRule& r) {
    return std::any_of(r.ports.begin(), r.ports.end(),
                       [](const ir::Port& p) { return !p.name.empty() && p.symbol.empty(); });
  });
  if (!some) return;
  std::vector<const ir::Pod*> declaring;  // pods whose names count
  for (std::size_t i = 0; i < inv.pods.size(); ++i) {
    const bool counts = item.direction == Direction::Egress ||
                        (!inv.pods[i].host_network && rule.subject.matches(c.pods[i]));
    if (counts) declaring.push_back(&inv.pods[i]);
  }
  if (declaring.empty()) return;  // the rule selects nobody: said elsewhere
  std::optional<ir::NamedPorts> everywhere;
  for (const ir::PortRule& ports : item.ports) {
    for (const ir::Port& p : ports.ports) {
      if (p.name.empty() || !p.symbol.empty()) continue;
      // A name for any protocol is three entries; one that resolves is enough.
      std::vector<ir::Protocol> protocols;
      for (const ir::Port& q : ports.ports) {
        if (q.range == p.range && q.name == p.name) protocols.push_back(q.protocol);
      }
      std::map<ir::Protocol, std::map<std::uint16_t, std::string>> numbers;
      for (const ir::Pod* pod : declaring) {
        for (const ir::ContainerPort& port : pod->ports) {
          const bool asked =
              std::find(protocols.begin(), protocols.end(), port.protocol) != protocols.end();
          if (port.name == p.name && asked)
            numbers[port.protocol].emplace(port.port, pod->full_name());
        }
      }
      bool found = false;
      if (item.direction == Direction::Egress) {
        if (!everywhere) everywhere = ir::egress_ports(inv);
        for (const ir::Protocol protocol : protocols) {
          found = found || everywhere->find(p.name, protocol).has_value();
        }
      } else {
        found = !numbers.empty();
      }
      if (found) continue;
      const char* verb = item.deny ? "denies" : "allows";
      if (numbers.empty()) {
        const char* whose = item.direction == Direction::Egress ? "" : " of these pods";
        c.report(item.deny ? DiagCode::DenyPortUnknown : DiagCode::AllowPortUnknown, rule, p.range,
                 fmt::format("no container port{} is called `{}`, so this {} nothing", whose,
                             p.name, verb),
                 item.origin.path)
            .help = "write the number, or name the container port";
        continue;
      }
      const auto& two = numbers.begin()->second;
      if (two.size() < 2) continue;
      const auto& [first, first_pod] = *two.begin();
      const auto& [second, second_pod] = *std::next(two.begin());
      Diagnostic& d = c.report(
          DiagCode::PortNameAmbiguous, rule, p.range,
          fmt::format("`{}` is port {} of {} and port {} of {}: a name with two numbers {} nothing",
                      p.name, first, first_pod, second, second_pod, verb),
          item.origin.path);
      d.notes.emplace_back("names in egress rules are looked up among all pods of the cluster");
      d.help = "write the number";
    }
  }
}

const ir::Service* service_of(const Context& c, const ir::Peer& peer) {
  for (const ir::Service& s : c.world.inventory.services) {
    if (peer.text == fmt::format("service {}/{}", s.ns, s.name)) return &s;
  }
  return nullptr;
}

// The numbers that a Service's port leads to; a name is looked up in its pods, all of which must be
// known. Empty: nobody knows.
std::set<std::uint16_t> targets(const Context& c, const ir::Peer& peer,
                                const ir::ServicePort& port) {
  if (port.target_name.empty()) return {port.target_port != 0 ? port.target_port : port.port};
  std::set<std::uint16_t> out;
  if (!c.complete) return out;
  for (std::size_t i = 0; i < c.pods.size(); ++i) {
    if (!peer.selector.matches(c.pods[i])) continue;
    for (const ir::ContainerPort& p : c.world.inventory.pods[i].ports) {
      if (p.name == port.target_name && p.protocol == port.protocol) out.insert(p.port);
    }
  }
  return out;
}

// toServices beside the Service's own port: policy looks once the Service's address and port have
// been replaced by a pod's.
void service_ports(Context& c, const ir::Rule& rule, const ir::RuleItem& item) {
  for (const ir::PortRule& ports : item.ports) {
    for (const ir::Port& p : ports.ports) {
      if (p.number == 0 || p.end != 0 || !p.name.empty() || !p.symbol.empty()) continue;
      const ir::Service* wrong = nullptr;
      std::set<std::uint16_t> meant;
      bool reached = false;
      for (const ir::Peer& peer : item.peers) {
        const ir::Service* service =
            peer.kind == ir::PeerKind::Service ? service_of(c, peer) : nullptr;
        if (service == nullptr || service->selector.empty() || service->ports.empty()) {
          reached = true;  // nobody knows
          continue;
        }
        for (const ir::ServicePort& port : service->ports) {
          const auto numbers = targets(c, peer, port);
          if (numbers.empty() || numbers.count(p.number) != 0) {
            reached = true;
          } else if (port.port == p.number) {
            wrong = service;
            meant.insert(numbers.begin(), numbers.end());
          }
        }
      }
      if (reached || wrong == nullptr) continue;
      Diagnostic& d = c.report(
          DiagCode::ServicePortNotTarget, rule, p.range,
          fmt::format("{} is the port of Service {}/{}, whose pods listen on {}: policy sees the "
                      "port of the pods, so this {} nothing",
                      p.text, wrong->ns, wrong->name, fmt::join(meant, " and "),
                      item.deny ? "denies" : "allows"),
          item.origin.path);
      if (wrong->range.known()) d.labels.push_back({wrong->range, "the Service"});
      d.help = fmt::format("write `{}`", fmt::join(meant, "` and `"));
    }
  }
}

void missing_services(Context& c, const ir::Rule& rule, const ir::RuleItem& item) {
  if (!item.services_unmatched) return;
  if (item.deny) {
    // Whoever is named: Cilium never looks Services up in a deny section.
    c.report(DiagCode::ServicesInDeny, rule, item.origin.range,
             item.any_peer ? "`toServices` is never looked up in a deny section: this denies "
                             "everybody on these ports"
                           : "`toServices` is never looked up in a deny section: this denies "
                             "nothing",
             item.origin.path)
        .help = "deny by `toEndpoints` with the labels of the Service's pods";
    return;
  }
  if (!c.complete) return;
  if (item.any_peer) {
    c.report(DiagCode::ServiceNotFound, rule, item.origin.range,
             "no service matches, so these ports are open to everybody", item.origin.path)
        .help = "correct the service's name or namespace";
  } else if (!c.world.inventory.services.empty()) {
    c.report(DiagCode::ServiceMissing, rule, item.origin.range,
             "no service matches, so this allows nothing", item.origin.path)
        .help = "correct the service's name or namespace";
  }
}

// Packets to a Service's address carry a pod's by the time policy looks.
void cidr_of_service(Context& c, const ir::Rule& rule, const ir::RuleItem& item,
                     const ir::Peer& peer) {
  if (item.direction != Direction::Egress || c.world.settings.kubernetes_semantics) return;
  if (has_symbol(peer.selector) || peer.selector.requirements.empty()) return;
  const auto& prefix = peer.selector.requirements[0].cidr;
  if (!prefix || prefix->length != prefix->address.bits()) return;
  for (const ir::Service& s : c.world.inventory.services) {
    if (std::find(s.cluster_ips.begin(), s.cluster_ips.end(), prefix->address) ==
        s.cluster_ips.end()) {
      continue;
    }
    Diagnostic& d = c.report(
        DiagCode::CidrOfService, rule, peer.range,
        fmt::format("`{}` is the address of Service {}/{}: connections are sent on to its back "
                    "ends before policy looks, so this never matches",
                    peer.text, s.ns, s.name),
        item.origin.path);
    if (s.range.known()) d.labels.push_back({s.range, "the Service"});
    d.help = s.selector.empty() ? "allow the addresses of its back ends"
                                : "select its pods by `toEndpoints`, with the pods' port";
    return;
  }
}

// Rules that one endpoint cannot merge: Cilium keeps its old policy.
class Conflicts {
 public:
  explicit Conflicts(Context& c) : c_(c) {}

  // For each pod of the inventory, the rules that select it.
  void of_pods() {
    const ir::Inventory& inv = c_.world.inventory;
    std::map<std::string, std::vector<const ir::Rule*>> by_namespace;  // "": of all
    for (const ir::Rule& rule : c_.rules()) {
      if (certain(rule) && !has_symbol(rule.subject)) by_namespace[rule.ns].push_back(&rule);
    }
    for (std::size_t i = 0; i < inv.pods.size(); ++i) {
      if (inv.pods[i].host_network) continue;
      std::map<std::string, std::vector<const ir::Rule*>> by_set;
      for (const std::string& ns : {std::string(), inv.pods[i].ns}) {
        const auto found = by_namespace.find(ns);
        if (found == by_namespace.end()) continue;
        for (const ir::Rule* rule : found->second) {
          const std::string& set = c_.policy_of(*rule).set;
          if (!inv.pods[i].set.empty() && inv.pods[i].set != set) continue;
          if (rule->subject.matches(c_.pods[i])) by_set[set].push_back(rule);
        }
      }
      // In the order in which they stand: it says which of two is named first.
      for (auto& [set, rules] : by_set) std::sort(rules.begin(), rules.end());
      for (auto& [set, rules] : by_set)
        merge(rules, *rules[0], inv.pods[i].full_name(), "its endpoint keeps its");
    }
  }

  // For the endpoints of each rule, whoever they are, the rules that surely select them, too.
  void of_subjects() {
    for (const ir::Rule& rule : c_.rules()) {
      if (!certain(rule) || !may_conflict(rule)) continue;
      std::vector<const ir::Rule*> rules;
      for (const ir::Rule* other : c_.companions(rule, true)) {
        if (!certain(*other) || !may_conflict(*other)) continue;
        if (!c_.deployed_together(rule, *other)) continue;
        if (c_.subject_covers(*other, rule)) rules.push_back(other);
      }
      merge(rules, rule, fmt::format("the endpoints of `{}`", c_.policy_of(rule).ref.name),
            "they keep their");
    }
  }

 private:
  bool certain(const ir::Rule& rule) const {
    return !rule.host_subject && c_.has_alternatives[rule.policy] == 0 && rule.symbol.empty();
  }
  static bool may_conflict(const ir::Rule& rule) {
    return std::any_of(rule.items.begin(), rule.items.end(), [](const ir::RuleItem& item) {
      return item.auth || std::any_of(item.ports.begin(), item.ports.end(), [](const auto& p) {
               return p.l7.parser != ir::Parser::None || p.listener || !p.server_names.empty() ||
                      p.tls != ir::TlsContext{};
             });
    });
  }

  void merge(const std::vector<const ir::Rule*>& rules, const ir::Rule& otherwise,
             const std::string& who, const char* keeps) {
    if (!seen_.insert(rules).second) return;
    for (const Direction d : {Direction::Ingress, Direction::Egress}) {
      const ir::EndpointPolicy merged = ir::merge_rules(
          rules, d, c_.world.settings, ir::LabelSet({{"reserved", "host", ""}}), false, false);
      if (merged.error.empty() || merged.error_origins.empty()) continue;
      if (!said_.insert(merged.error_origins).second) continue;
      const ir::Origin& at = merged.error_origins.back();
      const ir::Rule* rule = &otherwise;
      for (const ir::Rule* r : rules) {
        if (r->policy == at.policy) rule = r;
      }
      Diagnostic& out = c_.report(
          DiagCode::ConflictFreezes, *rule, at.range,
          fmt::format("rules for {} conflict, and {} old policy: {}", who, keeps, merged.error),
          at.path);
      for (std::size_t k = 0; k + 1 < merged.error_origins.size(); ++k) {
        const SourceRange other = merged.error_origins[k].range;
        const bool said_already =
            other == out.range || std::any_of(out.labels.begin(), out.labels.end(),
                                              [&](const auto& l) { return l.range == other; });
        if (!said_already) out.labels.push_back({other, "in conflict with this"});
      }
      out.help = "use one kind of L7 rule and one authentication mode for each port";
    }
  }

  Context& c_;
  std::set<std::vector<const ir::Rule*>> seen_;
  std::set<std::vector<ir::Origin>> said_;
};

}  // namespace

void check_inventory(Context& c) {
  Conflicts conflicts(c);
  conflicts.of_pods();
  conflicts.of_subjects();
  for (const ir::Rule& rule : c.rules()) {
    if (!rule.symbol.empty()) continue;
    if (c.complete && !rule.host_subject) {
      selects_nobody(c, rule, rule.subject, DiagCode::SubjectSelectsNobody, "the policy", "");
    }
    for (const ir::RuleItem& item : rule.items) {
      missing_services(c, rule, item);
      service_ports(c, rule, item);
      for (const ir::Peer& peer : item.peers) {
        if (peer.kind == ir::PeerKind::Cidr) cidr_of_service(c, rule, item, peer);
        if (!c.complete) continue;
        if (peer.kind == ir::PeerKind::Endpoint) {
          selects_nobody(c, rule, peer.selector, DiagCode::PeerSelectsNobody, "this peer",
                         item.origin.path);
        }
        if (peer.kind == ir::PeerKind::Cidr) cidr_of_member(c, rule, item, peer);
      }
      if (c.complete && !rule.host_subject) port_names(c, rule, item);
    }
  }
}

}  // namespace policyc::checks
