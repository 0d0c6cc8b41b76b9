#include <fmt/format.h>

#include <algorithm>

#include "ir/base/diag_code.h"
#include "ir/identity.h"
#include "verifier/checks_context.h"

namespace policyc::checks {
namespace {

bool pod_source(const ir::Requirement& r) {
  return r.source == "any" || r.source == "k8s";
}

bool positive(const ir::Requirement& r) {
  return r.op == ir::Operator::In || r.op == ir::Operator::Exists;
}

// A key that people take for the namespace of a pod.
bool misread_as_namespace(const ir::Requirement& r) {
  return pod_source(r) && (r.key == "namespace" || r.key == "kubernetes.io/metadata.name") &&
         r.op == ir::Operator::In && r.values.size() == 1;
}

bool some_pod_has(const Context& c, const std::string& key) {
  return std::any_of(c.pods.begin(), c.pods.end(),
                     [&](const ir::LabelSet& pod) { return pod.has("any", key); });
}

// The key of `key: value`, without its quotes, which the requirement's range begins with; nothing
// where it does not.
std::optional<SourceRange> written_key(const Context& c, const ir::Requirement& r) {
  std::string_view text = c.sources.slice(r.range);
  const bool quoted = !text.empty() && (text.front() == '"' || text.front() == '\'');
  const char quote = quoted ? text.front() : '\0';
  if (quoted) text.remove_prefix(1);
  for (const std::string& form : {r.key, "k8s:" + r.key, "any:" + r.key}) {
    if (text.substr(0, form.size()) != form || text.size() <= form.size()) continue;
    const char next = text[form.size()];
    if (quoted ? next != quote : next != ':' && next != ' ') continue;
    const std::uint32_t begin = r.range.begin + (quoted ? 1 : 0);
    return SourceRange{r.range.file, begin, begin + static_cast<std::uint32_t>(form.size())};
  }
  return std::nullopt;
}

void namespace_as_label(Context& c, const ir::Rule& rule, const ir::RuleItem& item,
                        const ir::Peer& peer) {
  const auto& requirements = peer.selector.requirements;
  // Whoever also writes the true label means a label of the pod.
  const bool written = std::any_of(requirements.begin(), requirements.end(), [](const auto& r) {
    return r.key == ir::kNamespaceKey && r.range.known();
  });
  if (written) return;
  for (const ir::Requirement& r : requirements) {
    if (!misread_as_namespace(r) || !r.symbol.empty()) continue;
    if (r.key == "namespace" && some_pod_has(c, r.key)) continue;
    const std::string where =
        rule.ns.empty() ? "every namespace" : fmt::format("namespace `{}`", rule.ns);
    Diagnostic& d =
        c.report(DiagCode::NamespaceAsPodLabel, rule, r.range.known() ? r.range : peer.range,
                 fmt::format("`{}: {}` is looked up among the labels of pods in {}: it names no "
                             "namespace",
                             r.key, r.values[0], where),
                 item.origin.path);
    d.help = fmt::format("write `k8s:{}: {}`", ir::kNamespaceKey, r.values[0]);
    if (const auto key = written_key(c, r)) {
      d.fix = Fix{fmt::format("replace `{}` by the label of the namespace", r.key),
                  {{*key, fmt::format("k8s:{}", ir::kNamespaceKey)}}};
    }
  }
}

void filtered_labels(Context& c, const ir::Rule& rule, const ir::Selector& selector,
                     bool subject_or_netpol, const std::string& path) {
  for (const ir::Requirement& r : selector.requirements) {
    if (!pod_source(r) || !positive(r) || !r.symbol.empty()) continue;
    if (ir::is_identity_label(c.world.settings, "k8s", r.key)) continue;
    if (!subject_or_netpol && misread_as_namespace(r)) continue;  // said in better words
    Diagnostic& d = c.report(
        DiagCode::LabelNotInIdentity, rule, r.range.known() ? r.range : selector.range,
        fmt::format("label `{}` is not part of identities, so this selector selects nobody", r.key),
        path);
    d.notes.push_back(c.world.settings.label_filter.empty()
                          ? "Cilium's default label filter leaves it out"
                          : "the cluster's label filter leaves it out");
    d.help =
        rule.host_subject ? "select nodes by a label of another domain" : "select by another label";
    if (r.key == "kubernetes.io/metadata.name") {
      d.help = "put it into a namespaceSelector: it is a label of namespaces";
    }
  }
}

void contradictory(Context& c, const ir::Rule& rule, const ir::Selector& s, DiagCode code,
                   const char* what, const std::string& path) {
  const auto two = contradiction(s);
  if (!two) return;
  const auto& [first, second] = *two;
  Diagnostic& d = c.report(code, rule, second->range,
                           fmt::format("{} selects nobody: `{}` and `{}` exclude each other", what,
                                       first->str(), second->str()),
                           path);
  d.labels.push_back({first->range, "the other condition stands here"});
  d.help = "take one of the two out";
}

void negative_only(Context& c, const ir::Rule& rule, const ir::RuleItem& item,
                   const ir::Peer& peer) {
  if (peer.selector.wildcard() || has_symbol(peer.selector)) return;
  static const ir::LabelSet kWorld({{"reserved", "world", ""}});
  if (!peer.selector.matches(kWorld)) return;
  const bool about_namespaces = std::any_of(
      peer.selector.requirements.begin(), peer.selector.requirements.end(), [](const auto& r) {
        return r.key == ir::kNamespaceKey || r.key.rfind(ir::kNamespaceLabelsPrefix, 0) == 0;
      });
  const bool reserved =
      std::any_of(peer.selector.requirements.begin(), peer.selector.requirements.end(),
                  [](const auto& r) { return r.source == "reserved"; });
  if (!about_namespaces || reserved) return;
  // No pod is without a namespace: written out, this selects everybody but pods.
  const bool no_pods = std::any_of(
      peer.selector.requirements.begin(), peer.selector.requirements.end(), [](const auto& r) {
        return r.key == ir::kNamespaceKey && r.op == ir::Operator::DoesNotExist && pod_source(r);
      });
  const char* verb = item.deny ? "denies" : "allows";
  Diagnostic& d = c.report(
      DiagCode::NegativeSelector, rule, peer.range,
      no_pods
          ? fmt::format("every pod has a namespace: this {} the world, nodes and the host", verb)
          : fmt::format("this selector only excludes namespaces, so it {} the world, nodes and "
                        "the host, too",
                        verb),
      item.origin.path);
  if (no_pods) {
    d.help = "name who is meant by entities: `world`, `host`, `remote-node`";
    return;
  }
  d.notes.push_back(
      "for example 8.8.8.8: an address outside the cluster has no namespace, and so "
      "none of the excluded ones");
  d.help = c.is_netpol(rule)
               ? "select the namespaces that are meant by a label that they carry"
               : fmt::format("add `{{key: {}, operator: Exists}}`", ir::kNamespaceKey);
}

void foreign_namespace(Context& c, const ir::Rule& rule) {
  if (rule.ns.empty() || c.is_clusterwide(rule) || c.is_netpol(rule)) return;
  if (rule.overwritten_range.known() && rule.symbol.empty() && !c.policy_of(rule).ns_guessed) {
    c.report(DiagCode::ForeignNamespace, rule, rule.overwritten_range,
             fmt::format("the policy selects endpoints of its own namespace `{}`, not of `{}`",
                         rule.ns, rule.overwritten_ns))
        .help = "move the policy to that namespace, or use a CiliumClusterwideNetworkPolicy";
  }
  for (const ir::Requirement& r : rule.subject.requirements) {
    if (r.key != ir::kNamespaceKey || !r.range.known() || !pod_source(r)) continue;
    if (!r.symbol.empty() || !rule.symbol.empty() || c.policy_of(rule).ns_guessed) continue;
    if (r.op != ir::Operator::In || std::binary_search(r.values.begin(), r.values.end(), rule.ns)) {
      continue;
    }
    c.report(DiagCode::ForeignNamespace, rule, r.range,
             fmt::format("the policy selects nobody: it applies to its own namespace `{}` only",
                         rule.ns))
        .help = "move the policy to that namespace, or use a CiliumClusterwideNetworkPolicy";
  }
}

}  // namespace

void check_peers(Context& c) {
  for (const ir::Rule& rule : c.rules()) {
    foreign_namespace(c, rule);
    filtered_labels(c, rule, rule.subject, true, "");
    contradictory(c, rule, rule.subject, DiagCode::SubjectSelectsNobody, "the policy", "");
    for (const ir::RuleItem& item : rule.items) {
      if (item.empty_peers && !c.is_netpol(rule)) {
        c.report(DiagCode::EmptyPeerList, rule, item.origin.range,
                 fmt::format("a peer list that is written and empty selects nobody: this item {} "
                             "nothing",
                             item.deny ? "denies" : "allows"),
                 item.origin.path)
            .help = "leave the list out for everybody, or delete the item";
      }
      for (const ir::Peer& peer : item.peers) {
        if (peer.kind != ir::PeerKind::Endpoint) continue;
        if (!c.is_netpol(rule)) namespace_as_label(c, rule, item, peer);
        filtered_labels(c, rule, peer.selector, c.is_netpol(rule), item.origin.path);
        contradictory(c, rule, peer.selector, DiagCode::PeerSelectsNobody, "this peer",
                      item.origin.path);
        negative_only(c, rule, item, peer);
      }
    }
  }
}

}  // namespace policyc::checks
