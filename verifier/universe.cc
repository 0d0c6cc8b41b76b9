#include "verifier/universe.h"

#include <fmt/format.h>

#include <algorithm>

#include "ir/connectivity.h"
#include "ir/identity.h"
#include "ir/resolve.h"

namespace policyc {
namespace {

// Who can be judged: pods, the endpoints that Cilium itself runs, and nodes (host policies).
enum SubjectKind : std::size_t { kPod, kHealth, kIngress, kInit, kNode, kSubjectKinds };

bool of_pods(const std::string& source) {
  return source == "any" || source == "k8s";
}

bool negative(ir::Operator op) {
  return op == ir::Operator::NotIn || op == ir::Operator::DoesNotExist;
}

const std::string kMetadataName =
    std::string(ir::kNamespaceLabelsPrefix) + "kubernetes.io/metadata.name";

// The label of the namespace's name says what the namespace key says, where identities carry both.
std::string canonical(const ir::Settings& settings, const std::string& key) {
  const bool same = key == kMetadataName && ir::is_identity_label(settings, "k8s", key) &&
                    ir::is_identity_label(settings, "k8s", ir::kNamespaceKey);
  return same ? std::string(ir::kNamespaceKey) : key;
}

// Two requirements on one placeholder are one condition, or each other's negation.
std::string symbol_key(const ir::Requirement& r) {
  ir::Requirement positive = r;
  if (r.op == ir::Operator::NotIn) positive.op = ir::Operator::In;
  if (r.op == ir::Operator::DoesNotExist) positive.op = ir::Operator::Exists;
  return positive.str();
}

// A name that the toFQDNs text matches.
std::string some_name(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c != '*') {
      out += c;
    } else if (out.empty() || out.back() != 'x') {
      out += 'x';
    }
  }
  return out;
}

bool knows_api_server(const ir::Inventory& inventory) {
  return std::any_of(
      inventory.endpoints.begin(), inventory.endpoints.end(),
      [](const ir::Endpoints& e) { return e.ns == "default" && e.service == "kubernetes"; });
}

PointSet one_bit(bool value) {
  PointSet out(2);
  out.add(value ? 1 : 0);
  return out;
}

}  // namespace

PointSet Universe::Key::points(const ir::Requirement& r) const {
  PointSet in(size());
  const std::size_t first = absent ? 1 : 0;
  if (r.op == ir::Operator::In || r.op == ir::Operator::NotIn) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (std::binary_search(r.values.begin(), r.values.end(), values[i])) in.add(first + i);
    }
  } else {
    for (std::size_t i = first; i < size(); ++i) in.add(i);
  }
  return negative(r.op) ? PointSet(size(), true) - in : in;
}

std::optional<std::string> Universe::Key::value(std::uint32_t point) const {
  if (absent && point == 0) return std::nullopt;
  const std::size_t at = point - (absent ? 1U : 0U);
  if (at < values.size()) return values[at];
  std::string out = "something-else";
  while (std::binary_search(values.begin(), values.end(), out)) out += "-x";
  return out;
}

void Universe::mention(const ir::Requirement& r, Keys& keys) const {
  if (!r.symbol.empty() || r.cidr || !of_pods(r.source)) return;
  Key& key = keys[canonical(world_.settings, r.key)];
  key.values.insert(key.values.end(), r.values.begin(), r.values.end());
}

void Universe::mention_symbol(const ir::Requirement& r,
                              std::map<std::string, std::uint32_t>& symbols, const char* who) {
  if (r.symbol.empty()) return;
  const auto [it, fresh] = symbols.try_emplace(symbol_key(r), 0);
  if (fresh) it->second = space_.add(fmt::format("{} {}", who, it->first), 2);
}

