#include "cli/names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "cli/suggest.h"
#include "ir/base/text.h"
#include "ir/identity.h"

namespace policyc::cli {

std::optional<ir::Selector> parse_selector(const std::string& text) {
  ir::Selector out;
  std::vector<std::string> parts;
  int depth = 0;
  parts.emplace_back();
  for (const char c : text) {
    if (c == '(') ++depth;
    if (c == ')') --depth;
    if (c == ',' && depth == 0) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  for (std::string part : parts) {
    const auto trim = [](std::string s) {
      const std::size_t b = s.find_first_not_of(" \t");
      if (b == std::string::npos) return std::string();
      return s.substr(b, s.find_last_not_of(" \t") - b + 1);
    };
    ir::Requirement r;
    const std::size_t paren = part.find('(');
    if (paren != std::string::npos && part.back() == ')') {
      std::istringstream head(part.substr(0, paren));
      std::string key;
      std::string op;
      head >> key >> op;
      op = lower(op);
      if (op != "in" && op != "notin") return std::nullopt;
      std::tie(r.source, r.key) = ir::split_key(key);
      r.op = op == "in" ? ir::Operator::In : ir::Operator::NotIn;
      std::istringstream list(part.substr(paren + 1, part.size() - paren - 2));
      for (std::string v; std::getline(list, v, ',');) r.values.push_back(trim(v));
      std::sort(r.values.begin(), r.values.end());
    } else if (const std::size_t eq = part.find('='); eq != std::string::npos) {
      const bool negative = eq > 0 && part[eq - 1] == '!';
      const std::string key = trim(part.substr(0, negative ? eq - 1 : eq));
      const std::size_t value = part.find_first_not_of("=", eq);
      if (key.empty()) return std::nullopt;
      std::tie(r.source, r.key) = ir::split_key(key);
      r.op = negative ? ir::Operator::NotIn : ir::Operator::In;
      r.values = {value == std::string::npos ? "" : trim(part.substr(value))};
    } else {
      return std::nullopt;
    }
    out.requirements.push_back(std::move(r));
  }
  return out;
}

namespace {

bool is_entity(const std::string& word) {
  static const std::set<std::string> kEntities = {
      "world",          "world-ipv4", "world-ipv6", "host", "remote-node",
      "kube-apiserver", "ingress",    "health",     "init", "unmanaged"};
  return kEntities.count(word) != 0;
}

// The kind that kubectl knows by this word; empty where it knows none.
std::string kind_named(const std::string& word) {
  struct Kind {
    const char* kind;
    std::vector<std::string> shorts;
  };
  static const std::vector<Kind> kKinds = {
      {"Pod", {"po"}},       {"Deployment", {"deploy"}}, {"StatefulSet", {"sts"}},
      {"DaemonSet", {"ds"}}, {"ReplicaSet", {"rs"}},     {"ReplicationController", {"rc"}},
      {"Job", {}},           {"CronJob", {"cj"}},        {"Service", {"svc"}},
      {"Node", {"no"}},      {"Ingress", {"ing"}},       {"Gateway", {"gtw"}},
  };
  const std::string small = lower(word);
  for (const Kind& k : kKinds) {
    const std::string singular = lower(k.kind);
    const bool is_short = std::find(k.shorts.begin(), k.shorts.end(), small) != k.shorts.end();
    if (small == singular || is_short) return k.kind;
    if (small == singular + (singular.back() == 's' ? "es" : "s")) return k.kind;
  }
  return "";
}

constexpr const char* kNameLabels[] = {"app", "app.kubernetes.io/name", "k8s-app", "name", "role"};

using PodList = std::vector<std::size_t>;

// Pods that policies cannot tell apart are one candidate.
std::map<ir::LabelSet, PodList> by_identity(const ir::World& world, const PodList& pods) {
  std::map<ir::LabelSet, PodList> out;
  for (const std::size_t p : pods) {
    out[ir::pod_identity(world.inventory, world.settings, world.inventory.pods[p])].push_back(p);
  }
  return out;
}

// One party for each identity among the pods.
ResolvedSide side_of(const ir::World& world, const PodList& pods) {
  ResolvedSide out;
  out.pods = pods;
  for (const auto& [labels, list] : by_identity(world, pods)) {
    out.parties.emplace_back(ir::PodParty{list.front()});
  }
  return out;
}

Expected<ResolvedSide> one_identity(const ir::World& world, const std::string& text,
                                    const PodList& pods, const std::string& note) {
  ResolvedSide out = side_of(world, pods);
  if (out.parties.size() > 1) {
    std::vector<std::string> names;
    for (const ir::Party& p : out.parties) {
      names.push_back(world.inventory.pods[std::get<ir::PodParty>(p).pod].full_name());
    }
    std::sort(names.begin(), names.end());
    return Error{
        fmt::format("`{}` is ambiguous: it may be {}; write one of them, or a label selector "
                    "like app=x",
                    text, fmt::join(names, ", "))};
  }
  out.parties = {ir::PodParty{pods.front()}};
  out.note = note;
  return out;
}

// What the policies themselves say of a name: label sets of subjects and peers that mention it.
std::set<std::pair<std::string, ir::LabelSet>> mentioned_sets(const ir::World& world,
                                                              const std::string& text) {
  std::set<std::pair<std::string, ir::LabelSet>> out;  // namespace, labels
  const auto consider = [&](const ir::Selector& s) {
    bool named = false;
    std::string ns;
    std::vector<ir::Label> labels;
    for (const ir::Requirement& r : s.requirements) {
      if (r.op != ir::Operator::In || r.values.size() != 1 || !r.symbol.empty()) continue;
      if (r.source != "any" && r.source != "k8s") continue;
      if (r.key == ir::kNamespaceKey) {
        ns = r.values[0];
        continue;
      }
      for (const char* key : kNameLabels) named = named || (r.key == key && r.values[0] == text);
      labels.push_back({"k8s", r.key, r.values[0]});
    }
    if (named) out.emplace(ns, ir::LabelSet(std::move(labels)));
  };
  for (const ir::Rule& rule : world.policies.rules) {
    consider(rule.subject);
    for (const ir::RuleItem& item : rule.items) {
      for (const ir::Peer& peer : item.peers) consider(peer.selector);
    }
  }
  return out;
}

ir::Party labels_party(const ir::World& world, const std::string& ns, const ir::LabelSet& labels) {
  std::vector<ir::Label> all = labels.labels();
  if (!ns.empty()) {
    ir::StringMap none;
    const ir::LabelSet derived = ir::pod_identity(world.inventory, world.settings, ns, none, "");
    all.insert(all.end(), derived.labels().begin(), derived.labels().end());
  } else {
    all.push_back({"k8s", std::string(ir::kClusterKey), world.settings.cluster_name});
  }
  return ir::LabelsParty{ir::LabelSet(std::move(all)), ns};
}

// An object as the name of a question gives it: "db", "shop/db", "sts/db", "sts/shop/db",
// "shop/sts/db".
struct AskedObject {
  std::string kind, ns, name;  // kind and ns may be empty
};

AskedObject asked_object(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, '/');) parts.push_back(part);
  if (text.find_first_of("=(), ") == std::string::npos && text.back() != '/') {
    const std::string first = kind_named(parts[0]);
    if (parts.size() == 2) {
      if (!first.empty()) return {first, "", parts[1]};
      return {"", parts[0], parts[1]};
    }
    if (parts.size() == 3) {
      if (!first.empty()) return {first, parts[1], parts[2]};
      if (const std::string kind = kind_named(parts[1]); !kind.empty()) {
        return {kind, parts[0], parts[2]};
      }
    }
  }
  return {"", "", text};
}

class Finder {
 public:
  Finder(const ir::World& world, const std::string& text, const std::string& ns)
      : world_(world), inv_(world.inventory), text_(text), ns_(ns), asked_(asked_object(text)) {}

