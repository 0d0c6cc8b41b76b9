#include "frontend/parse_inventory.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "ir/base/diag_code.h"
#include "ir/label.h"

namespace policyc::frontend {
namespace {

constexpr std::string_view kMetadataName = "kubernetes.io/metadata.name";
constexpr std::string_view kNamespaceLabelPrefix = "io.cilium.k8s.namespace.labels.";
constexpr std::string_view kServiceAccountLabel = "io.cilium.k8s.policy.serviceaccount";
// A pod that only a CiliumEndpoint tells of; finish_inventory merges it away.
constexpr std::string_view kEndpointKind = "CiliumEndpoint";

struct KindRow {
  std::string_view group;  // apiVersion without the version; "" for the core group
  std::string_view kind;
};

constexpr std::array<KindRow, 20> kKinds = {{{"", "Namespace"},
                                             {"", "Pod"},
                                             {"apps", "Deployment"},
                                             {"apps", "StatefulSet"},
                                             {"apps", "DaemonSet"},
                                             {"apps", "ReplicaSet"},
                                             {"", "ReplicationController"},
                                             {"batch", "Job"},
                                             {"batch", "CronJob"},
                                             {"", "Service"},
                                             {"", "Endpoints"},
                                             {"discovery.k8s.io", "EndpointSlice"},
                                             {"", "Node"},
                                             {"cilium.io", "CiliumIdentity"},
                                             {"cilium.io", "CiliumEndpoint"},
                                             {"cilium.io", "CiliumNode"},
                                             {"extensions", "Deployment"},
                                             {"networking.k8s.io", "Ingress"},
                                             {"extensions", "Ingress"},
                                             {"gateway.networking.k8s.io", "Gateway"}}};

// Walks down mapping keys; nullptr where one is missing.
const YamlNode* down(const YamlNode* node, std::initializer_list<std::string_view> keys) {
  for (std::string_view key : keys) {
    if (node == nullptr || !node->is_mapping()) return nullptr;
    node = node->get(key);
  }
  return node;
}

std::string text_at(const YamlNode* node, std::string_view key) {
  if (node == nullptr || !node->is_mapping()) return {};
  return std::string(node->get_text(key));
}

// The elements of a sequence that are mappings.
std::vector<const YamlNode*> mappings(const YamlNode* sequence) {
  std::vector<const YamlNode*> out;
  if (sequence == nullptr || !sequence->is_sequence()) return out;
  for (const YamlRef& item : sequence->items) {
    if (item.node != nullptr && item.node->is_mapping()) out.push_back(item.node);
  }
  return out;
}

ir::StringMap string_map(const YamlNode* mapping) {
  ir::StringMap out;
  if (mapping == nullptr || !mapping->is_mapping()) return out;
  for (const YamlEntry& entry : mapping->entries) {
    const YamlNode* value = entry.value.node;
    if (value == nullptr || !value->is_scalar()) continue;
    // Null stands for the empty string, as the API server stores it.
    out.emplace(entry.key, value->kind == NodeKind::Null ? "" : std::string(value->text));
  }
  return out;
}

bool is_true(const YamlNode* node) {
  return node != nullptr && node->kind == NodeKind::Bool &&
         (node->text == "true" || node->text == "True" || node->text == "yes" ||
          node->text == "on" || node->text == "TRUE");
}

std::optional<std::uint16_t> port_number(const YamlNode* node) {
  if (node == nullptr || node->kind != NodeKind::Int) return std::nullopt;
  std::uint32_t value = 0;
  const char* end = node->text.data() + node->text.size();
  auto [at, error] = std::from_chars(node->text.data(), end, value);
  if (error != std::errc() || at != end || value > 0xFFFF) return std::nullopt;
  return static_cast<std::uint16_t>(value);
}

std::optional<ir::Protocol> protocol_from(std::string_view text) {
  if (text.empty() || text == "TCP") return ir::kProtoTcp;
  if (text == "UDP") return ir::kProtoUdp;
  if (text == "SCTP") return ir::kProtoSctp;
  return std::nullopt;
}

template <class T>
void add_unique(std::vector<T>& list, const T& value) {
  if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
}

// Reads one object; knows where to put complaints.
class ObjectReader {
 public:
  ObjectReader(const YamlRef& object, std::string ns, std::string set, ir::Inventory& inventory,
               DiagnosticSink& sink)
      : object_(*object.node),
        range_(object.at),
        kind_(object_.get_text("kind")),
        metadata_(down(&object_, {"metadata"})),
        ns_(std::move(ns)),
        set_(std::move(set)),
        inventory_(inventory),
        sink_(sink) {
    name_ = text_at(metadata_, "name");
    if (name_.empty()) name_ = text_at(metadata_, "generateName");
  }

