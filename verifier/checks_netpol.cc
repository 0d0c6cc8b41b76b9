#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "ir/base/diag_code.h"
#include "ir/identity.h"
#include "verifier/checks_context.h"

namespace policyc::checks {
namespace {

using ir::Direction;

// `spec.ingress[0].from[1]` → `spec.ingress[0].from`.
std::string list_of(const std::string& path) {
  return path.substr(0, path.rfind('['));
}

bool selects_namespaces_only(const ir::Peer& p) {
  return !p.selector.requirements.empty() &&
         std::all_of(p.selector.requirements.begin(), p.selector.requirements.end(),
                     [](const ir::Requirement& r) {
                       return r.key.rfind(ir::kNamespaceLabelsPrefix, 0) == 0;
                     });
}

bool selects_pods_only(const ir::Peer& p) {
  bool pods = false;
  for (const ir::Requirement& r : p.selector.requirements) {
    if (r.key.rfind(ir::kNamespaceLabelsPrefix, 0) == 0) return false;
    if (r.key == ir::kNamespaceKey) continue;
    pods = true;
  }
  return pods && p.kind == ir::PeerKind::Endpoint;
}

void alternatives(Context& c, const ir::Rule& rule) {
  std::map<std::string, std::vector<const ir::RuleItem*>> lists;
  for (const ir::RuleItem& item : rule.items) {
    if (item.peers.size() == 1 && item.origin.path.back() == ']') {
      lists[list_of(item.origin.path)].push_back(&item);
    }
  }
  for (const auto& [path, items] : lists) {
    // Exactly these two: longer lists are enumerations.
    if (items.size() != 2) continue;
    const ir::Peer &first = items[0]->peers[0], &second = items[1]->peers[0];
    const bool reversed = selects_pods_only(first) && selects_namespaces_only(second);
    if (!reversed && (!selects_namespaces_only(first) || !selects_pods_only(second))) continue;
    Diagnostic& d = c.report(
        DiagCode::PeersAreAlternatives, rule, second.range,
        "two items mean either: every pod of these namespaces, or such pods of the own namespace",
        items[1]->origin.path);
    d.labels.push_back(
        {(reversed ? second : first).range, "every pod of these namespaces is allowed"});
    d.help = "where both must hold, put both selectors into one item";
  }
}

}  // namespace

void check_netpol(Context& c) {
  for (const ir::Rule& rule : c.rules()) {
    if (!c.is_netpol(rule)) continue;
    const auto unlisted = [&](Direction direction) {
      const std::string key(ir::direction_name(direction));
      Diagnostic& d = c.report(
          DiagCode::NotInPolicyTypes, rule, c.key_range(rule.origin.range, key),
          fmt::format(
              "policyTypes does not list {}: Kubernetes ignores these rules, Cilium enforces "
              "them",
              direction == Direction::Ingress ? "Ingress" : "Egress"),
          "spec." + key);
      d.labels.push_back({c.key_range(rule.origin.range, "policyTypes"), "listed here"});
      d.help = "list the direction, or delete its rules";
    };
    if (rule.unlisted_ingress) unlisted(Direction::Ingress);
    if (rule.unlisted_egress) unlisted(Direction::Egress);
    for (const ir::RuleItem& item : rule.items) {
      if (!item.empty_peers) continue;
      const char* key = item.direction == Direction::Ingress ? "from" : "to";
      c.report(DiagCode::EmptyPeersMeanAll, rule, c.key_range(item.origin.range, key),
               fmt::format("`{}: []` means everybody, addresses outside the cluster included", key),
               item.origin.path)
          .help = "write `podSelector: {}` where only pods of the own namespace are meant";
    }
    alternatives(c, rule);
  }
}

}  // namespace policyc::checks
