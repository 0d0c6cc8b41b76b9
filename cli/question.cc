#include "cli/question.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "cli/flows.h"
#include "ir/connectivity.h"
#include "ir/filters.h"
#include "ir/identity.h"

namespace policyc::cli {
namespace {

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

bool is_method(const std::string& word) {
  static const std::set<std::string> kMethods = {"GET",    "HEAD",    "POST",    "PUT",  "PATCH",
                                                 "DELETE", "OPTIONS", "CONNECT", "TRACE"};
  // `connect to` is reaching; the method is written CONNECT.
  return kMethods.count(upper(word)) != 0 && (lower(word) != "connect" || word == "CONNECT");
}

// Words between which a side of the question stands.
bool is_verb(const std::string& word) {
  static const std::set<std::string> kVerbs = {"reach", "connect", "talk", "access",
                                               "ping",  "contact", "send"};
  return kVerbs.count(lower(word)) != 0;
}

Expected<Question> error(std::string what) {
  return Error{std::move(what)};
}

std::string join_words(const std::vector<std::string>& words, std::size_t begin, std::size_t end) {
  std::string out;
  for (std::size_t i = begin; i < end; ++i) {
    if (!out.empty()) out += ' ';
    out += words[i];
  }
  return out;
}

constexpr const char* kHelp =
    "a question reads like `can frontend POST /x to backend on 8080`, `who can reach db on 5432` "
    "or "
    "`what can frontend reach`";

// "8080", "8080/TCP", "http", "53/udp", "icmp".
bool read_port(const std::string& text, Question& q) {
  const std::size_t slash = text.find('/');
  const std::string port = text.substr(0, slash);
  if (slash != std::string::npos) {
    q.protocol = parse_protocol(text.substr(slash + 1));
    if (!q.protocol) return false;
  }
  if (port.find_first_not_of("0123456789") == std::string::npos && !port.empty()) {
    if (port.size() > 5 || std::stoul(port) > 65535) return false;
    q.port = static_cast<std::uint16_t>(std::stoul(port));
    return true;
  }
  if (slash == std::string::npos) {
    if (const auto protocol = parse_protocol(port)) {
      q.protocol = protocol;
      return true;
    }
  }
  q.port_name = lower(port);
  return !port.empty();
}

}  // namespace

Expected<ir::L7Request> parse_http(const std::string& text) {
  std::istringstream in(text);
  ir::HttpRequest request;
  in >> request.method >> request.path;
  if (request.method.empty()) return Error{"--http wants a method and a path, like 'POST /v1/x'"};
  request.method = upper(request.method);
  request.any_path = request.path.empty();
  if (!request.any_path && request.path[0] != '/' && request.path != "*") {
    return Error{fmt::format("the path `{}` does not begin with `/`", request.path)};
  }
  return ir::L7Request{request};
}

Expected<ir::L7Request> parse_kafka(const std::string& text) {
  std::istringstream in(text);
  ir::KafkaRequest request;
  in >> request.api_key >> request.topic;
  if (request.api_key.empty())
    return Error{"--kafka wants an API key and a topic, like 'produce orders'"};
  return ir::L7Request{request};
}

Expected<Question> parse_sentence(const std::string& sentence) {
  std::vector<std::string> words;
  std::istringstream in(sentence);
  for (std::string w; in >> w;) words.push_back(w);
  while (!words.empty() && !words.back().empty() &&
         (words.back().back() == '?' || words.back().back() == '.')) {
    words.back().pop_back();
    if (words.back().empty()) words.pop_back();
  }
  std::size_t at = 0;
  const auto word = [&](std::size_t i) { return i < words.size() ? lower(words[i]) : ""; };
  Question q;
  if (word(at) == "why") ++at;

  // The tail: "on 8080/TCP".
  std::size_t end = words.size();
  for (std::size_t i = at + 1; i < words.size(); ++i) {
    if (word(i) != "on" && word(i) != "over") continue;
    std::size_t p = i + 1;
    if (word(p) == "port") ++p;
    if (p >= words.size()) return error(fmt::format("nothing follows `{}`; {}", words[i], kHelp));
    if (!read_port(words[p], q)) {
      return error(fmt::format("`{}` is no port; write 8080, 8080/TCP, http or icmp", words[p]));
    }
    if (p + 1 != words.size()) {
      return error(fmt::format("`{}` is left over after the port; {}", words[p + 1], kHelp));
    }
    end = i;
    break;
  }
  const auto object = [&](std::size_t begin) {
    if (begin < end && word(begin) == "to") ++begin;
    return join_words(words, begin, end);
  };

  if (word(at) == "who") {
    ++at;
    if (word(at) == "can" || word(at) == "may") ++at;
    if (at >= end || !is_verb(words[at]))
      return error(fmt::format("`who can` wants `reach`; {}", kHelp));
    if (word(at) == "ping") q.protocol = ir::kProtoIcmp;
    q.kind = Question::Kind::Who;
    q.to = object(at + 1);
    if (q.to.empty()) return error(fmt::format("who can reach what? {}", kHelp));
    return q;
  }
  if (word(at) == "what") {
    ++at;
    if (word(at) == "can" || word(at) == "may") ++at;
    std::size_t verb = at;
    while (verb < end && !is_verb(words[verb])) ++verb;
    q.kind = Question::Kind::What;
    q.from = join_words(words, at, verb);
    if (q.from.empty()) return error(fmt::format("what can who reach? {}", kHelp));
    if (const std::string rest = object(verb + 1); !rest.empty() && lower(rest) != "to") {
      return error(fmt::format(
          "`{}` is left over: `what can X reach` lists everybody; to ask of one, write `can {} "
          "reach Y on 80`",
          rest, q.from));
    }
    return q;
  }
  const std::string first = word(at);
  if (first != "can" && first != "may" && first != "can't" && first != "cant" &&
      first != "cannot") {
    return error(
        fmt::format("`{}` begins no question; {}", at < words.size() ? words[at] : "", kHelp));
  }
  ++at;
  std::size_t verb = at;
  while (verb < end && !is_verb(words[verb]) && !(verb > at && is_method(words[verb]))) ++verb;
  if (verb >= end) {
    return error(
        fmt::format("no verb (reach, connect to, GET, POST, …) in the question; {}", kHelp));
  }
  q.from = join_words(words, at, verb);
  if (q.from.empty()) return error(fmt::format("the question names no source; {}", kHelp));
  std::size_t rest = verb + 1;
  if (is_method(words[verb])) {
    ir::HttpRequest request;
    request.method = upper(words[verb]);
    request.any_path = rest >= end || words[rest][0] != '/';
    if (!request.any_path) request.path = words[rest++];
    q.l7 = request;
  } else if (word(verb) == "ping") {
    q.protocol = ir::kProtoIcmp;
    q.port = 8;
  } else if (word(verb) == "send" && rest < end && is_method(words[rest])) {
    ir::HttpRequest request;
    request.method = upper(words[rest++]);
    request.any_path = rest >= end || words[rest][0] != '/';
    if (!request.any_path) request.path = words[rest++];
    q.l7 = request;
  }
  q.to = object(rest);
  if (q.to.empty()) return error(fmt::format("the question names no target; {}", kHelp));
  return q;
}

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

const std::set<std::string>& entities() {
  static const std::set<std::string> kEntities = {
      "world",          "world-ipv4", "world-ipv6", "host", "remote-node",
      "kube-apiserver", "ingress",    "health",     "init", "unmanaged"};
  return kEntities;
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

Expected<ResolvedSide> one_identity(const ir::World& world, const std::string& text,
                                    const PodList& pods, const std::string& note) {
  const auto groups = by_identity(world, pods);
  if (groups.size() > 1) {
    std::vector<std::string> names;
    for (const auto& [labels, list] : groups) {
      const ir::Pod& pod = world.inventory.pods[list.front()];
      names.push_back(pod.ns + "/" + pod.name);
    }
    std::sort(names.begin(), names.end());
    return Error{
        fmt::format("`{}` is ambiguous: it may be {}; write one of them, or a label selector "
                    "like app=x",
                    text, fmt::join(names, ", "))};
  }
  ResolvedSide out;
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

Expected<ResolvedSide> find_side(const ir::World& world, const std::string& text,
                                 const std::string& ns) {
  const ir::Inventory& inv = world.inventory;
  ResolvedSide out;
  if (lower(text) == "world" && world.settings.dual_stack()) {
    out.parties = {ir::EntityParty{"world-ipv4"}, ir::EntityParty{"world-ipv6"}};
    return out;
  }
  if (entities().count(lower(text)) != 0) {
    out.parties = {ir::EntityParty{lower(text)}};
    return out;
  }
  // Groups: one party for each identity that the entity stands for.
  if (lower(text) == "cluster" || lower(text) == "all") {
    PodList pods;
    for (std::size_t i = 0; i < inv.pods.size(); ++i) pods.push_back(i);
    for (const auto& [labels, list] : by_identity(world, pods)) {
      out.parties.emplace_back(ir::PodParty{list.front()});
    }
    for (const char* entity : {"host", "remote-node", "kube-apiserver", "ingress", "health"}) {
      out.parties.emplace_back(ir::EntityParty{entity});
    }
    if (lower(text) == "all" && world.settings.dual_stack()) {
      out.parties.emplace_back(ir::EntityParty{"world-ipv4"});
      out.parties.emplace_back(ir::EntityParty{"world-ipv6"});
    } else if (lower(text) == "all") {
      out.parties.emplace_back(ir::EntityParty{"world"});
    }
    out.note =
        fmt::format("`{}` is judged by each of the {} identities in it", text, out.parties.size());
    return out;
  }
  if (const auto ip = ir::parse_ip(text)) {
    const auto has = [&](const std::vector<ir::IpAddress>& list) {
      return std::find(list.begin(), list.end(), *ip) != list.end();
    };
    // A pod's address is the pod; a Service's is its back ends.
    for (std::size_t i = 0; i < inv.pods.size(); ++i) {
      const ir::Pod& pod = inv.pods[i];
      if (pod.host_network || pod.synthetic_ip || !has(pod.ips)) continue;
      out.parties = {ir::PodParty{i}};
      out.note = fmt::format("`{}` is {}", text, pod.full_name());
      return out;
    }
    for (const ir::Service& s : inv.services) {
      if (has(s.cluster_ips)) return find_side(world, fmt::format("svc/{}/{}", s.ns, s.name), ns);
    }
    out.parties = {ir::AddressParty{*ip}};
    return out;
  }
  if (const auto prefix = ir::parse_prefix(text)) {
    if (prefix->length == prefix->address.bits())
      return find_side(world, prefix->address.str(), ns);
    // The pods in it, and one address for each part of the rest that policies tell apart.
    PodList pods;
    std::set<ir::Prefix> pod_addresses;
    for (std::size_t i = 0; i < inv.pods.size(); ++i) {
      const ir::Pod& pod = inv.pods[i];
      if (pod.host_network || pod.synthetic_ip) continue;
      bool inside = false;
      for (const ir::IpAddress& ip : pod.ips) {
        if (!prefix->contains(ip)) continue;
        inside = true;
        pod_addresses.insert(ir::host_prefix(ip));
      }
      if (inside) pods.push_back(i);
    }
    for (const auto& [labels, list] : by_identity(world, pods)) {
      out.parties.emplace_back(ir::PodParty{list.front()});
    }
    const std::size_t identities = out.parties.size();
    const ir::AddressBook book(inv, world.settings, world.policies,
                               inv.nodes.size() == 1 ? 0 : SIZE_MAX);
    std::vector<ir::Prefix> parts = book.prefixes();
    std::erase_if(parts, [&](const ir::Prefix& p) { return !prefix->contains(p); });
    const std::vector<ir::Prefix> inner = parts;
    if (std::find(parts.begin(), parts.end(), *prefix) == parts.end()) parts.push_back(*prefix);
    std::erase_if(parts, [&](const ir::Prefix& p) { return pod_addresses.count(p) != 0; });
    for (const ir::Prefix& p : parts) {
      const auto address = ir::address_outside(p, inner);
      if (address) out.parties.emplace_back(ir::AddressParty{*address});
    }
    out.note = fmt::format(
        "`{}` is judged by one address for each of the {} parts that the policies "
        "tell apart",
        text, out.parties.size() - identities);
    if (identities != 0) out.note += fmt::format(", and by the {} pods in it", pods.size());
    return out;
  }
  // Traffic through an Ingress or a Gateway comes from Cilium's own proxy (§11.29).
  const auto entry = [&](const std::string& name) {
    out.parties = {ir::EntityParty{"ingress"}};
    out.note = fmt::format("`{}`: traffic through it arrives as the `ingress` identity", name);
    return out;
  };
  for (const char* kind : {"ingress/", "gateway/"}) {
    if (lower(text).rfind(kind, 0) == 0) return entry(text);
  }
  const bool forced_service = text.rfind("svc/", 0) == 0 || text.rfind("service/", 0) == 0;
  const std::string name = forced_service ? text.substr(text.find('/') + 1) : text;
  const auto in_scope = [&](const std::string& object_ns) { return ns.empty() || object_ns == ns; };

  PodList exact;
  PodList bare;
  for (std::size_t i = 0; i < inv.pods.size() && !forced_service; ++i) {
    const ir::Pod& pod = inv.pods[i];
    if (pod.full_name() == name || pod.ns + "/" + pod.name == name) exact.push_back(i);
    if (pod.name == name && in_scope(pod.ns)) bare.push_back(i);
  }
  for (const PodList* found : {&exact, &bare}) {
    if (!found->empty()) return one_identity(world, text, *found, "");
  }
  for (std::size_t i = 0; i < inv.nodes.size(); ++i) {
    if ("node/" + inv.nodes[i].name == name || inv.nodes[i].name == name) {
      out.parties = {ir::NodeParty{i}};
      return out;
    }
  }
  std::vector<const ir::Service*> services;
  for (const ir::Service& s : inv.services) {
    if (s.ns + "/" + s.name == name || (s.name == name && in_scope(s.ns))) services.push_back(&s);
  }
  if (services.size() > 1) {
    std::vector<std::string> names;
    for (const ir::Service* s : services) names.push_back("svc/" + s->ns + "/" + s->name);
    return Error{fmt::format("`{}` is ambiguous: it may be {}", text, fmt::join(names, ", "))};
  }
  if (services.size() == 1) {
    const ir::Service& s = *services.front();
    PodList pods;
    for (std::size_t i = 0; i < inv.pods.size() && !s.selector.empty(); ++i) {
      const ir::Pod& pod = inv.pods[i];
      const bool match = std::all_of(s.selector.begin(), s.selector.end(), [&](const auto& want) {
        const auto it = pod.labels.find(want.first);
        return it != pod.labels.end() && it->second == want.second;
      });
      if (pod.ns == s.ns && match) pods.push_back(i);
    }
    for (const auto& [labels, list] : by_identity(world, pods)) {
      out.parties.emplace_back(ir::PodParty{list.front()});
    }
    if (s.selector.empty()) {
      for (const ir::Endpoints& e : inv.endpoints) {
        if (e.ns != s.ns || e.service != s.name) continue;
        for (const ir::IpAddress& ip : e.addresses) out.parties.emplace_back(ir::AddressParty{ip});
      }
    }
    if (out.parties.empty()) {
      return Error{
          fmt::format("Service {}/{} has no back ends in the input; policies judge back "
                      "ends, not the Service address",
                      s.ns, s.name)};
    }
    out.service = s;
    out.note = fmt::format("`{}` is Service {}/{}: its back ends are judged, at the target port",
                           text, s.ns, s.name);
    return out;
  }
  for (const ir::EntryObject& e : inv.entries) {
    if (e.ns + "/" + e.name == name || (e.name == name && in_scope(e.ns))) {
      return entry(fmt::format("{} {}/{}", e.kind, e.ns, e.name));
    }
  }
  // Values of the labels that usually carry names.
  for (const char* key : kNameLabels) {
    PodList pods;
    for (std::size_t i = 0; i < inv.pods.size(); ++i) {
      const auto it = inv.pods[i].labels.find(key);
      if (it != inv.pods[i].labels.end() && it->second == name && in_scope(inv.pods[i].ns)) {
        pods.push_back(i);
      }
    }
    if (!pods.empty()) {
      return one_identity(world, text, pods,
                          fmt::format("`{}` is the pods with {}={}", text, key, name));
    }
  }
  if (const auto selector = parse_selector(text)) {
    PodList pods;
    for (std::size_t i = 0; i < inv.pods.size(); ++i) {
      const ir::Pod& pod = inv.pods[i];
      if (!in_scope(pod.ns)) continue;
      if (selector->matches(ir::pod_identity(inv, world.settings, pod))) pods.push_back(i);
    }
    for (const auto& [labels, list] : by_identity(world, pods)) {
      out.parties.emplace_back(ir::PodParty{list.front()});
    }
    if (!out.parties.empty()) {
      out.note = fmt::format("`{}` selects {} pods of the input", text, pods.size());
      return out;
    }
    if (!inv.pods.empty()) {
      return Error{fmt::format("no pod of the input has the labels `{}`", text)};
    }
    // No inventory: any pod with these labels, everything else about it free.
    std::vector<ir::Label> labels;
    std::string own_ns = ns;
    for (const ir::Requirement& r : selector->requirements) {
      if (r.op != ir::Operator::In || r.values.size() != 1) {
        return Error{
            fmt::format("without pods in the input a selector needs plain key=value parts; "
                        "`{}` has another",
                        text)};
      }
      if (r.key == ir::kNamespaceKey) {
        own_ns = r.values[0];
      } else {
        labels.push_back({"k8s", r.key, r.values[0]});
      }
    }
    out.parties = {labels_party(world, own_ns, ir::LabelSet(std::move(labels)))};
    out.note = fmt::format("`{}`: the answer holds for any pod with these labels", text);
    return out;
  }
  const auto mentioned = mentioned_sets(world, name);
  if (!mentioned.empty()) {
    std::set<std::pair<std::string, ir::LabelSet>> fitting;
    for (const auto& m : mentioned) {
      if (ns.empty() || m.first.empty() || m.first == ns) fitting.insert(m);
    }
    if (fitting.size() == 1) {
      const auto& [own_ns, labels] = *fitting.begin();
      out.parties = {labels_party(world, own_ns.empty() ? ns : own_ns, labels)};
      out.note =
          fmt::format("`{}` is no object of the input: the answer holds for any pod with {}{}",
                      text, labels.str(), own_ns.empty() ? "" : " in namespace " + own_ns);
      return out;
    }
    std::vector<std::string> names;
    for (const auto& [own_ns, labels] : fitting) {
      names.push_back(
          fmt::format("{} in {}", labels.str(), own_ns.empty() ? "any namespace" : own_ns));
    }
    return Error{fmt::format("`{}` is ambiguous: the policies mention {}; write a label selector",
                             text, fmt::join(names, "; "))};
  }
  if (name.find('.') != std::string::npos && name.find_first_of("/=() ") == std::string::npos) {
    // No name ends in a number (RFC 3696, 2): it is an address with a mistake.
    const std::string whole = name.substr(0, name.find_last_not_of('.') + 1);
    if (whole.find_last_not_of("0123456789") == whole.rfind('.')) {
      return Error{fmt::format("`{}` is neither an IP address nor a DNS name", text)};
    }
    out.parties = {ir::NameParty{lower(name)}};
    out.note = fmt::format("`{}` is taken as a DNS name outside the cluster", text);
    return out;
  }
  return Error{
      fmt::format("`{}` is no pod, workload, Service, node, entity, address or label that the "
                  "input mentions",
                  text)};
}

}  // namespace

Expected<ResolvedSide> resolve_side(const ir::World& world, const std::string& text,
                                    const std::string& ns) {
  auto out = find_side(world, text, ns);
  // Names in Kubernetes have no capitals; sentences may begin with one.
  if (out || lower(text) == text) return out;
  auto small = find_side(world, lower(text), ns);
  return small ? small : out;
}

std::vector<BackEndPort> back_end_ports(const ir::World& world, const ir::Service& service,
                                        const ir::Party& back_end) {
  const auto* pod = std::get_if<ir::PodParty>(&back_end);
  std::vector<BackEndPort> out;
  for (const ir::ServicePort& p : service.ports) {
    std::optional<std::uint16_t> target = p.target_port != 0 ? p.target_port : p.port;
    if (!p.target_name.empty() && pod != nullptr) {
      target = ir::ingress_ports(world.inventory.pods[pod->pod]).find(p.target_name, p.protocol);
    }
    if (target) out.push_back({p, *target});
  }
  return out;
}

namespace {

bool ported(ir::Protocol p) {
  return p == ir::kProtoTcp || p == ir::kProtoUdp || p == ir::kProtoSctp;
}

bool is_wanted(const ir::ServicePort& port, const std::vector<ir::PortSpan>& wanted) {
  return wanted.empty() || std::any_of(wanted.begin(), wanted.end(), [&](const ir::PortSpan& s) {
           return s.protocol == port.protocol && s.from <= port.port && port.port <= s.to;
         });
}

}  // namespace

std::vector<ir::PortSpan> back_end_spans(const ir::World& world, const ir::Service& service,
                                         const ir::Party& back_end,
                                         const std::vector<ir::PortSpan>& wanted) {
  if (service.ports.empty()) return wanted;
  std::vector<ir::PortSpan> out;
  for (const BackEndPort& p : back_end_ports(world, service, back_end)) {
    if (is_wanted(p.port, wanted)) out.push_back({p.port.protocol, p.target, p.target, ""});
  }
  std::copy_if(wanted.begin(), wanted.end(), std::back_inserter(out),
               [](const ir::PortSpan& s) { return !ported(s.protocol); });
  return out;
}

bool has_service_port(const ir::Service& service, const std::vector<ir::PortSpan>& wanted) {
  return service.ports.empty() ||
         std::any_of(wanted.begin(), wanted.end(),
                     [](const ir::PortSpan& s) { return !ported(s.protocol); }) ||
         std::any_of(service.ports.begin(), service.ports.end(),
                     [&](const ir::ServicePort& p) { return is_wanted(p, wanted); });
}

std::string lacks_port(const ir::Service& service, const std::string& port) {
  std::vector<std::string> has;
  for (const ir::ServicePort& p : service.ports) {
    has.push_back(fmt::format("{}/{}{}", p.port, ir::protocol_name(p.protocol),
                              p.name.empty() ? "" : " (" + p.name + ")"));
  }
  return fmt::format("Service {}/{} has no port {}; it has {}", service.ns, service.name, port,
                     fmt::join(has, ", "));
}

std::string lacks_port(const ir::Service& service, const std::vector<ir::PortSpan>& wanted) {
  std::vector<std::string> list;
  for (const ir::PortSpan& s : wanted) {
    std::string port = s.from == s.to ? fmt::format("{}", s.from)
                       : s.from == 0 && s.to == 65535
                           ? std::string("of ") + std::string(ir::protocol_name(s.protocol))
                           : fmt::format("in {}-{}", s.from, s.to);
    if (std::find(list.begin(), list.end(), port) == list.end()) list.push_back(std::move(port));
  }
  return lacks_port(service, fmt::format("{}", fmt::join(list, ", "))) +
         "; of its pods ask by pod or label, like app=x";
}

namespace {

std::optional<std::size_t> node_with(const ir::Inventory& inv, const ir::IpAddress& ip) {
  for (std::size_t i = 0; i < inv.nodes.size(); ++i) {
    const auto& list = inv.nodes[i].addresses;
    if (std::find(list.begin(), list.end(), ip) != list.end()) return i;
  }
  return std::nullopt;
}

}  // namespace

bool stands_for_node(const ir::World& world, const ir::Party& party) {
  if (const auto* address = std::get_if<ir::AddressParty>(&party)) {
    return node_with(world.inventory, address->ip).has_value();
  }
  if (const auto* entity = std::get_if<ir::EntityParty>(&party)) {
    return entity->entity == "host" || entity->entity == "remote-node";
  }
  return std::holds_alternative<ir::NodeParty>(party);
}

namespace {

// Under the host firewall nodes are policy subjects: an address of one, `host` and `remote-node`
// become the nodes that they stand for, as seen from the other side.
Expected<std::vector<ir::Party>> as_nodes(const ir::World& world, const ir::Party& party,
                                          const ir::Party& other) {
  const auto& nodes = world.inventory.nodes;
  const std::vector<ir::Party> same = {party};
  if (!world.settings.host_firewall || nodes.empty() || !stands_for_node(world, party)) return same;
  if (const auto* address = std::get_if<ir::AddressParty>(&party)) {
    return std::vector<ir::Party>{ir::NodeParty{*node_with(world.inventory, address->ip)}};
  }
  const auto* entity = std::get_if<ir::EntityParty>(&party);
  if (entity == nullptr) return same;
  std::optional<std::size_t> own;  // the node of the other side, whose host is `host`
  if (nodes.size() == 1) own = 0;
  if (const auto* node = std::get_if<ir::NodeParty>(&other)) own = node->node;
  const auto* pod = std::get_if<ir::PodParty>(&other);
  for (std::size_t i = 0; pod != nullptr && i < nodes.size(); ++i) {
    if (nodes[i].name == world.inventory.pods[pod->pod].node) own = i;
  }
  const bool on_some_node = pod != nullptr || std::holds_alternative<ir::LabelsParty>(other);
  if (!own && on_some_node) {
    return Error{fmt::format(
        "`{}` is ambiguous under the host firewall: nobody told on which node {} is; write a node, "
        "like {}",
        entity->entity, party_name(world, other), nodes[0].name)};
  }
  const bool host = entity->entity == "host";
  std::vector<ir::Party> out;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (!own || (i == *own) == host) out.emplace_back(ir::NodeParty{i});
  }
  return out.empty() ? same : out;
}

// L4 keys at which some rule changes its mind, plus every class's start.
std::set<ir::L4Key> probe_keys(const ir::World& world) {
  std::set<ir::L4Key> out;
  const ir::NamedPorts named = ir::egress_ports(world.inventory);
  for (const ir::Protocol p :
       {ir::kProtoTcp, ir::kProtoUdp, ir::kProtoSctp, ir::kProtoIcmp, ir::kProtoIcmp6}) {
    out.insert(ir::l4_key(p, p == ir::kProtoIcmp ? 8 : p == ir::kProtoIcmp6 ? 128 : 1));
  }
  for (const ir::NamedPorts::Entry& e : named.entries) {
    out.insert(ir::l4_key(e.protocol, e.port));
    if (e.port < 65535) out.insert(ir::l4_key(e.protocol, static_cast<std::uint16_t>(e.port + 1)));
  }
  for (const ir::Rule& rule : world.policies.rules) {
    for (const ir::RuleItem& item : rule.items) {
      for (const ir::PortRule& pr : item.ports) {
        for (const ir::Port& port : pr.ports) {
          if (!port.name.empty()) continue;
          out.insert(ir::l4_key(port.protocol, port.number));
          const std::uint32_t after = std::max<std::uint32_t>(port.number, port.end) + 1U;
          if (after <= 65535) {
            out.insert(ir::l4_key(port.protocol, static_cast<std::uint16_t>(after)));
          }
        }
      }
    }
  }
  return out;
}

// Ports on which a request of this kind is likely meant: the target's own ports, else ports on
// which policies carry rules of the kind, else the usual one.
std::set<std::uint16_t> request_ports(const ir::World& world, const ir::Party& to,
                                      ir::Parser parser) {
  std::set<std::uint16_t> out;
  if (const auto* pod = std::get_if<ir::PodParty>(&to)) {
    for (const ir::ContainerPort& p : world.inventory.pods[pod->pod].ports) {
      if (p.protocol == ir::kProtoTcp) out.insert(p.port);
    }
  }
  if (!out.empty()) return out;
  for (const ir::Rule& rule : world.policies.rules) {
    for (const ir::RuleItem& item : rule.items) {
      for (const ir::PortRule& pr : item.ports) {
        if (pr.l7.parser != parser) continue;
        for (const ir::Port& p : pr.ports) {
          if (p.name.empty() && p.number != 0) out.insert(p.number);
        }
      }
    }
  }
  if (out.empty()) out.insert(80);
  return out;
}

}  // namespace

namespace {

bool some_header_rule(const ir::World& world) {
  for (const ir::Rule& rule : world.policies.rules) {
    for (const ir::RuleItem& item : rule.items) {
      for (const ir::PortRule& pr : item.ports) {
        for (const ir::HttpRule& r : pr.l7.http) {
          if (!r.headers.empty()) return true;
        }
      }
    }
  }
  return false;
}

bool is_icmp(const Question& q) {
  return q.protocol == ir::kProtoIcmp || q.protocol == ir::kProtoIcmp6;
}

// The ports of the Service that the question asks of, which is not about ICMP. Where it names no
// protocol, a request's own counts, then TCP, then what the Service has.
std::vector<ir::ServicePort> asked_ports(const ir::Service& service, const Question& q) {
  const bool dns = std::holds_alternative<ir::DnsQuery>(q.l7);
  std::optional<std::uint16_t> number = q.port;
  if (dns && !number && q.port_name.empty()) number = 53;
  std::vector<ir::ServicePort> named;
  std::copy_if(service.ports.begin(), service.ports.end(), std::back_inserter(named),
               [&](const ir::ServicePort& p) {
                 return (!number || p.port == *number) &&
                        (q.port_name.empty() || lower(p.name) == q.port_name ||
                         lower(p.target_name) == q.port_name);
               });
  const ir::Protocol protocol = q.protocol.value_or(dns ? ir::kProtoUdp : ir::kProtoTcp);
  std::vector<ir::ServicePort> out;
  std::copy_if(named.begin(), named.end(), std::back_inserter(out),
               [&](const ir::ServicePort& p) { return p.protocol == protocol; });
  if (q.protocol || q.l7.index() != 0) return out;
  return out.empty() || (!number && q.port_name.empty()) ? named : out;
}

// "8081", "8081/UDP", "named http", "of UDP".
std::string port_in_words(const Question& q) {
  std::string out = !q.port_name.empty() ? "named " + q.port_name
                    : q.port             ? std::to_string(*q.port)
                                         : "";
  if (!q.protocol) return out.empty() ? "for such a request" : out;
  const std::string protocol(ir::protocol_name(*q.protocol));
  return out.empty() ? "of " + protocol : out + "/" + protocol;
}

}  // namespace

Expected<PreparedQuestion> prepare(const ir::World& world, const Question& question,
                                   const std::string& ns) {
  PreparedQuestion out;
  auto from = resolve_side(world, question.from, ns);
  if (!from) return Error{from.error()};
  auto to = resolve_side(world, question.to, ns);
  if (!to) return Error{to.error()};
  for (const std::string& note : {from->note, to->note}) {
    if (!note.empty()) out.notes.push_back(note);
  }
  std::vector<std::pair<ir::Party, ir::Party>> pairs;
  for (const ir::Party& a : from->parties) {
    for (const ir::Party& b : to->parties) {
      const auto sources = as_nodes(world, a, b);
      const auto targets = as_nodes(world, b, a);
      if (!sources) return Error{sources.error()};
      if (!targets) return Error{targets.error()};
      for (const ir::Party& x : *sources) {
        for (const ir::Party& y : *targets) pairs.emplace_back(x, y);
      }
    }
  }
  // Ports of a Service are the target ports at its back ends.
  std::optional<ir::Service> service;
  if (to->service && !to->service->ports.empty() && !is_icmp(question)) {
    service = to->service;
    service->ports = asked_ports(*to->service, question);
    if (service->ports.empty()) {
      out.nobody = lacks_port(*to->service, port_in_words(question));
      // A plain name may be meant for the pods as well.
      if (ir::parse_ip(question.to) || question.to.starts_with("svc/") ||
          question.to.starts_with("service/")) {
        out.notes.clear();  // nobody is judged
        return out;
      }
      return Error{fmt::format("{}; of its pods ask by pod or label, like app=x", out.nobody)};
    }
  }
  for (const auto& [a, b] : pairs) {
    ir::Flow flow;
    flow.from = a;
    flow.to = b;
    flow.l7 = question.l7;
    if (auto* http = std::get_if<ir::HttpRequest>(&flow.l7);
        http != nullptr && http->host.empty()) {
      http->any_host = true;
      if (out.flows.empty() && http->headers.empty() && some_header_rule(world)) {
        out.notes.emplace_back(
            "asked without headers that rules look at; with them it may fare differently "
            "(--http-header)");
      }
    }
    const bool dns = std::holds_alternative<ir::DnsQuery>(flow.l7);
    flow.protocol = question.protocol.value_or(dns ? ir::kProtoUdp : ir::kProtoTcp);
    const bool icmp = flow.protocol == ir::kProtoIcmp || flow.protocol == ir::kProtoIcmp6;
    if (icmp && question.port && *question.port > kMostIcmpType) {
      return Error{fmt::format("there is no {} type {}: types end at {}",
                               ir::protocol_name(flow.protocol), *question.port, kMostIcmpType)};
    }

    std::vector<std::pair<ir::Protocol, std::uint16_t>> probes;
    if (service) {
      for (const BackEndPort& p : back_end_ports(world, *service, b)) {
        probes.emplace_back(p.port.protocol, p.target);
      }
      const bool named = question.port || !question.port_name.empty();
      if (!named && probes.size() > 1) out.all_ports = true;
    } else if (!question.port_name.empty()) {
      const auto* pod = std::get_if<ir::PodParty>(&b);
      const ir::NamedPorts named = pod != nullptr
                                       ? ir::ingress_ports(world.inventory.pods[pod->pod])
                                       : ir::egress_ports(world.inventory);
      const auto number = named.find(question.port_name, flow.protocol);
      if (!number) {
        return Error{
            fmt::format("`{}` is no port name of {}", question.port_name, party_name(world, b))};
      }
      probes = {{flow.protocol, *number}};
    } else if (question.port) {
      probes = {{flow.protocol, *question.port}};
    } else if (icmp) {
      probes = {
          {flow.protocol, static_cast<std::uint16_t>(flow.protocol == ir::kProtoIcmp ? 8 : 128)}};
    } else if (flow.l7.index() != 0) {
      const ir::Parser parser = dns ? ir::Parser::Dns
                                : std::holds_alternative<ir::KafkaRequest>(flow.l7)
                                    ? ir::Parser::Kafka
                                    : ir::Parser::Http;
      if (dns) {
        probes = {{flow.protocol, std::uint16_t{53}}};
      } else {
        for (const std::uint16_t p : request_ports(world, b, parser)) {
          probes.emplace_back(flow.protocol, p);
        }
      }
      if (probes.size() > 1) out.all_ports = true;
    } else {
      out.all_ports = true;
      out.ranges = true;
      for (const ir::L4Key key : probe_keys(world)) {
        const auto protocol = ir::class_protocol(static_cast<ir::ProtocolClass>(key >> 16U));
        if (question.protocol && protocol != *question.protocol) continue;
        probes.emplace_back(protocol, static_cast<std::uint16_t>(key & 0xFFFFU));
      }
    }
    for (const auto& [protocol, port] : probes) {
      flow.protocol = protocol;
      flow.port = port;
      flow.id = fmt::format("q{}", out.flows.size() + 1);
      out.flows.push_back(flow);
    }
  }
  if (out.flows.empty() && service) {
    return Error{fmt::format("no back end of Service {}/{} has the port that it leads to",
                             service->ns, service->name)};
  }
  return out;
}

}  // namespace policyc::cli
