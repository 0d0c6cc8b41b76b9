#include "ir/identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "ir/l7_match.h"

namespace policyc::ir {
namespace {

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

// A prefix whose identity may differ from its parent's only because of its length: the longest
// policy prefix that contains `at`.
const Prefix* longest_cover(const std::set<Prefix>& prefixes, const Prefix& at) {
  for (int length = at.length; length >= 0; --length) {
    auto it = prefixes.find(make_prefix(at.address, length));
    if (it != prefixes.end()) return &*it;
  }
  return nullptr;
}

// fromNodes/toNodes see node labels only where the cluster puts them into identities.
void add_node_labels(const Node& node, const Settings& settings, std::vector<Label>& out) {
  if (!settings.node_selector_labels) return;
  for (const auto& [key, value] : node.labels) {
    if (is_identity_label(settings, "node", key)) out.push_back({"node", key, value});
  }
}

std::string lower_name(std::string_view name) {
  std::string out(name);
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  });
  if (!out.empty() && out.back() == '.') out.pop_back();
  return out;
}

}  // namespace

bool is_identity_label(const Settings& settings, std::string_view source, std::string_view key) {
  std::size_t include = 0;  // length of the longest include that matches
  std::size_t ignore = 0;   // length of the shortest ignore that matches
  const auto ignored = [&](std::size_t length) {
    if (ignore == 0 || length < ignore) ignore = length;
  };
  constexpr std::string_view kIncluded[] = {kNamespaceKey, kNamespaceLabelsPrefix,
                                            "app.kubernetes.io", kClusterKey};
  constexpr std::string_view kIgnored[] = {"io.kubernetes",
                                           "kubernetes.io",
                                           "statefulset.kubernetes.io/pod-name",
                                           "apps.kubernetes.io/pod-index",
                                           "batch.kubernetes.io/job-completion-index",
                                           "batch.kubernetes.io/controller-uid",
                                           "k8s.io",
                                           "pod-template-generation",
                                           "pod-template-hash",
                                           "controller-revision-hash",
                                           "controller-uid",
                                           "annotation",
                                           "etcd_node"};
  for (const std::string_view prefix : kIncluded) {
    if (starts_with(key, prefix)) include = std::max(include, prefix.size());
  }
  for (const std::string_view prefix : kIgnored) {
    if (starts_with(key, prefix)) ignored(prefix.size());
  }
  constexpr std::string_view kBeta = "beta.kubernetes.io";
  if (const std::size_t at = key.rfind(kBeta); at != std::string_view::npos) {
    ignored(at + kBeta.size());
  }
  bool allow_list = false;
  for (const LabelPattern& p : settings.label_filter) {
    allow_list = allow_list || !p.ignore;
    if (!p.source.empty() && p.source != source) continue;
    const std::size_t length = regex_prefix(p.expression, key);
    if (length == 0) continue;
    if (p.ignore) {
      ignored(length);
    } else {
      include = std::max(include, length);
    }
  }
  return (!allow_list && ignore == 0) || include > ignore;
}

Expected<std::vector<LabelPattern>> parse_label_filter(std::string_view text) {
  std::vector<LabelPattern> out;
  std::istringstream words{std::string(text)};
  for (std::string word; words >> word;) {
    LabelPattern p;
    std::string rest = word;
    const auto take_mark = [&] {
      if (rest.empty() || rest[0] != '!') return;
      p.ignore = true;
      rest.erase(0, 1);
    };
    take_mark();
    if (const std::size_t colon = rest.find(':'); colon != std::string::npos) {
      p.source = rest.substr(0, colon);
      rest.erase(0, colon + 1);
      take_mark();
    }
    std::string error = "nothing is left of it";
    if (rest.empty() || !valid_regex(rest, &error)) {
      return Error{fmt::format("`{}` is no pattern for labels: {}", word, error)};
    }
    p.expression = std::move(rest);
    out.push_back(std::move(p));
  }
  return out;
}

LabelSet pod_identity(const Inventory& inventory, const Settings& settings, const std::string& ns,
                      const StringMap& labels, const std::string& service_account) {
  std::vector<Label> out;
  for (const auto& [key, value] : labels) {
    if (!starts_with(key, "io.cilium.k8s")) out.push_back({"k8s", key, value});
  }
  // Derived labels replace what a pod writes under the same key.
  auto set = [&](std::string key, std::string value) {
    std::erase_if(out, [&](const Label& l) { return l.key == key; });
    out.push_back({"k8s", std::move(key), std::move(value)});
  };
  set(std::string(kNamespaceKey), ns);
  if (const Namespace* n = inventory.find_namespace(ns)) {
    for (const auto& [key, value] : n->labels) {
      set(std::string(kNamespaceLabelsPrefix) + key, value);
    }
  } else {
    set(std::string(kNamespaceLabelsPrefix) + "kubernetes.io/metadata.name", ns);
  }
  if (!service_account.empty()) set(std::string(kServiceAccountKey), service_account);
  set(std::string(kClusterKey), settings.cluster_name);
  // Filtered last: an allow-list drops the service account too where it does not name it.
  std::erase_if(out, [&](const Label& l) { return !is_identity_label(settings, l.source, l.key); });
  return LabelSet(std::move(out));
}