void Universe::collect(const ir::PolicySet& policies) {
  const auto port_name = [&](const ir::Port& p) {
    if (!p.name.empty()) port_names_.try_emplace({p.protocol, p.name}, 0);
    if (!p.symbol.empty()) port_names_.try_emplace({p.protocol, "${" + p.text}, 0);
  };
  for (const ir::Rule& rule : policies.rules) {
    for (const ir::Requirement& r : rule.subject.requirements) {
      mention(r, rule.host_subject ? node_keys_ : subject_keys_);
      mention_symbol(r, subject_symbols_, "subject");
    }
    if (!rule.symbol.empty() && subject_symbols_.try_emplace(rule.symbol, 0).second) {
      subject_symbols_[rule.symbol] = space_.add("subject " + rule.symbol, 2);
    }
    for (const ir::RuleItem& item : rule.items) {
      for (const ir::Requirement& r : item.requires_) {
        mention(r, peer_keys_);
        mention_symbol(r, peer_symbols_, "peer");
      }
      for (const ir::Peer& peer : item.peers) {
        if (peer.kind == ir::PeerKind::Node) {
          const auto [it, fresh] = node_selectors_.try_emplace(peer.selector.text(), 0);
          if (fresh) it->second = space_.add("nodes " + it->first, 2);
          continue;
        }
        for (const ir::Requirement& r : peer.selector.requirements) {
          mention(r, peer_keys_);
          mention_symbol(r, peer_symbols_, "peer");
        }
      }
      for (const ir::PortRule& pr : item.ports) {
        for (const ir::Port& p : pr.ports) port_name(p);
      }
    }
  }
  for (auto& [name, key] : port_names_) key = space_.l4_end++;
}

Universe::Universe(const ir::World& world) : world_(world) {
  const ir::Settings& settings = world.settings;
  subject_kind_ = space_.add("subject", kSubjectKinds);
  collect(world.policies);
  const auto finish = [&](Keys& keys, const char* who, bool subject) {
    for (auto& [name, key] : keys) {
      key.name = name;
      std::sort(key.values.begin(), key.values.end());
      key.values.erase(std::unique(key.values.begin(), key.values.end()), key.values.end());
      if (!ir::is_identity_label(settings, "k8s", name)) {
        key.values.clear();
        key.other = false;
      } else if (name == ir::kNamespaceKey || name == kMetadataName) {
        key.absent = false;
      } else if (name == ir::kClusterKey) {
        // Other clusters are there where a policy speaks of one, and where this one has a name of
        // its own: a cluster needs one to join a mesh.
        const bool mesh =
            settings.cluster_name != ir::Settings{}.cluster_name ||
            std::any_of(key.values.begin(), key.values.end(),
                        [&](const std::string& v) { return v != settings.cluster_name; });
        key.absent = false;
        key.other = !subject && mesh;
        if (subject) key.values.clear();
        if (!std::binary_search(key.values.begin(), key.values.end(), settings.cluster_name)) {
          key.values.insert(
              std::lower_bound(key.values.begin(), key.values.end(), settings.cluster_name),
              settings.cluster_name);
        }
      }
      key.dimension = space_.add(fmt::format("{} {}", who, name), key.size());
    }
  };
  finish(subject_keys_, "subject", true);
  finish(peer_keys_, "peer", false);
  finish(node_keys_, "node", true);

  // Everybody who is no pod.
  const auto add = [&](ir::LabelSet labels, std::optional<ir::Party> party) {
    if (std::any_of(points_.begin(), points_.end(),
                    [&](const Point& p) { return p.labels == labels; })) {
      return;
    }
    Point p{std::move(labels), std::move(party)};
    const auto& l = p.labels.labels();
    p.node = p.labels.has("reserved", "host") || p.labels.has("reserved", "remote-node");
    p.outside = p.labels.has("reserved", "world") || p.labels.has("reserved", "world-ipv4") ||
                p.labels.has("reserved", "world-ipv6");
    p.bare_world = settings.dual_stack() && l.size() == 1 &&
                   (l[0].key == "world-ipv4" || l[0].key == "world-ipv6");
    points_.push_back(std::move(p));
  };
  const ir::Inventory base = empty_inventory();
  const ir::AddressBook book(base, settings, world.policies, SIZE_MAX);
  add(book.host(), ir::EntityParty{"host"});
  for (std::size_t i = 0; i < base.nodes.size(); ++i) {
    add(ir::AddressBook(base, settings, world.policies, i).host(), std::nullopt);
  }
  for (const char* name :
       {"remote-node", "kube-apiserver", "health", "init", "ingress", "unmanaged"}) {
    add(ir::entity_identity(name), ir::EntityParty{name});
  }
  const std::vector<ir::Prefix> prefixes = book.prefixes();
  for (const ir::Prefix& p : prefixes) {
    // Longer prefixes may leave nothing of it.
    const auto at = ir::address_outside(p, prefixes);
    if (at) add(book.identity_of(p), ir::AddressParty{*at});
  }
  // Where the API server is has not been told: it may be any of them.
  const auto with_label = [](const ir::LabelSet& set, ir::Label label) {
    std::vector<ir::Label> labels = set.labels();
    labels.push_back(std::move(label));
    return ir::LabelSet(std::move(labels));
  };
  if (settings.cidr_match_nodes) {
    const std::vector<Point> all = points_;
    for (const Point& node : all) {
      for (const Point& address : all) {
        if (node.node && address.outside && address.labels.cidr()) {
          add(with_label(node.labels, ir::cidr_label(*address.labels.cidr())), std::nullopt);
        }
      }
    }
  }
  if (!knows_api_server(world.inventory)) {
    const std::vector<Point> all = points_;
    for (const Point& p : all) {
      if (p.node || p.outside) {
        add(with_label(p.labels, {"reserved", "kube-apiserver", ""}), std::nullopt);
      }
    }
  }
  peer_kind_ = space_.add("peer", points_.size() + 1);
  host_ = PointSet(points_.size() + 1);
  for (std::size_t i = 0; i < points_.size(); ++i) {
    if (points_[i].labels.has("reserved", "host")) host_.add(i + 1);
  }
  for (const std::string& text : ir::policy_names(world.policies)) {
    names_[text] = space_.add("name " + text, 2);
  }
}