  Expected<ResolvedSide> find();

 private:
  using Answer = std::optional<Expected<ResolvedSide>>;

  Answer entity() const;
  Answer address() const;
  Answer workload() const;
  Answer node() const;
  Answer service() const;
  Answer entry() const;
  Answer label_value() const;
  Answer labels() const;
  Answer mentioned() const;
  Answer dns_name() const;
  ResolvedSide block(const ir::Prefix& prefix) const;
  ResolvedSide back_ends(const ir::Service& s) const;
  Error unknown() const;

  bool may_be(const char* kind) const { return asked_.kind.empty() || asked_.kind == kind; }
  bool in_scope(const std::string& ns) const {
    if (!asked_.ns.empty()) return ns == asked_.ns;
    return ns_.empty() || ns == ns_;
  }

  const ir::World& world_;
  const ir::Inventory& inv_;
  const std::string& text_;
  const std::string& ns_;
  AskedObject asked_;
};

Expected<ResolvedSide> Finder::find() {
  if (text_.empty()) return Error{"a name is empty"};
  for (const auto step : {&Finder::entity, &Finder::address, &Finder::workload, &Finder::node,
                          &Finder::service, &Finder::entry, &Finder::label_value, &Finder::labels,
                          &Finder::mentioned, &Finder::dns_name}) {
    if (auto found = (this->*step)()) return std::move(*found);
  }
  return unknown();
}

Finder::Answer Finder::entity() const {
  const std::string word = lower(text_);
  const bool dual = world_.settings.dual_stack();
  ResolvedSide out;
  if (word == "world" && dual) {
    out.parties = {ir::EntityParty{"world-ipv4"}, ir::EntityParty{"world-ipv6"}};
    return out;
  }
  if (is_entity(word)) {
    out.parties = {ir::EntityParty{word}};
    return out;
  }
  if (word != "cluster" && word != "all") return std::nullopt;
  // Groups: one party for each identity that the entity stands for.
  PodList pods;
  for (std::size_t i = 0; i < inv_.pods.size(); ++i) pods.push_back(i);
  out = side_of(world_, pods);
  for (const char* entity : {"host", "remote-node", "kube-apiserver", "ingress", "health"}) {
    out.parties.emplace_back(ir::EntityParty{entity});
  }
  if (word == "all" && dual) {
    out.parties.emplace_back(ir::EntityParty{"world-ipv4"});
    out.parties.emplace_back(ir::EntityParty{"world-ipv6"});
  } else if (word == "all") {
    out.parties.emplace_back(ir::EntityParty{"world"});
  }
  out.note =
      fmt::format("`{}` is judged by each of the {} identities in it", text_, out.parties.size());
  return out;
}

Finder::Answer Finder::address() const {
  auto ip = ir::parse_ip(text_);
  if (!ip) {
    const auto prefix = ir::parse_prefix(text_);
    if (!prefix) return std::nullopt;
    if (prefix->length != prefix->address.bits()) return block(*prefix);
    ip = prefix->address;
  }
  const auto has = [&](const std::vector<ir::IpAddress>& list) {
    return std::find(list.begin(), list.end(), *ip) != list.end();
  };
  // A pod's address is the pod; a Service's is its back ends.
  ResolvedSide out;
  for (std::size_t i = 0; i < inv_.pods.size(); ++i) {
    const ir::Pod& pod = inv_.pods[i];
    if (pod.host_network || pod.synthetic_ip || !has(pod.ips)) continue;
    out.parties = {ir::PodParty{i}};
    out.pods = {i};
    out.note = fmt::format("`{}` is {}", ip->str(), pod.full_name());
    return out;
  }
  for (const ir::Service& s : inv_.services) {
    if (has(s.cluster_ips)) return resolve_side(world_, fmt::format("svc/{}/{}", s.ns, s.name), "");
  }
  out.parties = {ir::AddressParty{*ip}};
  return out;
}

ResolvedSide Finder::block(const ir::Prefix& prefix) const {
  // The pods in it, and one address for each part of the rest that policies tell apart.
  PodList pods;
  std::set<ir::Prefix> pod_addresses;
  for (std::size_t i = 0; i < inv_.pods.size(); ++i) {
    const ir::Pod& pod = inv_.pods[i];
    if (pod.host_network || pod.synthetic_ip) continue;
    bool inside = false;
    for (const ir::IpAddress& ip : pod.ips) {
      if (!prefix.contains(ip)) continue;
      inside = true;
      pod_addresses.insert(ir::host_prefix(ip));
    }
    if (inside) pods.push_back(i);
  }
  ResolvedSide out = side_of(world_, pods);
  const std::size_t identities = out.parties.size();
  const ir::AddressBook book(inv_, world_.settings, world_.policies,
                             inv_.nodes.size() == 1 ? 0 : SIZE_MAX);
  std::vector<ir::Prefix> parts = book.prefixes();
  std::erase_if(parts, [&](const ir::Prefix& p) { return !prefix.contains(p); });
  const std::vector<ir::Prefix> inner = parts;
  if (std::find(parts.begin(), parts.end(), prefix) == parts.end()) parts.push_back(prefix);
  std::erase_if(parts, [&](const ir::Prefix& p) { return pod_addresses.count(p) != 0; });
  for (const ir::Prefix& p : parts) {
    const auto address = ir::address_outside(p, inner);
    if (address) out.parties.emplace_back(ir::AddressParty{*address});
  }
  out.note = fmt::format(
      "`{}` is judged by one address for each of the {} parts that the policies "
      "tell apart",
      text_, out.parties.size() - identities);
  if (identities != 0) out.note += fmt::format(", and by the {} pods in it", pods.size());
  if (const auto services = services_in(inv_, prefix); !services.empty()) {
    out.note += fmt::format(
        "; the addresses of Services in it are not, policies judge their back ends: ask of {}",
        fmt::join(services, ", "));
  }
  return out;
}

Finder::Answer Finder::workload() const {
  if (!asked_.kind.empty() && (asked_.kind == "Service" || asked_.kind == "Node" ||
                               asked_.kind == "Ingress" || asked_.kind == "Gateway")) {
    return std::nullopt;
  }
  // By the full name; by an object's own name; by the name of the workload that made the pods.
  PodList exact;
  std::map<std::string, PodList> own, owned;  // by object
  for (std::size_t i = 0; i < inv_.pods.size(); ++i) {
    const ir::Pod& pod = inv_.pods[i];
    if (pod.full_name() == text_) exact.push_back(i);
    if (!in_scope(pod.ns)) continue;
    if (pod.name == asked_.name && may_be(pod.kind.c_str())) own[pod.full_name()].push_back(i);
    const std::size_t slash = pod.owner.find('/');
    if (slash == std::string::npos || pod.owner.substr(slash + 1) != asked_.name) continue;
    if (may_be(pod.owner.substr(0, slash).c_str())) owned[pod.ns + "/" + pod.owner].push_back(i);
  }
  if (!exact.empty()) return one_identity(world_, text_, exact, "");
  // A template, and the pods made from it.
  std::map<std::string, PodList> found = own;
  for (const auto& [object, pods] : owned) {
    if (!own.empty() && asked_.kind.empty() && own.count(object) == 0) continue;
    found[object].insert(found[object].end(), pods.begin(), pods.end());
  }
  if (found.empty()) return std::nullopt;
  PodList all;
  std::vector<std::string> objects;
  for (const auto& [object, pods] : found) {
    objects.push_back(object);
    all.insert(all.end(), pods.begin(), pods.end());
  }
  ResolvedSide out = side_of(world_, all);
  if (objects.size() > 1 && out.parties.size() > 1) {
    return Error{
        fmt::format("`{}` is ambiguous: it may be {}; write one of them, or a label selector "
                    "like app=x",
                    text_, fmt::join(objects, ", "))};
  }
  if (out.parties.size() > 1) {
    out.note = fmt::format("`{}` is the {} pods of {}, which carry {} sets of labels", text_,
                           all.size(), objects[0], out.parties.size());
  } else if (own.empty()) {
    out.note = all.size() == 1
                   ? fmt::format("`{}` is the pod of {}", text_, objects[0])
                   : fmt::format("`{}` is the {} pods of {}", text_, all.size(), objects[0]);
  }
  return out;
}

Finder::Answer Finder::node() const {
  if (!may_be("Node") || !asked_.ns.empty()) return std::nullopt;
  for (std::size_t i = 0; i < inv_.nodes.size(); ++i) {
    if (inv_.nodes[i].name != asked_.name) continue;
    ResolvedSide out;
    out.parties = {ir::NodeParty{i}};
    return out;
  }
  return std::nullopt;
}

Finder::Answer Finder::service() const {
  if (!may_be("Service")) return std::nullopt;
  std::vector<const ir::Service*> found;
  for (const ir::Service& s : inv_.services) {
    if (s.name == asked_.name && in_scope(s.ns)) found.push_back(&s);
  }
  if (found.empty()) return std::nullopt;
  if (found.size() > 1) {
    std::vector<std::string> names;
    for (const ir::Service* s : found) names.push_back("svc/" + s->ns + "/" + s->name);
    return Error{fmt::format("`{}` is ambiguous: it may be {}", text_, fmt::join(names, ", "))};
  }
  const ir::Service& s = *found.front();
  ResolvedSide out = back_ends(s);
  if (out.parties.empty()) {
    return Error{
        fmt::format("Service {}/{} has no back ends in the input; policies judge back "
                    "ends, not the Service address",
                    s.ns, s.name)};
  }
  if (s.headless) {
    out.note = fmt::format(
        "`{}` is headless Service {}/{}: its name leads to its pods, which are judged at the port "
        "that is asked for",
        text_, s.ns, s.name);
    return out;
  }
  out.service = s;
  out.note = fmt::format("`{}` is Service {}/{}: its back ends are judged, at the target port",
                         text_, s.ns, s.name);
  return out;
}

ResolvedSide Finder::back_ends(const ir::Service& s) const {
  PodList pods;
  for (std::size_t i = 0; i < inv_.pods.size() && !s.selector.empty(); ++i) {
    const ir::Pod& pod = inv_.pods[i];
    const bool match = std::all_of(s.selector.begin(), s.selector.end(), [&](const auto& want) {
      const auto it = pod.labels.find(want.first);
      return it != pod.labels.end() && it->second == want.second;
    });
    if (pod.ns == s.ns && match) pods.push_back(i);
  }
  ResolvedSide out = side_of(world_, pods);
  if (!s.selector.empty()) return out;
  for (const ir::Endpoints& e : inv_.endpoints) {
    if (e.ns != s.ns || e.service != s.name) continue;
    for (const ir::IpAddress& ip : e.addresses) out.parties.emplace_back(ir::AddressParty{ip});
  }
  return out;
}

// Traffic through an Ingress or a Gateway comes from Cilium's own proxy.
Finder::Answer Finder::entry() const {
  if (!may_be("Ingress") && !may_be("Gateway")) return std::nullopt;
  for (const ir::EntryObject& e : inv_.entries) {
    if (e.name != asked_.name || !may_be(e.kind.c_str()) || !in_scope(e.ns)) continue;
    ResolvedSide out;
    out.parties = {ir::EntityParty{"ingress"}};
    out.note = fmt::format("`{} {}/{}`: traffic through it arrives as the `ingress` identity",
                           e.kind, e.ns, e.name);
    return out;
  }
  return std::nullopt;
}

// Values of the labels that usually carry names.
Finder::Answer Finder::label_value() const {
  if (!asked_.kind.empty()) return std::nullopt;
  for (const char* key : kNameLabels) {
    PodList pods;
    for (std::size_t i = 0; i < inv_.pods.size(); ++i) {
      const auto it = inv_.pods[i].labels.find(key);
      if (it != inv_.pods[i].labels.end() && it->second == asked_.name &&
          in_scope(inv_.pods[i].ns)) {
        pods.push_back(i);
      }
    }
    if (!pods.empty()) {
      return one_identity(world_, text_, pods,
                          fmt::format("`{}` is the pods with {}={}{}", text_, key, asked_.name,
                                      asked_.ns.empty() ? "" : " in namespace " + asked_.ns));
    }
  }
  return std::nullopt;
}

Finder::Answer Finder::labels() const {
  const auto selector = parse_selector(text_);
  if (!selector) return std::nullopt;
  PodList pods;
  for (std::size_t i = 0; i < inv_.pods.size(); ++i) {
    const ir::Pod& pod = inv_.pods[i];
    if (!in_scope(pod.ns)) continue;
    if (selector->matches(ir::pod_identity(inv_, world_.settings, pod))) pods.push_back(i);
  }
  ResolvedSide out = side_of(world_, pods);
  if (!out.parties.empty()) {
    out.note = fmt::format("`{}` selects {} pods of the input", text_, pods.size());
    return out;
  }
  if (!inv_.pods.empty()) {
    return Error{fmt::format("no pod of the input has the labels `{}`", text_)};
  }
  // No inventory: any pod with these labels, everything else about it free.
  std::vector<ir::Label> labels;
  std::string own_ns = ns_;
  for (const ir::Requirement& r : selector->requirements) {
    if (r.op != ir::Operator::In || r.values.size() != 1) {
      return Error{
          fmt::format("without pods in the input a selector needs plain key=value parts; "
                      "`{}` has another",
                      text_)};
    }
    if (r.key == ir::kNamespaceKey) {
      own_ns = r.values[0];
    } else {
      labels.push_back({"k8s", r.key, r.values[0]});
    }
  }
  out.parties = {labels_party(world_, own_ns, ir::LabelSet(std::move(labels)))};
  out.note = fmt::format("`{}`: the answer holds for any pod with these labels", text_);
  return out;
}

Finder::Answer Finder::mentioned() const {
  if (!asked_.kind.empty()) return std::nullopt;
  const std::string& ns = asked_.ns.empty() ? ns_ : asked_.ns;
  const auto mentioned = mentioned_sets(world_, asked_.name);
  if (mentioned.empty()) return std::nullopt;
  std::set<std::pair<std::string, ir::LabelSet>> fitting;
  for (const auto& m : mentioned) {
    if (ns.empty() || m.first.empty() || m.first == ns) fitting.insert(m);
  }
  if (fitting.empty()) return std::nullopt;
  if (fitting.size() == 1) {
    const auto& [own_ns, labels] = *fitting.begin();
    ResolvedSide out;
    out.parties = {labels_party(world_, own_ns.empty() ? ns : own_ns, labels)};
    out.note = fmt::format("`{}` is no object of the input: the answer holds for any pod with {}{}",
                           text_, labels.str(), own_ns.empty() ? "" : " in namespace " + own_ns);
    return out;
  }
  std::vector<std::string> names;
  for (const auto& [own_ns, labels] : fitting) {
    names.push_back(
        fmt::format("{} in {}", labels.str(), own_ns.empty() ? "any namespace" : own_ns));
  }
  return Error{fmt::format("`{}` is ambiguous: the policies mention {}; write a label selector",
                           text_, fmt::join(names, "; "))};
}

Finder::Answer Finder::dns_name() const {
  if (text_.find('.') != std::string::npos && text_.find_first_of("/=() ") == std::string::npos) {
    // No name ends in a number (RFC 3696, 2): it is an address with a mistake.
    const std::string whole = text_.substr(0, text_.find_last_not_of('.') + 1);
    if (whole.find_last_not_of("0123456789") == whole.rfind('.')) {
      return Error{fmt::format("`{}` is neither an IP address nor a DNS name", text_)};
    }
    ResolvedSide out;
    out.parties = {ir::NameParty{lower(text_)}};
    out.note = fmt::format("`{}` is taken as a DNS name outside the cluster", text_);
    return out;
  }
  return std::nullopt;
}

// What the name may have been meant for: the same name elsewhere, else the nearest.
Error Finder::unknown() const {
  std::map<std::string, std::set<std::string>> objects;  // by bare name
  const auto add = [&](const std::string& object) {
    objects[object.substr(object.rfind('/') + 1)].insert(object);
  };
  for (const ir::Pod& pod : inv_.pods) {
    add(pod.full_name());
    if (!pod.owner.empty()) add(pod.ns + "/" + pod.owner);
  }
  for (const ir::Service& s : inv_.services) add("svc/" + s.ns + "/" + s.name);
  for (const ir::Node& n : inv_.nodes) add("node/" + n.name);
  for (const ir::EntryObject& e : inv_.entries) add(lower(e.kind) + "/" + e.ns + "/" + e.name);
  std::vector<std::string> bare;
  for (const auto& [name, list] : objects) bare.push_back(name);
  const std::string near =
      objects.count(asked_.name) != 0 ? asked_.name : nearest_name(asked_.name, bare);
  std::string meant;
  if (!near.empty()) {
    const std::set<std::string>& list = objects[near];
    constexpr std::size_t kMost = 5;
    std::vector<std::string> shown(
        list.begin(),
        std::next(list.begin(), static_cast<std::ptrdiff_t>(std::min(list.size(), kMost))));
    meant = fmt::format("; {} {}{}", objects.count(asked_.name) != 0 ? "there is" : "did you mean",
                        fmt::join(shown, ", "), list.size() > kMost ? ", …" : "");
    if (objects.count(asked_.name) == 0) meant += "?";
  }
  if (!asked_.kind.empty()) {
    const std::string& ns = asked_.ns.empty() ? ns_ : asked_.ns;
    return Error{fmt::format("no {} of the input is called `{}`{}{}", asked_.kind, asked_.name,
                             ns.empty() ? "" : " in namespace " + ns, meant)};
  }
  return Error{
      fmt::format("`{}` is no pod, workload, Service, node, entity, address or label that the "
                  "input mentions{}",
                  text_, meant)};
}

}  // namespace