LabelSet pod_identity(const Inventory& inventory, const Settings& settings, const Pod& pod) {
  return pod_identity(inventory, settings, pod.ns, pod.labels, pod.service_account);
}

LabelSet node_selector_labels(const Settings& settings, const Node& node) {
  std::vector<Label> out = {{"reserved", "host", ""}};
  for (const auto& [key, value] : node.labels) {
    if (is_identity_label(settings, "k8s", key)) out.push_back({"k8s", key, value});
  }
  return LabelSet(std::move(out));
}

LabelSet entity_identity(const std::string& entity) {
  std::vector<Label> out = {{"reserved", entity, ""}};
  if (entity == "kube-apiserver") out.push_back({"reserved", "remote-node", ""});
  return LabelSet(std::move(out));
}

AddressBook::AddressBook(const Inventory& inventory, const Settings& settings,
                         const PolicySet& policies, std::size_t node)
    : inventory_(inventory), settings_(settings), node_(node) {
  for (const Rule& rule : policies.rules) {
    for (const RuleItem& item : rule.items) {
      for (const Peer& peer : item.peers) {
        for (const Requirement& r : peer.selector.requirements) {
          // Cilium reads /0 as the world labels; by the API it is a block as any other.
          if (r.cidr && (r.cidr->length > 0 || settings.kubernetes_semantics)) {
            policy_prefixes_.insert(*r.cidr);
          }
        }
      }
    }
  }
  if (inventory.fqdn) {
    for (const std::string& text : active_fqdns(inventory, settings, policies, node)) {
      for (const auto& [name, addresses] : *inventory.fqdn) {
        if (!dns_pattern_matches(dns_pattern(settings.release(), text), name)) continue;
        for (const IpAddress& ip : addresses) fqdn_.push_back({ip, text});
      }
    }
  }
  for (const Endpoints& e : inventory.endpoints) {
    if (e.ns == "default" && e.service == "kubernetes") {
      api_server_.insert(e.addresses.begin(), e.addresses.end());
    }
  }
  std::vector<Label> host = {{"reserved", "host", ""}};
  if (node < inventory.nodes.size()) {
    add_node_labels(inventory.nodes[node], settings, host);
    for (const IpAddress& ip : inventory.nodes[node].addresses) {
      if (api_server_.count(ip) != 0) host.push_back({"reserved", "kube-apiserver", ""});
      if (!settings.cidr_match_nodes) continue;
      if (const Prefix* p = longest_cover(policy_prefixes_, host_prefix(ip))) {
        host.push_back(cidr_label(*p));
      }
    }
  }
  host_ = LabelSet(std::move(host));
}

LabelSet AddressBook::identity_of(const IpAddress& ip) const {
  for (const Pod& pod : inventory_.pods) {
    if (pod.host_network) continue;
    if (std::find(pod.ips.begin(), pod.ips.end(), ip) != pod.ips.end()) {
      return pod_identity(inventory_, settings_, pod);
    }
  }
  return outside_or_node(ip, host_prefix(ip));
}

LabelSet AddressBook::identity_of(const Prefix& prefix) const {
  if (prefix == host_prefix(prefix.address)) return identity_of(prefix.address);
  return outside_or_node(prefix.address, prefix);
}

LabelSet AddressBook::outside_or_node(const IpAddress& ip, const Prefix& at) const {
  const bool whole_address = at.length == ip.bits();
  std::vector<Label> out;
  bool in_cluster = false;
  if (whole_address) {
    for (std::size_t i = 0; i < inventory_.nodes.size(); ++i) {
      const auto& addresses = inventory_.nodes[i].addresses;
      if (std::find(addresses.begin(), addresses.end(), ip) == addresses.end()) continue;
      if (i == node_) return host_;
      out.push_back({"reserved", "remote-node", ""});
      add_node_labels(inventory_.nodes[i], settings_, out);
      in_cluster = true;
    }
    if (api_server_.count(ip) != 0) out.push_back({"reserved", "kube-apiserver", ""});
  }
  if (!in_cluster || settings_.cidr_match_nodes) {
    if (in_cluster) {
      out.push_back(cidr_label(at));  // nodes that prefixes match are told apart by address
    } else if (const Prefix* p = longest_cover(policy_prefixes_, at)) {
      out.push_back(cidr_label(*p));
    }
    for (const CidrGroup& group : inventory_.cidr_groups) {
      const bool member = std::any_of(group.cidrs.begin(), group.cidrs.end(),
                                      [&](const Prefix& p) { return p.contains(at); });
      if (!member) continue;
      out.push_back({"cidrgroup", std::string(kCidrGroupNamePrefix) + group.name, ""});
      for (const auto& [key, value] : group.labels) out.push_back({"cidrgroup", key, value});
    }
    if (whole_address) {
      for (const FqdnAddress& f : fqdn_) {
        if (f.ip == ip) out.push_back({"fqdn", f.selector, ""});
      }
    }
  }
  if (!in_cluster) {
    const char* world = "world";
    if (settings_.dual_stack()) world = ip.family == Family::V4 ? "world-ipv4" : "world-ipv6";
    out.push_back({"reserved", world, ""});
  }
  return LabelSet(std::move(out));
}