bool Universe::narrow_pod(Box& box, const ir::Requirement& r, const Keys& keys,
                          const std::map<std::string, std::uint32_t>& symbols) const {
  if (!r.symbol.empty()) return box.restrict(symbols.at(symbol_key(r)), one_bit(!negative(r.op)));
  if (r.cidr || !of_pods(r.source)) return negative(r.op);
  const Key& key = keys.at(canonical(world_.settings, r.key));
  return box.restrict(key.dimension, key.points(r));
}

bool Universe::of_this_cluster_only() const {
  const auto cluster = peer_keys_.find(std::string(ir::kClusterKey));
  return cluster != peer_keys_.end() && !cluster->second.other;
}

std::vector<Box> Universe::subjects(const ir::Rule& rule) const {
  std::vector<Box> out;
  const auto& requirements = rule.subject.requirements;
  const auto kind = [&](std::size_t k) {
    Box b;
    b.end = space_.l4_end;
    PointSet only(kSubjectKinds);
    only.add(k);
    b.restrict(subject_kind_, only);
    if (!rule.symbol.empty()) b.restrict(subject_symbols_.at(rule.symbol), one_bit(true));
    return b;
  };
  Box box = kind(rule.host_subject ? kNode : kPod);
  const Keys& keys = rule.host_subject ? node_keys_ : subject_keys_;
  if (std::all_of(requirements.begin(), requirements.end(), [&](const ir::Requirement& r) {
        return narrow_pod(box, r, keys, subject_symbols_);
      })) {
    out.push_back(std::move(box));
  }
  if (rule.host_subject) return out;
  static constexpr std::pair<SubjectKind, const char*> kReserved[] = {
      {kHealth, "health"}, {kIngress, "ingress"}, {kInit, "init"}};
  for (const auto& [k, name] : kReserved) {
    const ir::LabelSet labels = ir::entity_identity(name);
    Box b = kind(k);
    if (std::all_of(requirements.begin(), requirements.end(), [&](const ir::Requirement& r) {
          return r.symbol.empty() ? r.matches(labels)
                                  : narrow_pod(b, r, subject_keys_, subject_symbols_);
        })) {
      out.push_back(std::move(b));
    }
  }
  return out;
}