  void read() {
    if (name_.empty()) {
      complain(range_, fmt::format("{} without a name", kind_));
      return;
    }
    if (kind_ == "Namespace") return read_namespace();
    if (kind_ == "Service") return read_service();
    if (kind_ == "Endpoints") return read_endpoints();
    if (kind_ == "EndpointSlice") return read_endpoint_slice();
    if (kind_ == "Node") return read_node();
    if (kind_ == "CiliumNode") return read_cilium_node();
    if (kind_ == "CiliumIdentity") return read_cilium_identity();
    if (kind_ == "CiliumEndpoint") return read_cilium_endpoint();
    if (kind_ == "Ingress" || kind_ == "Gateway") {
      inventory_.entries.push_back({ns_, kind_, name_, range_});
      return;
    }
    if (kind_ == "Pod") return read_pod(&object_);
    if (kind_ == "CronJob") {
      return read_pod(down(&object_, {"spec", "jobTemplate", "spec", "template"}));
    }
    read_pod(down(&object_, {"spec", "template"}));
  }

 private:
  void complain(SourceRange range, std::string message) {
    Diagnostic& d = sink_.report(DiagCode::BadInventory, range, std::move(message));
    d.policy = PolicyRef{kind_, ns_, name_};
  }

  void add_address(const YamlNode* node, std::vector<ir::IpAddress>& out) {
    if (node == nullptr || !node->is_scalar() || node->text.empty() || node->placeholder) return;
    if (auto ip = ir::parse_ip(node->text)) {
      add_unique(out, *ip);
    } else {
      complain(node->range, fmt::format("`{}` is not an IP address", node->text));
    }
  }

  void read_namespace() {
    ir::Namespace ns{name_, string_map(down(metadata_, {"labels"})), range_};
    ns.labels.insert_or_assign(std::string(kMetadataName), name_);
    inventory_.namespaces.push_back(std::move(ns));
  }

  void read_container_ports(const YamlNode* container, std::vector<ir::ContainerPort>& out) {
    for (const YamlNode* item : mappings(container->get("ports"))) {
      const YamlNode* number = item->get("containerPort");
      const auto port = port_number(number);
      const auto protocol = protocol_from(item->get_text("protocol"));
      if (!port || *port == 0) {
        if (number == nullptr || !number->placeholder) {
          complain(number != nullptr ? number->range : item->range,
                   "containerPort must be a number from 1 to 65535");
        }
        continue;
      }
      if (!protocol) {
        complain(item->get("protocol")->range,
                 fmt::format("unknown protocol `{}`", item->get_text("protocol")));
        continue;
      }
      add_unique(out, ir::ContainerPort{text_at(item, "name"), *port, *protocol});
    }
  }

  // The workload that made the Pod. A ReplicaSet that a Deployment made has the Deployment's name,
  // `-` and the hash that its pods carry as a label.
  std::string owner_of(const YamlNode& pod) {
    if (kind_ != "Pod") return "";
    for (const YamlNode* owner : mappings(down(&pod, {"metadata", "ownerReferences"}))) {
      if (!is_true(owner->get("controller"))) continue;
      const std::string kind = text_at(owner, "kind");
      std::string name = text_at(owner, "name");
      if (kind.empty() || name.empty()) continue;
      const std::string hash = text_at(down(&pod, {"metadata", "labels"}), "pod-template-hash");
      if (kind == "ReplicaSet" && !hash.empty() && name.ends_with("-" + hash)) {
        name.resize(name.size() - hash.size() - 1);
        return "Deployment/" + name;
      }
      return kind + "/" + name;
    }
    return "";
  }