std::vector<LabelSet> AddressBook::behind_pods() const {
  std::vector<LabelSet> out;
  for (const Pod& pod : inventory_.pods) {
    if (pod.host_network) continue;
    for (const IpAddress& ip : pod.ips) {
      const Prefix at = host_prefix(ip);
      const bool named =
          policy_prefixes_.count(at) != 0 ||
          std::any_of(inventory_.cidr_groups.begin(), inventory_.cidr_groups.end(),
                      [&](const CidrGroup& g) {
                        return std::find(g.cidrs.begin(), g.cidrs.end(), at) != g.cidrs.end();
                      }) ||
          std::any_of(fqdn_.begin(), fqdn_.end(), [&](const FqdnAddress& f) { return f.ip == ip; });
      if (named) out.push_back(outside_or_node(ip, at));
    }
  }
  return out;
}

std::vector<Prefix> AddressBook::prefixes() const {
  std::set<Prefix> all = policy_prefixes_;
  auto add = [&](const IpAddress& ip) { all.insert(host_prefix(ip)); };
  for (const CidrGroup& group : inventory_.cidr_groups) {
    all.insert(group.cidrs.begin(), group.cidrs.end());
  }
  for (const FqdnAddress& f : fqdn_) add(f.ip);
  for (const IpAddress& ip : api_server_) add(ip);
  for (const Node& node : inventory_.nodes) {
    for (const IpAddress& ip : node.addresses) add(ip);
  }
  for (const Pod& pod : inventory_.pods) {
    for (const IpAddress& ip : pod.ips) add(ip);
  }
  all.insert(make_prefix(IpAddress{Family::V4, {}}, 0));
  all.insert(make_prefix(IpAddress{Family::V6, {}}, 0));
  std::vector<Prefix> out;
  for (const Prefix& p : all) {
    const bool used = p.address.family == Family::V4 ? settings_.ipv4 : settings_.ipv6;
    if (used) out.push_back(p);
  }
  return out;
}

std::vector<std::string> active_fqdns(const Inventory& inventory, const Settings& settings,
                                      const PolicySet& policies, std::size_t node) {
  std::set<std::string> out;
  for (const Rule& rule : policies.rules) {
    std::set<std::string> texts;
    for (const RuleItem& item : rule.items) {
      // An item without ports makes no filter, so nobody learns its names.
      const bool has_filter =
          item.all_l4 || std::any_of(item.ports.begin(), item.ports.end(),
                                     [](const PortRule& p) { return !p.ports.empty(); });
      if (!has_filter) continue;
      for (const Peer& peer : item.peers) {
        if (peer.kind == PeerKind::Fqdn) texts.insert(peer.text);
      }
    }
    if (texts.empty()) continue;
    bool selected = false;
    if (rule.host_subject) {
      selected = node < inventory.nodes.size() &&
                 rule.subject.matches(node_selector_labels(settings, inventory.nodes[node]));
    } else {
      for (const Pod& pod : inventory.pods) {
        const bool here = node >= inventory.nodes.size() || pod.node.empty() ||
                          pod.node == inventory.nodes[node].name;
        if (selected || !here || (!rule.ns.empty() && rule.ns != pod.ns)) continue;
        selected = rule.subject.matches(pod_identity(inventory, settings, pod));
      }
    }
    if (selected) out.insert(texts.begin(), texts.end());
  }
  return {out.begin(), out.end()};
}

bool dns_pattern_matches(std::string_view pattern, std::string_view name) {
  if (pattern == "*") return true;
  std::string p = lower_name(pattern);
  const std::string n = lower_name(name);
  if (p.rfind("**.", 0) == 0) {
    // One or more whole labels, then the rest.
    p.erase(0, 3);
    for (std::size_t dot = n.find('.'); dot != std::string::npos; dot = n.find('.', dot + 1)) {
      if (dot > 0 && dns_pattern_matches(p, std::string_view(n).substr(dot + 1))) return true;
    }
    return false;
  }
  // Greedy matching with one point to come back to: the last star and where it stood.
  auto in_label = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  };
  std::size_t i = 0;
  std::size_t k = 0;
  std::size_t star = std::string::npos;
  std::size_t retry = 0;
  while (k < n.size()) {
    if (i < p.size() && p[i] == '*') {
      star = i++;
      retry = k;
    } else if (i < p.size() && p[i] == n[k]) {
      ++i;
      ++k;
    } else if (star != std::string::npos && in_label(n[retry])) {
      i = star + 1;
      k = ++retry;
    } else {
      return false;
    }
  }
  while (i < p.size() && p[i] == '*') ++i;
  return i == p.size();
}

}  // namespace policyc::ir