const std::vector<Box>& Universe::peers(const ir::Selector& selector, bool of_node_labels) const {
  const std::string text = (of_node_labels ? "node " : "") + selector.text();
  auto it = peer_cache_.find(text);
  if (it == peer_cache_.end()) {
    it = peer_cache_.emplace(text, boxes(selector, of_node_labels)).first;
  }
  return it->second;
}

std::vector<Box> Universe::boxes(const ir::Selector& selector, bool of_node_labels) const {
  std::vector<Box> out;
  Box pods;
  pods.end = space_.l4_end;
  PointSet only(points_.size() + 1);
  if (of_node_labels) {
    for (std::size_t i = 0; i < points_.size(); ++i) {
      if (points_[i].node) only.add(i + 1);
    }
    if (pods.restrict(peer_kind_, only) &&
        pods.restrict(node_selectors_.at(selector.text()), one_bit(true))) {
      out.push_back(std::move(pods));
    }
    return out;
  }
  Box others = pods;
  only.add(0);
  pods.restrict(peer_kind_, only);
  if (std::all_of(selector.requirements.begin(), selector.requirements.end(),
                  [&](const ir::Requirement& r) {
                    return narrow_pod(pods, r, peer_keys_, peer_symbols_);
                  })) {
    out.push_back(std::move(pods));
  }
  // Those without labels of their own: point by point, except for what is open.
  ir::Selector known;
  bool of_names = false, possible = true;
  for (const ir::Requirement& r : selector.requirements) {
    const auto name = names_.find(r.key);
    if (!r.symbol.empty()) {
      possible = possible && narrow_pod(others, r, peer_keys_, peer_symbols_);
    } else if (r.source == "fqdn" && r.op == ir::Operator::Exists && name != names_.end()) {
      of_names = true;
      // Whoever has this name has the names that its patterns take in.
      const std::string read = ir::dns_pattern(world_.settings.release(), r.key);
      const bool pattern = read.find('*') != std::string::npos;
      for (const auto& [text, dimension] : names_) {
        const std::string other = ir::dns_pattern(world_.settings.release(), text);
        if (text == r.key || other == "*" || (!pattern && ir::dns_pattern_matches(other, r.key))) {
          possible = possible && others.restrict(dimension, one_bit(true));
        }
      }
    } else {
      known.requirements.push_back(r);
    }
  }
  static const ir::LabelSet kWorld = ir::entity_identity("world");
  PointSet kinds(points_.size() + 1);
  for (std::size_t i = 0; i < points_.size(); ++i) {
    const Point& p = points_[i];
    if (of_names && !p.outside) continue;
    if (known.matches(p.labels) || (p.bare_world && known.matches(kWorld))) kinds.add(i + 1);
  }
  if (possible && others.restrict(peer_kind_, kinds)) out.push_back(std::move(others));
  return out;
}

