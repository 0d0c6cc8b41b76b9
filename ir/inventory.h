// What the cluster holds, as far as the input tells: the nouns that policies select.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ir/base/source.h"
#include "ir/ip.h"
#include "ir/l4.h"
#include "ir/profile.h"

namespace policyc::ir {

using StringMap = std::map<std::string, std::string>;

struct Namespace {
  std::string name;
  StringMap labels;  // with kubernetes.io/metadata.name, which the API server always sets
  SourceRange range;
};

struct ContainerPort {
  std::string name;
  std::uint16_t port = 0;
  Protocol protocol = kProtoTcp;
  friend auto operator<=>(const ContainerPort&, const ContainerPort&) = default;
};

// A pod, or the pods of a workload's template (one identity; `kind` names the workload's kind).
struct Pod {
  std::string ns;
  std::string name;
  std::string kind = "Pod";
  StringMap labels;
  std::string service_account;  // empty where the object names none: never defaulted
  std::string node;             // empty = unknown
  bool host_network = false;    // not a policy subject
  std::vector<IpAddress> ips;
  bool synthetic_ip = false;  // allocated by us from a documentation range
  std::vector<ContainerPort> ports;
  SourceRange range;
  std::string set;    // deployment set it belongs to
  std::string owner;  // "StatefulSet/db": the workload that a Pod belongs to; empty = none known

  std::string full_name() const;  // "ns/name" for a Pod, "ns/Kind/name" for a workload
};

struct Node {
  std::string name;
  StringMap labels;
  std::vector<IpAddress> addresses;
  SourceRange range;
};

struct ServicePort {
  std::string name;
  std::uint16_t port = 0;
  Protocol protocol = kProtoTcp;
  std::uint16_t target_port = 0;  // 0 = named or same as `port` (see target_name)
  std::string target_name;
};

struct Service {
  std::string ns;
  std::string name;
  StringMap labels;
  StringMap selector;  // empty = Endpoints-backed
  std::vector<IpAddress> cluster_ips;
  bool headless = false;  // clusterIP: None; its name resolves to its pods, ports are their own
  std::vector<ServicePort> ports;
  std::string type = "ClusterIP";
  SourceRange range;
};

// One EndpointSlice or Endpoints object.
struct Endpoints {
  std::string ns;
  std::string service;
  std::vector<IpAddress> addresses;
  SourceRange range;
};

// An Ingress or a Gateway: traffic through it arrives as the `ingress` identity.
struct EntryObject {
  std::string ns;
  std::string kind;  // "Ingress" or "Gateway"
  std::string name;
  SourceRange range;
};

struct CidrGroup {
  std::string name;
  StringMap labels;
  std::vector<Prefix> cidrs;
  SourceRange range;
};

// From a cluster dump: the number that the cluster gave to a label set.
struct KnownIdentity {
  std::uint32_t id = 0;
  std::vector<std::string> labels;  // "k8s:app=web"
};

enum class Completeness { Complete, Partial };

// All vectors are sorted by (namespace, kind, name), so indices are deterministic.
struct Inventory {
  std::vector<Namespace> namespaces;
  std::vector<Pod> pods;
  std::vector<Node> nodes;
  std::vector<Service> services;
  std::vector<Endpoints> endpoints;
  std::vector<EntryObject> entries;
  std::vector<CidrGroup> cidr_groups;
  std::vector<KnownIdentity> known_identities;
  std::vector<KnownIdentity> allocated_identities;  // by an earlier compile; no agent knows them
  // DNS cache: name (lower case, no trailing dot) → addresses. Absent: nothing is known of names,
  // and toFQDNs answers depend on it. Present: every name not listed resolves to nothing.
  std::optional<std::map<std::string, std::vector<IpAddress>>> fqdn;
  Completeness completeness = Completeness::Partial;

  const Namespace* find_namespace(const std::string& name) const;
  // Index of the pod "ns/name" (any kind; "ns/Kind/name" too).
  std::optional<std::size_t> find_pod(const std::string& full_name) const;
};

// One pattern of the operator's label filter (`labels` in cilium-config): an RE2 expression that
// must match at the start of the key.
struct LabelPattern {
  bool ignore = false;
  std::string source;  // empty = labels of every source
  std::string expression;
  friend auto operator<=>(const LabelPattern&, const LabelPattern&) = default;
};

// How the cluster is set up. Defaults are Cilium's own.
struct Settings {
  std::string profile = "cilium-1.18";
  std::string cluster_name = "default";
  enum class Enforcement { Default, Always, Never } enforcement = Enforcement::Default;
  bool ipv4 = true;
  bool ipv6 = true;  // both = dual stack
  bool host_firewall = false;
  bool allow_localhost_policy = false;  // --allow-localhost policy: no implicit host → pod allow
  bool cidr_match_nodes = false;        // policy-cidr-match-mode=nodes
  bool l7_proxy = true;
  bool icmp_rules = true;
  bool node_selector_labels = false;
  bool sctp = false;
  bool non_default_deny = true;        // enable-non-default-deny-policies
  bool default_local_cluster = false;  // policy-default-local-cluster
  std::uint32_t policy_map_max = 16384;
  std::vector<LabelPattern> label_filter;  // on top of the default patterns
  bool kubernetes_semantics = false;
  bool assume_admitted = false;

  bool dual_stack() const { return ipv4 && ipv6; }
  const Profile& release() const;  // the row of `profile`; 1.18 where the name is unknown
};

}  // namespace policyc::ir