  // `pod` is a Pod or a pod template.
  void read_pod(const YamlNode* pod) {
    if (pod == nullptr || !pod->is_mapping()) {
      complain(range_, fmt::format("{} has no pod template", kind_));
      return;
    }
    const YamlNode* status = kind_ == "Pod" ? pod->get("status") : nullptr;
    const std::string phase = text_at(status, "phase");
    if (phase == "Succeeded" || phase == "Failed") return;

    const YamlNode* spec = down(pod, {"spec"});
    ir::Pod out;
    out.ns = ns_;
    out.name = name_;
    out.kind = kind_;
    out.labels = string_map(down(pod, {"metadata", "labels"}));
    out.service_account = text_at(spec, "serviceAccountName");
    if (out.service_account.empty()) out.service_account = text_at(spec, "serviceAccount");
    out.node = text_at(spec, "nodeName");
    out.host_network = is_true(down(spec, {"hostNetwork"}));
    out.range = range_;
    out.set = set_;
    out.owner = owner_of(*pod);
    add_address(down(status, {"podIP"}), out.ips);
    for (const YamlNode* item : mappings(down(status, {"podIPs"}))) {
      add_address(item->get("ip"), out.ips);
    }
    for (const YamlNode* container : mappings(down(spec, {"containers"}))) {
      read_container_ports(container, out.ports);
    }
    for (const YamlNode* container : mappings(down(spec, {"initContainers"}))) {
      // A restartable init container is a sidecar: it runs beside the others.
      if (container->get_text("restartPolicy") == "Always") {
        read_container_ports(container, out.ports);
      }
    }
    inventory_.pods.push_back(std::move(out));
  }

  void read_service() {
    const YamlNode* spec = down(&object_, {"spec"});
    ir::Service out;
    out.ns = ns_;
    out.name = name_;
    out.labels = string_map(down(metadata_, {"labels"}));
    out.selector = string_map(down(spec, {"selector"}));
    out.range = range_;
    if (const std::string type = text_at(spec, "type"); !type.empty()) out.type = type;
    auto add_cluster_ip = [&](const YamlNode* node) {
      if (node == nullptr) return;
      if (node->text == "None") {
        out.headless = true;
      } else {
        add_address(node, out.cluster_ips);
      }
    };
    add_cluster_ip(down(spec, {"clusterIP"}));
    if (const YamlNode* list = down(spec, {"clusterIPs"}); list != nullptr) {
      for (const YamlRef& item : list->items) add_cluster_ip(item.node);
    }
    for (const YamlNode* item : mappings(down(spec, {"ports"}))) {
      const auto port = port_number(item->get("port"));
      const auto protocol = protocol_from(item->get_text("protocol"));
      if (!port || !protocol) {
        complain(item->range, "service port needs a number from 1 to 65535 and a known protocol");
        continue;
      }
      ir::ServicePort p{text_at(item, "name"), *port, *protocol, 0, {}};
      if (const YamlNode* target = item->get("targetPort"); target != nullptr) {
        if (const auto number = port_number(target)) {
          p.target_port = *number;
        } else {
          p.target_name = std::string(target->text);
        }
      }
      out.ports.push_back(std::move(p));
    }
    inventory_.services.push_back(std::move(out));
  }

  void read_endpoints() {
    ir::Endpoints out{ns_, name_, {}, range_};
    for (const YamlNode* subset : mappings(down(&object_, {"subsets"}))) {
      for (const YamlNode* address : mappings(subset->get("addresses"))) {
        add_address(address->get("ip"), out.addresses);
      }
    }
    inventory_.endpoints.push_back(std::move(out));
  }

  void read_endpoint_slice() {
    const YamlNode* labels = down(metadata_, {"labels"});
    ir::Endpoints out{ns_, text_at(labels, "kubernetes.io/service-name"), {}, range_};
    if (out.service.empty()) out.service = name_;
    if (text_at(&object_, "addressType") == "FQDN") return;
    for (const YamlNode* endpoint : mappings(down(&object_, {"endpoints"}))) {
      const YamlNode* conditions = down(endpoint, {"conditions"});
      const YamlNode* ready = down(conditions, {"ready"});
      const bool down_now = ready != nullptr && ready->kind == NodeKind::Bool && !is_true(ready) &&
                            !is_true(down(conditions, {"serving"}));
      if (down_now) continue;
      if (const YamlNode* list = endpoint->get("addresses"); list != nullptr) {
        for (const YamlRef& item : list->items) add_address(item.node, out.addresses);
      }
    }
    inventory_.endpoints.push_back(std::move(out));
  }

  // Nodes keep their addresses in the order in which they are listed, InternalIP before ExternalIP.
  void read_addresses(const YamlNode* list, std::string_view address_key,
                      std::vector<ir::IpAddress>& out) {
    const auto items = mappings(list);
    for (const bool internal : {true, false}) {
      for (const YamlNode* item : items) {
        const std::string_view type = item->get_text("type");
        if ((type == "InternalIP") != internal) continue;
        if (type == "Hostname" || type == "InternalDNS" || type == "ExternalDNS") continue;
        add_address(item->get(address_key), out);
      }
    }
  }