std::vector<std::pair<ir::L4Key, ir::L4Key>> Universe::keys(const ir::Port& port) const {
  if (port.protocol == ir::kProtoAny) return {all_keys()};
  const std::string name = !port.symbol.empty() ? "${" + port.text : port.name;
  if (!name.empty()) {
    const ir::L4Key key = port_names_.at({port.protocol, name});
    return {{key, key + 1}};
  }
  std::vector<std::pair<ir::L4Key, ir::L4Key>> out;
  const std::uint16_t last = port.end > port.number ? port.end : port.number;
  if (port.number == 0 && (port.end == 0 || port.end == 65535)) {
    out.emplace_back(ir::l4_key(port.protocol, 0), ir::l4_key(port.protocol, 65535) + 1);
    // Whatever number a name stands for, it is among all ports.
    for (const auto& [named, key] : port_names_) {
      if (named.first == port.protocol) out.emplace_back(key, key + 1);
    }
  } else {
    out.emplace_back(ir::l4_key(port.protocol, port.number), ir::l4_key(port.protocol, last) + 1);
  }
  return out;
}

ir::Inventory Universe::empty_inventory() const {
  ir::Inventory out = world_.inventory;
  out.pods.clear();
  out.services.clear();
  out.known_identities.clear();
  out.fqdn.reset();
  out.completeness = ir::Completeness::Complete;
  return out;
}

bool Universe::spread_addresses(const ir::PolicySet& policies, ir::Inventory& inventory,
                                bool single) const {
  constexpr std::size_t kMost = 2000;
  const std::vector<ir::Prefix> blocks =
      ir::AddressBook(inventory, world_.settings, policies, SIZE_MAX).prefixes();
  const std::vector<std::string> names = ir::policy_names(policies);
  if (blocks.size() * (names.size() + 1) > kMost) return false;
  std::vector<ir::Prefix> used = blocks;
  const auto take = [&](const ir::Prefix& block) {
    // The last address of a block is left to the block.
    std::vector<ir::Prefix> rest = used;
    const auto at = ir::address_outside(block, rest);
    if (!at) return at;
    if (block.length == block.address.bits()) return single ? at : std::nullopt;
    rest.push_back(ir::host_prefix(*at));
    if (!ir::address_outside(block, rest)) return std::optional<ir::IpAddress>();
    used = std::move(rest);
    return at;
  };
  inventory.fqdn.emplace();
  for (const std::string& text : names) {
    auto& addresses = (*inventory.fqdn)[some_name(text)];
    for (const ir::Prefix& block : blocks) {
      if (const auto at = take(block)) addresses.push_back(*at);
    }
  }
  if (knows_api_server(inventory)) return true;
  ir::Endpoints server{"default", "kubernetes", {}, {}};
  for (const ir::Prefix& block : blocks) {
    if (const auto at = take(block)) server.addresses.push_back(*at);
  }
  ir::Node node;
  node.name = "node-of-the-api-server";
  node.addresses = {*ir::parse_ip(world_.settings.ipv4 ? "100.127.255.254" : "fdff:ffff::fffe")};
  server.addresses.push_back(node.addresses.front());
  inventory.endpoints.push_back(std::move(server));
  inventory.nodes.push_back(std::move(node));
  return true;
}

std::vector<std::string> Universe::hosts(const ir::PolicySet& policies,
                                         const ir::Inventory& inventory) const {
  std::map<ir::LabelSet, std::string> by_labels;
  for (std::size_t i = 0; i < inventory.nodes.size(); ++i) {
    const ir::AddressBook book(inventory, world_.settings, policies, i);
    by_labels.try_emplace(book.host(), inventory.nodes[i].name);
  }
  std::vector<std::string> out;
  for (const auto& [labels, node] : by_labels) out.push_back(node);
  return out;
}

