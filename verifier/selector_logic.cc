#include "verifier/selector_logic.h"

#include <algorithm>
#include <string>
#include <vector>

#include "ir/identity.h"

namespace policyc {
namespace {

using ir::Operator;
using ir::Requirement;

bool subset(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  return std::includes(b.begin(), b.end(), a.begin(), a.end());
}

bool disjoint(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  return std::none_of(a.begin(), a.end(), [&](const std::string& v) {
    return std::binary_search(b.begin(), b.end(), v);
  });
}

bool positive(const Requirement& r) {
  return r.op == Operator::In || r.op == Operator::Exists;
}

bool is_pod_source(const std::string& source) {
  return source == "any" || source == "k8s";
}

bool is_namespace(const Requirement& r) {
  return is_pod_source(r.source) && r.key == ir::kNamespaceKey;
}

bool is_namespace_label(const Requirement& r) {
  return is_pod_source(r.source) && r.key.rfind(ir::kNamespaceLabelsPrefix, 0) == 0;
}

// Pods carry labels of one source only, so `app` and `k8s:app` are the same condition.
bool same_key(const Requirement& a, const Requirement& b) {
  if (a.cidr || b.cidr) return a.cidr == b.cidr;
  return a.key == b.key &&
         (a.source == b.source || (is_pod_source(a.source) && is_pod_source(b.source)));
}

// The label that every namespace has beside its name.
Requirement by_name(const Requirement& r) {
  static const std::string kMetadataName =
      std::string(ir::kNamespaceLabelsPrefix) + "kubernetes.io/metadata.name";
  if (!is_namespace_label(r) || r.key != kMetadataName) return r;
  Requirement out = r;
  out.source = "k8s";
  out.key = std::string(ir::kNamespaceKey);
  return out;
}

bool known_implies(const Requirement& a, const Requirement& b, const ir::Settings& settings) {
  if (a.cidr) {
    if (b.cidr) {
      return (a.op == Operator::Exists && b.op == Operator::Exists && b.cidr->contains(*a.cidr)) ||
             (a.op == Operator::DoesNotExist && b.op == Operator::DoesNotExist &&
              a.cidr->contains(*b.cidr));
    }
    // Addresses that a prefix selects are outside the cluster.
    if (a.op != Operator::Exists || b.op != Operator::Exists || b.source != "reserved" ||
        settings.cidr_match_nodes) {
      return false;
    }
    if (!settings.dual_stack()) return b.key == "world";
    return b.key == (a.cidr->address.family == ir::Family::V4 ? "world-ipv4" : "world-ipv6");
  }
  // Whoever is known to be in a namespace is a pod, and a pod has a namespace and a cluster.
  if (positive(a) && (is_namespace(a) || is_namespace_label(a))) {
    if (is_namespace(b) && b.op == Operator::Exists) return true;
    if (is_pod_source(b.source) && b.key == ir::kClusterKey) {
      if (b.op == Operator::Exists) return true;
      return b.op == Operator::In &&
             std::binary_search(b.values.begin(), b.values.end(), settings.cluster_name);
    }
  }
  if (!same_key(a, b)) return false;
  switch (a.op) {
    case Operator::In:
      return b.op == Operator::Exists || (b.op == Operator::In && subset(a.values, b.values)) ||
             (b.op == Operator::NotIn && disjoint(a.values, b.values));
    case Operator::Exists:
      return b.op == Operator::Exists;
    case Operator::NotIn:
      return b.op == Operator::NotIn && subset(b.values, a.values);
    case Operator::DoesNotExist:
      return b.op == Operator::DoesNotExist || b.op == Operator::NotIn;
  }
  return false;
}

bool implies(const Requirement& a, const Requirement& b, const ir::Settings& settings) {
  if (!a.symbol.empty() || !b.symbol.empty()) {
    // The same placeholder has the same value wherever it stands.
    return a.symbol.empty() == b.symbol.empty() && a.op == b.op && a.key == b.key &&
           a.values == b.values && same_key(a, b);
  }
  return known_implies(by_name(a), by_name(b), settings);
}

bool contradicts(const Requirement& a, const Requirement& b) {
  if (!a.symbol.empty() || !b.symbol.empty() || a.cidr || b.cidr || !same_key(a, b)) return false;
  if (positive(a) && b.op == Operator::DoesNotExist) return true;
  if (positive(b) && a.op == Operator::DoesNotExist) return true;
  if (a.op == Operator::In && b.op == Operator::In) return disjoint(a.values, b.values);
  if (a.op == Operator::In && b.op == Operator::NotIn) return subset(a.values, b.values);
  if (b.op == Operator::In && a.op == Operator::NotIn) return subset(b.values, a.values);
  return false;
}

struct Pattern {
  std::string text;  // `*` is any run without a dot, '\1' any run at all
};

Pattern parse_pattern(std::string_view raw) {
  std::string text;
  for (char c : raw) text += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  while (!text.empty() && text.back() == '.') text.pop_back();
  if (text.find_first_not_of('*') == std::string::npos) return {"\1"};
  // Newer releases read a leading `**.` as one or more labels; the wider reading raises no alarm.
  if (text.rfind("**", 0) == 0) {
    text.erase(0, text.find_first_not_of('*'));
    text.insert(0, 1, '\1');
  }
  return {text};
}

bool is_star(char c) {
  return c == '*' || c == '\1';
}

bool star_takes(char star, char c) {
  return star == '\1' || c != '.';
}

}  // namespace

bool selector_covers(const ir::Selector& wide, const ir::Selector& narrow,
                     const ir::Settings& settings) {
  return std::all_of(wide.requirements.begin(), wide.requirements.end(), [&](const auto& b) {
    return std::any_of(narrow.requirements.begin(), narrow.requirements.end(),
                       [&](const auto& a) { return implies(a, b, settings); });
  });
}

bool selectors_disjoint(const ir::Selector& a, const ir::Selector& b, bool ignore_namespace) {
  for (const Requirement& x : a.requirements) {
    const Requirement rx = by_name(x);
    if (ignore_namespace && (is_namespace(rx) || is_namespace_label(rx))) continue;
    for (const Requirement& y : b.requirements) {
      if (contradicts(rx, by_name(y))) return true;
    }
  }
  return false;
}

std::optional<std::pair<const Requirement*, const Requirement*>> contradiction(
    const ir::Selector& selector) {
  const auto& all = selector.requirements;
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      const Requirement &a = all[k], &b = all[i];
      if (!a.range.known() || !b.range.known() || a.source != b.source) continue;
      if (contradicts(a, b)) return std::pair(&a, &b);
    }
  }
  return std::nullopt;
}