  void read_node() {
    ir::Node out{name_, string_map(down(metadata_, {"labels"})), {}, range_};
    read_addresses(down(&object_, {"status", "addresses"}), "address", out.addresses);
    inventory_.nodes.push_back(std::move(out));
  }

  void read_cilium_node() {
    ir::Node out{name_, string_map(down(metadata_, {"labels"})), {}, range_};
    read_addresses(down(&object_, {"spec", "addresses"}), "ip", out.addresses);
    inventory_.nodes.push_back(std::move(out));
  }

  void read_cilium_identity() {
    ir::KnownIdentity out;
    const char* end = name_.data() + name_.size();
    auto [at, error] = std::from_chars(name_.data(), end, out.id);
    if (error != std::errc() || at != end) {
      complain(range_, fmt::format("the name of a CiliumIdentity is its number, not `{}`", name_));
      return;
    }
    const YamlNode* labels = object_.get("security-labels");
    for (const auto& [key, value] : string_map(labels)) {
      const std::size_t colon = key.find(':');
      const ir::Label label = colon == std::string::npos
                                  ? ir::Label{"k8s", key, value}
                                  : ir::Label{key.substr(0, colon), key.substr(colon + 1), value};
      out.labels.push_back(label.str());
    }
    std::sort(out.labels.begin(), out.labels.end());
    inventory_.known_identities.push_back(std::move(out));
  }

  void read_cilium_endpoint() {
    const YamlNode* status = down(&object_, {"status"});
    ir::Pod out;
    out.ns = ns_;
    out.name = name_;
    out.kind = kEndpointKind;
    out.range = range_;
    out.set = set_;
    ir::Namespace implied{ns_, {{std::string(kMetadataName), ns_}}, {}};
    if (const YamlNode* labels = down(status, {"identity", "labels"}); labels != nullptr) {
      for (const YamlRef& item : labels->items) {
        if (item.node == nullptr || !item.node->is_scalar()) continue;
        std::string_view text = item.node->text;
        if (text.substr(0, 4) != "k8s:") continue;
        text.remove_prefix(4);
        const std::size_t equals = text.find('=');
        const std::string_view key = text.substr(0, equals);
        const std::string value(equals == std::string_view::npos ? "" : text.substr(equals + 1));
        if (key.starts_with(kNamespaceLabelPrefix)) {
          implied.labels.emplace(key.substr(kNamespaceLabelPrefix.size()), value);
        } else if (key == kServiceAccountLabel) {
          out.service_account = value;
        } else if (!key.starts_with("io.cilium.k8s") && key != "io.kubernetes.pod.namespace") {
          out.labels.emplace(key, value);
        }
      }
    }
    const YamlNode* networking = down(status, {"networking"});
    for (const YamlNode* pair : mappings(down(networking, {"addressing"}))) {
      add_address(pair->get("ipv4"), out.ips);
      add_address(pair->get("ipv6"), out.ips);
    }
    for (const YamlNode* item : mappings(down(status, {"named-ports"}))) {
      const auto port = port_number(item->get("port"));
      const auto protocol = protocol_from(item->get_text("protocol"));
      if (port && protocol) out.ports.push_back({text_at(item, "name"), *port, *protocol});
    }
    // The host's own endpoint and health endpoints have no pod labels; they are no pods.
    if (out.labels.empty() && out.ips.empty()) return;
    inventory_.namespaces.push_back(std::move(implied));
    inventory_.pods.push_back(std::move(out));
  }

