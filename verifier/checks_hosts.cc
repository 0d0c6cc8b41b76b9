#include <fmt/format.h>

#include <algorithm>

#include "ir/base/diag_code.h"
#include "verifier/checks_context.h"

namespace policyc::checks {
namespace {

using ir::Direction;

// Whether an item in force with the rule lets `who` through on the port. Rules that may or may not
// select the same endpoints count.
bool may_allow(const Context& c, const ir::Rule& rule, Direction direction, const ir::LabelSet& who,
               ir::Protocol protocol, std::uint16_t port) {
  for (const ir::Rule* other : c.companions(rule, false)) {
    if (!c.subjects_may_meet(rule, *other)) continue;
    for (const ir::RuleItem& item : other->items) {
      if (item.direction != direction || !item_may_allow(item, protocol, port)) continue;
      if (item.any_peer) return true;
      for (const ir::Peer& p : item.peers) {
        if (has_symbol(p.selector) || p.selector.matches(who)) return true;
      }
    }
  }
  return false;
}

// What a node needs from the others and from the API server.
struct NodePort {
  const char* what;
  ir::Protocol protocol;
  std::uint16_t port;
};
constexpr NodePort kNodePorts[] = {
    {"the API server (6443/TCP)", ir::kProtoTcp, 6443},
    {"the kubelet (10250/TCP)", ir::kProtoTcp, 10250},
    {"etcd (2379/TCP)", ir::kProtoTcp, 2379},
    {"VXLAN (8472/UDP)", ir::kProtoUdp, 8472},
    {"Cilium's health checks (4240/TCP)", ir::kProtoTcp, 4240},
};

void host_policy(Context& c, const ir::Rule& rule) {
  if (!rule.has_ingress && !rule.has_egress) return;
  if (!c.world.settings.host_firewall) {
    c.report(DiagCode::HostFirewallOff, rule, c.key_range(rule.origin.range, "nodeSelector"),
             "this host policy has no effect unless the host firewall is on")
        .help = "give `--host-firewall` if the cluster has it turned on";
  }
  if (!denies_by_default(rule, Direction::Ingress)) return;
  const auto stopped = [&](const ir::LabelSet& who) {
    std::string list;
    for (const NodePort& p : kNodePorts) {
      if (may_allow(c, rule, Direction::Ingress, who, p.protocol, p.port)) continue;
      list += (list.empty() ? "" : ", ") + std::string(p.what);
    }
    return list;
  };
  const std::string near = stopped(ir::LabelSet({{"reserved", "remote-node", ""}}));
  const std::string far = stopped(ir::LabelSet(
      {{"reserved", "world", ""}, {"reserved", "world-ipv4", ""}, {"reserved", "world-ipv6", ""}}));
  if (near.empty() && far.empty()) return;
  Diagnostic& d =
      c.report(DiagCode::HostPolicyStops, rule, c.key_range(rule.origin.range, "nodeSelector"),
               "these nodes get default deny for ingress");
  if (!near.empty()) d.notes.push_back("stops from other nodes: " + near);
  if (!far.empty()) d.notes.push_back("stops from outside the cluster: " + far);
  d.help =
      "allow what is needed, from `remote-node`, `kube-apiserver` and the networks that use it";
}

// The empty selector of a clusterwide policy, where ingress or health endpoints lose something.
void catches_reserved(Context& c, const ir::Rule& rule) {
  if (!c.is_clusterwide(rule) || rule.host_subject || !rule.subject.wildcard()) return;
  static const ir::LabelSet kWorld(
      {{"reserved", "world", ""}, {"reserved", "world-ipv4", ""}, {"reserved", "world-ipv6", ""}});
  static const ir::LabelSet kHealth({{"reserved", "health", ""}});
  static const ir::LabelSet kNode({{"reserved", "remote-node", ""}});
  static const ir::LabelSet kIngress({{"reserved", "ingress", ""}});
  // Rules that select the reserved endpoint itself, whatever its labels.
  const auto allowed = [&](const ir::LabelSet& endpoint, Direction direction,
                           const ir::LabelSet& who) {
    for (const ir::Rule* other : c.companions(rule, false)) {
      if (other->host_subject || !other->subject.matches(endpoint)) continue;
      for (const ir::RuleItem& item : other->items) {
        if (item.direction != direction || item.deny || !contributes(item)) continue;
        if (item.any_peer) return true;
        for (const ir::Peer& p : item.peers) {
          if (has_symbol(p.selector) || p.selector.matches(who)) return true;
        }
      }
    }
    return false;
  };
  std::vector<std::string> lost;
  if (denies_by_default(rule, Direction::Ingress)) {
    if (!allowed(kIngress, Direction::Ingress, kWorld)) {
      lost.push_back(
          "ingress endpoints (Ingress, Gateway API) take nothing from outside: `world` "
          "is not allowed");
    }
    if (!allowed(kHealth, Direction::Ingress, kNode)) {
      lost.push_back("health endpoints answer no other node: `remote-node` is not allowed");
    }
  }
  if (lost.empty()) return;
  Diagnostic& d =
      c.report(DiagCode::CatchesReserved, rule,
               rule.subject.range.known() ? rule.subject.range : rule.origin.range,
               "the empty endpointSelector also selects Cilium's ingress and health endpoints, and "
               "kube-system");
  d.notes = std::move(lost);
  d.help =
      "select pods by `{key: io.kubernetes.pod.namespace, operator: Exists}`, or allow the "
      "reserved endpoints what they need";
}

void stops_probes(Context& c, const ir::Rule& rule) {
  if (rule.host_subject || c.world.settings.allow_localhost_policy) return;
  static const ir::LabelSet kHost({{"reserved", "host", ""}});
  for (const ir::RuleItem& item : rule.items) {
    if (!item.deny || item.direction != Direction::Ingress || !item.all_l4) continue;
    for (const ir::Peer& p : item.peers) {
      if (has_symbol(p.selector) || !p.selector.matches(kHost)) continue;
      Diagnostic& d =
          c.report(DiagCode::DenyStopsProbes, rule, p.range,
                   fmt::format("this denies the local host, so the kubelet's probes of these pods "
                               "fail"),
                   item.origin.path);
      if (p.text == "cluster" || p.selector.wildcard()) {
        d.notes.push_back("`cluster` and `all` include the host and the other nodes");
      }
      d.help = "deny pods by `fromEndpoints` in place of the entity";
      break;
    }
  }
}

}  // namespace

void check_hosts(Context& c) {
  for (const ir::Rule& rule : c.rules()) {
    if (rule.host_subject) host_policy(c, rule);
    catches_reserved(c, rule);
    stops_probes(c, rule);
  }
}

}  // namespace policyc::checks
