#include <fmt/format.h>

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
  return has_symbol(s) || mentions_reserved(s) ||
         std::none_of(s.requirements.begin(), s.requirements.end(), own_condition) ||
         std::any_of(s.requirements.begin(), s.requirements.end(), [&](const ir::Requirement& r) {
           return (r.op == ir::Operator::In || r.op == ir::Operator::Exists) &&
                  (!ir::is_identity_label(c.world.settings, "k8s", r.key) || r.key == "namespace");
         });
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

void deny_by_name(Context& c, const ir::Rule& rule, const ir::RuleItem& item) {
  const ir::NamedPorts everywhere = ir::egress_ports(c.world.inventory);
  for (const ir::PortRule& ports : item.ports) {
    for (const ir::Port& p : ports.ports) {
      if (p.name.empty() || !p.symbol.empty()) continue;
      // A name for any protocol is three entries; one that resolves is enough.
      const auto known = [&](const ir::NamedPorts& table) {
        for (const ir::Port& q : ports.ports) {
          if (q.range == p.range && table.find(q.name, q.protocol)) return true;
        }
        return false;
      };
      bool found = false;
      if (item.direction == Direction::Egress) {
        found = known(everywhere);
      } else {
        for (std::size_t i = 0; i < c.pods.size() && !found; ++i) {
          found = rule.subject.matches(c.pods[i]) &&
                  known(ir::ingress_ports(c.world.inventory.pods[i]));
        }
      }
      if (found) continue;
      c.report(DiagCode::DenyPortUnknown, rule, p.range,
               fmt::format("no container port is called `{}`, so this denies nothing", p.name),
               item.origin.path)
          .help = "write the number, or name the container port";
    }
  }
}

// Rules that one pod's endpoint cannot merge.
void conflicts(Context& c) {
  const ir::Inventory& inv = c.world.inventory;
  std::set<std::vector<const ir::Rule*>> seen;
  std::set<std::vector<ir::Origin>> said;
  for (std::size_t i = 0; i < inv.pods.size(); ++i) {
    if (inv.pods[i].host_network) continue;
    std::map<std::string, std::vector<const ir::Rule*>> by_set;
    for (const ir::Rule& rule : c.rules()) {
      if (rule.host_subject || c.has_alternatives[rule.policy] != 0 || !rule.symbol.empty())
        continue;
      const std::string& set = c.policy_of(rule).set;
      if (!inv.pods[i].set.empty() && inv.pods[i].set != set) continue;
      if (has_symbol(rule.subject) || !rule.subject.matches(c.pods[i])) continue;
      by_set[set].push_back(&rule);
    }
    for (auto& [set, rules] : by_set) {
      if (!seen.insert(rules).second) continue;
      for (const Direction d : {Direction::Ingress, Direction::Egress}) {
        const ir::EndpointPolicy merged = ir::merge_rules(
            rules, d, c.world.settings, ir::LabelSet({{"reserved", "host", ""}}), false, false);
        if (merged.error.empty() || merged.error_origins.empty()) continue;
        if (!said.insert(merged.error_origins).second) continue;
        const ir::Origin& at = merged.error_origins.back();
        const ir::Rule* rule = rules[0];
        for (const ir::Rule* r : rules) {
          if (r->policy == at.policy) rule = r;
        }
        Diagnostic& out =
            c.report(DiagCode::ConflictFreezes, *rule, at.range,
                     fmt::format("rules for {} conflict, and its endpoint keeps its old policy: {}",
                                 inv.pods[i].full_name(), merged.error),
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
  }
}

}  // namespace

void check_inventory(Context& c) {
  if (!c.world.inventory.pods.empty()) conflicts(c);
  if (!c.complete) return;
  for (const ir::Rule& rule : c.rules()) {
    if (!rule.symbol.empty()) continue;
    if (!rule.host_subject) {
      selects_nobody(c, rule, rule.subject, DiagCode::SubjectSelectsNobody, "the policy", "");
    }
    for (const ir::RuleItem& item : rule.items) {
      for (const ir::Peer& peer : item.peers) {
        if (peer.kind == ir::PeerKind::Endpoint) {
          selects_nobody(c, rule, peer.selector, DiagCode::PeerSelectsNobody, "this peer",
                         item.origin.path);
        }
        if (peer.kind == ir::PeerKind::Cidr) cidr_of_member(c, rule, item, peer);
      }
      if (item.deny && !rule.host_subject) deny_by_name(c, rule, item);
      if (item.services_unmatched && item.any_peer && !item.deny) {
        c.report(DiagCode::ServiceNotFound, rule, item.origin.range,
                 "no service matches, so these ports are open to everybody", item.origin.path)
            .help = "correct the service's name or namespace";
      }
    }
  }
}

}  // namespace policyc::checks