  const YamlNode& object_;
  SourceRange range_;
  std::string kind_;
  const YamlNode* metadata_;
  std::string ns_, set_, name_;
  ir::Inventory& inventory_;
  DiagnosticSink& sink_;
};

// ---- finish_inventory ----

// One entry for each key; later entries of the same key are merged into the first by `merge`.
template <class T, class Key, class Merge>
void sort_and_merge(std::vector<T>& list, Key key, Merge merge) {
  std::stable_sort(list.begin(), list.end(),
                   [&](const T& a, const T& b) { return key(a) < key(b); });
  std::vector<T> out;
  for (T& item : list) {
    if (!out.empty() && key(out.back()) == key(item)) {
      merge(out.back(), std::move(item));
    } else {
      out.push_back(std::move(item));
    }
  }
  list = std::move(out);
}

// What a CiliumEndpoint says goes to its Pod; endpoints without one become pods.
void merge_cilium_endpoints(std::vector<ir::Pod>& pods) {
  std::map<std::pair<std::string, std::string>, std::size_t> by_name;
  for (std::size_t i = 0; i < pods.size(); ++i) {
    if (pods[i].kind == "Pod") by_name.emplace(std::pair(pods[i].ns, pods[i].name), i);
  }
  std::vector<ir::Pod> out;
  std::vector<const ir::Pod*> orphans;
  for (const ir::Pod& pod : pods) {
    if (pod.kind != kEndpointKind) continue;
    auto it = by_name.find({pod.ns, pod.name});
    if (it == by_name.end()) {
      orphans.push_back(&pod);
    } else if (pods[it->second].ips.empty()) {
      pods[it->second].ips = pod.ips;
    }
  }
  for (const ir::Pod& pod : pods) {
    if (pod.kind != kEndpointKind) out.push_back(pod);
  }
  for (const ir::Pod* pod : orphans) {
    out.push_back(*pod);
    out.back().kind = "Pod";
  }
  pods = std::move(out);
}

// Hands out addresses from the documentation ranges, ascending, past everything in use.
class AddressPool {
 public:
  explicit AddressPool(const std::vector<ir::Prefix>& in_use) {
    for (const ir::Prefix& prefix : in_use) {
      // The default route is mentioned everywhere and forbids nothing.
      if (prefix.length == 0) continue;
      if (prefix.address.family == ir::Family::V4) {
        const std::uint64_t begin = prefix.address.v4();
        taken4_.emplace_back(begin, begin + (std::uint64_t{1} << (32U - prefix.length)));
      } else {
        taken6_.push_back(prefix);
      }
    }
    std::sort(taken4_.begin(), taken4_.end());
    choose_network6();
  }

  ir::IpAddress next4() {
    while (pool_ < kPools.size()) {
      const auto [begin, end] = kPools[pool_];
      cursor_ = std::max(cursor_, begin + 1);
      skip_taken();
      if (cursor_ + 1 < end) return ir::IpAddress::from_v4(static_cast<std::uint32_t>(cursor_++));
      ++pool_;
      cursor_ = 0;
      at_ = 0;
    }
    // More pods than addresses: go on behind the last pool rather than give none.
    return ir::IpAddress::from_v4(static_cast<std::uint32_t>((kPools.back().second + spill_++)));
  }

  ir::IpAddress next6() {
    ir::IpAddress ip = network6_;
    ++counter6_;
    for (std::size_t i = 0; i < 4; ++i) {
      ip.bytes[12 + i] = static_cast<std::uint8_t>(counter6_ >> (24U - 8U * i));
    }
    return ip;
  }

 private:
  using Range = std::pair<std::uint64_t, std::uint64_t>;  // half-open, host order
  static constexpr std::array<Range, 4> kPools = {{{0xC6336400, 0xC6336500},    // 198.51.100.0/24
                                                   {0xCB007100, 0xCB007200},    // 203.0.113.0/24
                                                   {0xC0000200, 0xC0000300},    // 192.0.2.0/24
                                                   {0x64400000, 0x64800000}}};  // 100.64.0.0/10

  void skip_taken() {
    // Ranges are sorted by their begin, so one pass per pool suffices.
    while (at_ < taken4_.size() && taken4_[at_].first <= cursor_) {
      cursor_ = std::max(cursor_, taken4_[at_].second);
      ++at_;
    }
  }

  void choose_network6() {
    network6_ = *ir::parse_ip("2001:db8::");
    for (std::uint32_t subnet = 0; subnet < 0x10000; ++subnet) {
      network6_.bytes[6] = static_cast<std::uint8_t>(subnet >> 8U);
      network6_.bytes[7] = static_cast<std::uint8_t>(subnet);
      const ir::Prefix candidate = ir::make_prefix(network6_, 64);
      const bool clash = std::any_of(taken6_.begin(), taken6_.end(), [&](const ir::Prefix& prefix) {
        // A prefix around all of 2001:db8::/32 cannot be avoided.
        return prefix.length > 32 && (candidate.contains(prefix) || prefix.contains(candidate));
      });
      if (!clash) return;
    }
  }