std::optional<ir::Pod> Universe::pod(const FlowPoint& point, const Keys& keys,
                                     const std::string& name, ir::Inventory& inventory) const {
  ir::Pod pod;
  pod.name = name;
  pod.ns = "some-namespace";
  ir::StringMap ns_labels;
  for (const auto& [key, k] : keys) {
    const auto value = k.value(point.values[k.dimension]);
    if (!value) continue;
    if (value->find("${") != std::string::npos) return std::nullopt;
    if (key == ir::kNamespaceKey || key == kMetadataName) {
      pod.ns = *value;
    } else if (key == ir::kClusterKey) {
      if (*value != world_.settings.cluster_name) return std::nullopt;
    } else if (key == ir::kServiceAccountKey) {
      pod.service_account = *value;
    } else if (key.rfind(ir::kNamespaceLabelsPrefix, 0) == 0) {
      ns_labels[key.substr(ir::kNamespaceLabelsPrefix.size())] = *value;
    } else {
      pod.labels[key] = *value;
    }
  }
  ns_labels["kubernetes.io/metadata.name"] = pod.ns;
  std::erase_if(inventory.namespaces, [&](const ir::Namespace& n) {
    return n.name == pod.ns && std::none_of(inventory.pods.begin(), inventory.pods.end(),
                                            [&](const ir::Pod& p) { return p.ns == n.name; });
  });
  if (const ir::Namespace* known = inventory.find_namespace(pod.ns)) {
    // A namespace has its labels once: both pods must agree on them.
    if (known->labels != ns_labels) return std::nullopt;
  } else {
    inventory.namespaces.push_back({pod.ns, std::move(ns_labels), {}});
    std::sort(inventory.namespaces.begin(), inventory.namespaces.end(),
              [](const ir::Namespace& a, const ir::Namespace& b) { return a.name < b.name; });
  }
  return pod;
}

std::optional<ir::Pod> Universe::subject_pod(const FlowPoint& point,
                                             ir::Inventory& inventory) const {
  if (point.values[subject_kind_] != kPod) return std::nullopt;
  return pod(point, subject_keys_, "subject", inventory);
}

std::optional<ir::Pod> Universe::peer_pod(const FlowPoint& point, ir::Inventory& inventory) const {
  if (point.values[peer_kind_] != 0) return std::nullopt;
  return pod(point, peer_keys_, "peer", inventory);
}

std::optional<Universe::Scene> Universe::scene(const FlowPoint& point,
                                               ir::Direction direction) const {
  if (point.key >= ir::kL4KeyEnd) return std::nullopt;
  for (const auto* symbols : {&subject_symbols_, &peer_symbols_}) {
    for (const auto& [text, d] : *symbols) {
      if (point.values[d] != 0) return std::nullopt;
    }
  }
  for (const auto& [text, d] : node_selectors_) {
    if (point.values[d] != 0) return std::nullopt;
  }
  Scene out;
  out.inventory = empty_inventory();
  out.inventory.fqdn.emplace();
  const auto subject = subject_pod(point, out.inventory);
  if (!subject) return std::nullopt;
  out.inventory.pods.push_back(*subject);
  ir::Party peer;
  if (point.values[peer_kind_] == 0) {
    const auto other = peer_pod(point, out.inventory);
    if (!other) return std::nullopt;
    out.inventory.pods.push_back(*other);
    peer = ir::PodParty{1};
  } else {
    const Point& p = points_[point.values[peer_kind_] - 1];
    if (!p.party) return std::nullopt;
    peer = *p.party;
    for (const auto& [text, d] : names_) {
      if (point.values[d] == 0) continue;
      const auto* address = std::get_if<ir::AddressParty>(&peer);
      if (address == nullptr) return std::nullopt;
      (*out.inventory.fqdn)[some_name(text)].push_back(address->ip);
    }
  }
  const auto protocol_class = static_cast<ir::ProtocolClass>(point.key >> 16U);
  out.flow.protocol = ir::class_protocol(protocol_class);
  if (protocol_class == ir::kOther) out.flow.protocol = 47;  // GRE: one without ports
  out.flow.port = static_cast<std::uint16_t>(point.key & 0xFFFFU);
  const bool ingress = direction == ir::Direction::Ingress;
  out.flow.from = ingress ? peer : ir::Party(ir::PodParty{0});
  out.flow.to = ingress ? ir::Party(ir::PodParty{0}) : peer;
  return out;
}

}  // namespace policyc