Expected<ResolvedSide> resolve_side(const ir::World& world, const std::string& text,
                                    const std::string& ns) {
  auto out = Finder(world, text, ns).find();
  // Names in Kubernetes have no capitals; sentences may begin with one.
  const std::string small = lower(text);
  if (out || small == text) return out;
  auto again = Finder(world, small, ns).find();
  return again ? again : out;
}

ResolvedSide ResolvedSide::pod_by_pod() const {
  ResolvedSide out = *this;
  std::erase_if(out.parties,
                [](const ir::Party& p) { return std::holds_alternative<ir::PodParty>(p); });
  for (const std::size_t pod : pods) out.parties.emplace_back(ir::PodParty{pod});
  return out;
}

std::optional<std::size_t> node_with(const ir::Inventory& inventory, const ir::IpAddress& ip) {
  for (std::size_t i = 0; i < inventory.nodes.size(); ++i) {
    const auto& list = inventory.nodes[i].addresses;
    if (std::find(list.begin(), list.end(), ip) != list.end()) return i;
  }
  return std::nullopt;
}

std::optional<std::size_t> node_under(const ir::World& world, const ir::Party& party) {
  const auto* at = std::get_if<ir::PodParty>(&party);
  if (at == nullptr || !world.settings.host_firewall) return std::nullopt;
  const ir::Pod& pod = world.inventory.pods[at->pod];
  const auto& nodes = world.inventory.nodes;
  for (std::size_t i = 0; pod.host_network && i < nodes.size(); ++i) {
    if (nodes[i].name == pod.node) return i;
  }
  return std::nullopt;
}