  std::vector<Range> taken4_;
  std::vector<ir::Prefix> taken6_;
  std::size_t pool_ = 0;
  std::size_t at_ = 0;
  std::uint64_t cursor_ = 0;
  std::uint64_t spill_ = 0;
  ir::IpAddress network6_;
  std::uint32_t counter6_ = 0;
};

void give_addresses(ir::Inventory& inventory, const ir::Settings& settings,
                    std::vector<ir::Prefix> in_use) {
  auto use = [&](const std::vector<ir::IpAddress>& addresses) {
    for (const ir::IpAddress& ip : addresses) in_use.push_back(ir::host_prefix(ip));
  };
  for (const ir::Pod& pod : inventory.pods) use(pod.ips);
  for (const ir::Node& node : inventory.nodes) use(node.addresses);
  for (const ir::Service& service : inventory.services) use(service.cluster_ips);
  for (const ir::Endpoints& endpoints : inventory.endpoints) use(endpoints.addresses);
  for (const ir::CidrGroup& group : inventory.cidr_groups) {
    in_use.insert(in_use.end(), group.cidrs.begin(), group.cidrs.end());
  }
  if (inventory.fqdn) {
    for (const auto& [name, addresses] : *inventory.fqdn) use(addresses);
  }
  AddressPool pool(in_use);
  for (ir::Pod& pod : inventory.pods) {
    if (!pod.ips.empty() || pod.host_network) continue;
    pod.synthetic_ip = true;
    if (settings.ipv4) pod.ips.push_back(pool.next4());
    if (settings.ipv6) pod.ips.push_back(pool.next6());
  }
}

}  // namespace

bool is_inventory_kind(std::string_view api_version, std::string_view kind) {
  const std::size_t slash = api_version.find('/');
  const std::string_view group =
      slash == std::string_view::npos ? std::string_view() : api_version.substr(0, slash);
  return std::any_of(kKinds.begin(), kKinds.end(),
                     [&](const KindRow& row) { return row.kind == kind && row.group == group; });
}

bool is_cluster_wide_kind(std::string_view kind) {
  return kind == "Namespace" || kind == "Node" || kind == "CiliumNode" || kind == "CiliumIdentity";
}

void read_inventory_object(const YamlRef& object, const std::string& ns, const std::string& set,
                           ir::Inventory& inventory, DiagnosticSink& sink) {
  if (object.node == nullptr || !object.node->is_mapping()) return;
  ObjectReader(object, ns, set, inventory, sink).read();
}

void finish_inventory(ir::Inventory& inventory, const ir::Settings& settings,
                      const std::vector<ir::Prefix>& prefixes_in_use) {
  for (const ir::Pod& pod : inventory.pods) {
    inventory.namespaces.push_back({pod.ns, {{std::string(kMetadataName), pod.ns}}, {}});
  }
  auto add_labels = [](ir::Namespace& into, ir::Namespace&& from) {
    if (!into.range.known()) into.range = from.range;
    into.labels.merge(std::move(from.labels));
  };
  auto keep_first = [](auto&, auto&&) {};
  sort_and_merge(
      inventory.namespaces, [](const ir::Namespace& n) { return n.name; }, add_labels);
  merge_cilium_endpoints(inventory.pods);
  sort_and_merge(
      inventory.pods, [](const ir::Pod& p) { return std::tuple(p.ns, p.kind, p.name, p.set); },
      keep_first);
  sort_and_merge(
      inventory.nodes, [](const ir::Node& n) { return n.name; },
      [](ir::Node& into, ir::Node&& from) {
        into.labels.merge(std::move(from.labels));
        for (const ir::IpAddress& ip : from.addresses) add_unique(into.addresses, ip);
      });
  sort_and_merge(
      inventory.services, [](const ir::Service& s) { return std::tuple(s.ns, s.name); },
      keep_first);
  sort_and_merge(
      inventory.endpoints,
      [](const ir::Endpoints& e) { return std::tuple(e.ns, e.service, e.addresses); }, keep_first);
  sort_and_merge(
      inventory.entries, [](const ir::EntryObject& e) { return std::tuple(e.ns, e.kind, e.name); },
      keep_first);
  sort_and_merge(
      inventory.cidr_groups, [](const ir::CidrGroup& g) { return g.name; }, keep_first);
  sort_and_merge(
      inventory.known_identities, [](const ir::KnownIdentity& i) { return i.id; }, keep_first);
  give_addresses(inventory, settings, prefixes_in_use);
}

}  // namespace policyc::frontend
