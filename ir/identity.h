// Who somebody is, in labels: pods, the host, other nodes, and addresses outside the
// cluster.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "ir/base/expected.h"
#include "ir/inventory.h"
#include "ir/label.h"
#include "ir/policy_set.h"

namespace policyc::ir {

inline constexpr std::string_view kNamespaceKey = "io.kubernetes.pod.namespace";
inline constexpr std::string_view kNamespaceLabelsPrefix = "io.cilium.k8s.namespace.labels.";
inline constexpr std::string_view kServiceAccountKey = "io.cilium.k8s.policy.serviceaccount";
inline constexpr std::string_view kClusterKey = "io.cilium.k8s.policy.cluster";
inline constexpr std::string_view kCidrGroupNamePrefix = "io.cilium.policy.cidrgroupname/";

// Cilium's reserved numeric identities (pkg/identity).
enum ReservedIdentity : std::uint32_t {
  kIdentityAny = 0,
  kIdentityHost = 1,
  kIdentityWorld = 2,
  kIdentityUnmanaged = 3,
  kIdentityHealth = 4,
  kIdentityInit = 5,
  kIdentityRemoteNode = 6,
  kIdentityKubeApiserver = 7,
  kIdentityIngress = 8,
  kIdentityWorldV4 = 9,
  kIdentityWorldV6 = 10,
  kIdentityFirstPod = 256,
  kIdentityFirstLocal = 0x01000001,
  kIdentityFirstNode = 0x02000001,
};

// Whether the label filter keeps a label in the identity: the longest include beats the
// shortest ignore; one include of the operator's own drops whatever is not included.
bool is_identity_label(const Settings& settings, std::string_view source, std::string_view key);
// The operator's patterns, separated by blanks: "k8s:app !k8s:job-name io\\.kubernetes". Errors
// name the pattern that is no RE2 expression.
Expected<std::vector<LabelPattern>> parse_label_filter(std::string_view text);

// Identity labels of a pod with the given labels; the namespace's own labels are added.
LabelSet pod_identity(const Inventory& inventory, const Settings& settings, const std::string& ns,
                      const StringMap& labels, const std::string& service_account);
LabelSet pod_identity(const Inventory& inventory, const Settings& settings, const Pod& pod);

// Labels of a node that a nodeSelector is matched against.
LabelSet node_selector_labels(const Settings& settings, const Node& node);

// `reserved:<entity>`; kube-apiserver as a remote node's.
LabelSet entity_identity(const std::string& entity);

// What addresses mean, as seen from one node. Build once, ask often.
class AddressBook {
 public:
  // `node` = index into inventory.nodes, or SIZE_MAX where there are none.
  AddressBook(const Inventory& inventory, const Settings& settings, const PolicySet& policies,
              std::size_t node);

  // The identity labels of an address. Pod addresses give the pod's.
  LabelSet identity_of(const IpAddress& ip) const;
  // The local host, with kube-apiserver where one of its addresses is the API server's.
  const LabelSet& host() const { return host_; }
  // Identities that an agent allocates for prefixes and names of the policies although a pod has
  // the address, so that no packet ever carries them. Their map entries count all the same.
  std::vector<LabelSet> behind_pods() const;
  // Every prefix at which identities may change, pods included, with 0.0.0.0/0 and ::/0; sorted.
  std::vector<Prefix> prefixes() const;

 private:
  struct FqdnAddress {
    IpAddress ip;
    std::string selector;  // text of the toFQDNs entry
  };
  LabelSet outside_or_node(const IpAddress& ip, const Prefix& at) const;

  const Inventory& inventory_;
  const Settings& settings_;
  std::size_t node_;
  std::set<Prefix> policy_prefixes_;  // cidr and except of every accepted policy
  std::vector<FqdnAddress> fqdn_;
  std::set<IpAddress> api_server_;
  LabelSet host_;
  friend class AddressBookTest;

 public:
  // The identity of a whole prefix as the ipcache holds it (labels of its covering prefixes).
  LabelSet identity_of(const Prefix& prefix) const;
};

// Distinct toFQDNs texts of rules that select some endpoint on `node`.
std::vector<std::string> active_fqdns(const Inventory& inventory, const Settings& settings,
                                      const PolicySet& policies, std::size_t node);

// Cilium's name patterns, as ir::dns_pattern gives them: `*` alone is any name, a leading
// `**.` is one or more labels, else each `*` stays within one label.
bool dns_pattern_matches(std::string_view pattern, std::string_view name);

}  // namespace policyc::ir