bool stands_for_node(const ir::World& world, const ir::Party& party) {
  if (const auto* address = std::get_if<ir::AddressParty>(&party)) {
    return node_with(world.inventory, address->ip).has_value();
  }
  if (const auto* entity = std::get_if<ir::EntityParty>(&party)) {
    return entity->entity == "host" || entity->entity == "remote-node";
  }
  return std::holds_alternative<ir::NodeParty>(party);
}

std::vector<std::string> services_in(const ir::Inventory& inventory, const ir::Prefix& block) {
  std::vector<std::string> out;
  for (const ir::Service& s : inventory.services) {
    for (const ir::IpAddress& ip : s.cluster_ips) {
      if (block.contains(ip)) out.push_back(fmt::format("svc/{}/{} ({})", s.ns, s.name, ip.str()));
    }
  }
  return out;
}

namespace {

Expected<std::vector<ir::GraphParty>> parties_of(const ir::World& world,
                                                 const std::vector<ir::GraphParty>& all,
                                                 const ir::Party& party, const std::string& text) {
  std::vector<ir::GraphParty> out;
  const auto take = [&](const auto& wanted) {
    std::copy_if(all.begin(), all.end(), std::back_inserter(out), wanted);
  };
  const auto node = [&](std::size_t index) {
    take([&](const ir::GraphParty& p) { return p.kind == "node" && p.node == index; });
    if (!out.empty()) return;
    // No policy subject: known by its address.
    const ir::Node& n = world.inventory.nodes[index];
    ir::GraphParty p;
    p.id = "node/" + n.name;
    p.kind = "cidr";
    if (!n.addresses.empty()) p.address = n.addresses.front();
    if (n.addresses.empty()) p.unknown = "the node has no address in the input";
    out.push_back(std::move(p));
  };
  const auto outside = [&](const std::string& id, const char* kind, const ir::IpAddress& address) {
    ir::GraphParty p;
    p.id = id;
    p.kind = kind;
    p.address = address;
    if (p.kind == "entity") p.labels = ir::entity_identity(id);
    out.push_back(std::move(p));
  };
  if (const auto* pod = std::get_if<ir::PodParty>(&party)) {
    take([&](const ir::GraphParty& p) { return p.pod == pod->pod; });
    if (const auto below = node_under(world, party); below && out.empty()) node(*below);
    const ir::Pod& named = world.inventory.pods[pod->pod];
    if (out.empty() && named.host_network) {
      return Error{fmt::format("{} is on the host network: policies know it as its node{}",
                               named.full_name(),
                               named.node.empty() ? "" : ", node/" + named.node)};
    }
  } else if (const auto* at = std::get_if<ir::NodeParty>(&party)) {
    node(at->node);
  } else if (const auto* address = std::get_if<ir::AddressParty>(&party)) {
    const auto of = node_with(world.inventory, address->ip);
    if (of && world.settings.host_firewall) {
      node(*of);
    } else {
      outside(address->ip.str(), "cidr", address->ip);
    }
  } else if (const auto* entity = std::get_if<ir::EntityParty>(&party)) {
    const std::string& id = entity->entity;
    take([&](const ir::GraphParty& p) { return p.id == id; });
    const bool hosts = id == "host" || id == "remote-node";
    const std::size_t nodes = world.settings.host_firewall ? world.inventory.nodes.size() : 0;
    if (out.empty() && id == "host" && nodes == 1) {
      node(0);
    } else if (out.empty() && hosts && nodes != 0) {
      return Error{fmt::format(
          "`{}` is another node for each pod, and under the host firewall each has policies of its "
          "own: ask of a node, like node/{}",
          id, world.inventory.nodes[0].name)};
    }
    if (out.empty()) outside(id, "entity", {});
  } else if (const auto* name = std::get_if<ir::NameParty>(&party)) {
    take([&](const ir::GraphParty& p) { return p.kind == "fqdn" && p.id == name->name; });
    if (out.empty()) {
      return Error{fmt::format(
          "no policy names `{}` in toFQDNs; ask `can A reach {}`, or give its addresses with "
          "--fqdn",
          name->name, name->name)};
    }
  }
  if (out.empty()) {
    return Error{fmt::format(
        "`{}` needs pods or workloads in the input here; ask `can A reach B`, or add a cluster "
        "dump",
        text)};
  }
  return out;
}

}  // namespace

Expected<std::vector<ir::GraphParty>> parties_of_side(const ir::World& world,
                                                      const std::vector<ir::GraphParty>& all,
                                                      const ResolvedSide& side,
                                                      const std::string& text) {
  std::vector<ir::GraphParty> out;
  for (const ir::Party& party : side.parties) {
    auto some = parties_of(world, all, party, text);
    if (!some) return some;
    for (ir::GraphParty& p : *some) {
      const bool known = std::any_of(out.begin(), out.end(),
                                     [&](const ir::GraphParty& o) { return o.id == p.id; });
      if (!known) out.push_back(std::move(p));
    }
  }
  return out;
}

}  // namespace policyc::cli