bool has_symbol(const ir::Selector& selector) {
  return std::any_of(selector.requirements.begin(), selector.requirements.end(),
                     [](const Requirement& r) { return !r.symbol.empty(); });
}

bool peer_covered(const ir::RuleItem& wide, const ir::Peer& narrow, const ir::Settings& settings) {
  if (wide.any_peer) return true;
  return std::any_of(wide.peers.begin(), wide.peers.end(), [&](const ir::Peer& p) {
    if (p.kind == ir::PeerKind::Node || narrow.kind == ir::PeerKind::Node) return false;
    return selector_covers(p.selector, narrow.selector, settings);
  });
}

bool peers_cover(const ir::RuleItem& wide, const ir::RuleItem& narrow,
                 const ir::Settings& settings) {
  const auto wildcard = [](const ir::Peer& p) { return p.selector.wildcard(); };
  if (narrow.any_peer) {
    return wide.any_peer || std::any_of(wide.peers.begin(), wide.peers.end(), wildcard);
  }
  return !narrow.peers.empty() &&
         std::all_of(narrow.peers.begin(), narrow.peers.end(),
                     [&](const ir::Peer& p) { return peer_covered(wide, p, settings); });
}

bool port_covers(const ir::Port& wide, const ir::Port& narrow) {
  if (wide.protocol != narrow.protocol) return false;
  if (!wide.symbol.empty() || !narrow.symbol.empty()) return false;
  if (!wide.name.empty() || !narrow.name.empty()) {
    if (wide.name.empty()) return wide.number == 0 && wide.end == 0;
    return wide.name == narrow.name && wide.end == narrow.end;
  }
  if (wide.number == 0 && wide.end == 0) return true;
  if (narrow.number == 0 && narrow.end == 0) return false;
  const unsigned wide_last = wide.end == 0 ? wide.number : wide.end;
  const unsigned narrow_last = narrow.end == 0 ? narrow.number : narrow.end;
  return wide.number <= narrow.number && narrow_last <= wide_last;
}

bool patterns_intersect(std::string_view a_raw, std::string_view b_raw) {
  const std::string a = parse_pattern(a_raw).text, b = parse_pattern(b_raw).text;
  // reach[i][j]: what is left from i and from j has a name in common.
  std::vector<std::vector<char>> reach(a.size() + 1, std::vector<char>(b.size() + 1, 0));
  for (std::size_t i = a.size() + 1; i-- > 0;) {
    for (std::size_t j = b.size() + 1; j-- > 0;) {
      const bool a_end = i == a.size(), b_end = j == b.size();
      bool ok = a_end && b_end;
      if (!a_end && is_star(a[i])) {
        ok = ok || reach[i + 1][j] != 0;
        if (!b_end && star_takes(a[i], b[j])) ok = ok || reach[i][j + 1] != 0;
      }
      if (!b_end && is_star(b[j])) {
        ok = ok || reach[i][j + 1] != 0;
        if (!a_end && star_takes(b[j], a[i])) ok = ok || reach[i + 1][j] != 0;
      }
      if (!a_end && !b_end && !is_star(a[i]) && a[i] == b[j]) ok = ok || reach[i + 1][j + 1] != 0;
      reach[i][j] = ok ? 1 : 0;
    }
  }
  return reach[0][0] != 0;
}

}  // namespace policyc
