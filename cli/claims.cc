#include "cli/claims.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "cli/flows.h"
#include "cli/question.h"
#include "ir/base/text.h"
#include "ir/filters.h"
#include "ir/identity.h"
#include "ir/resolve.h"

namespace policyc::cli {
namespace {

using frontend::YamlNode;

// "5432/TCP", "8000-8010", "53/UDP", "icmp": TCP, UDP and SCTP where no protocol is named.
std::optional<std::vector<ir::PortSpan>> parse_ports(const std::string& text) {
  std::string ports = text;
  std::vector<ir::Protocol> protocols = {ir::kProtoTcp, ir::kProtoUdp, ir::kProtoSctp};
  if (const std::size_t slash = text.find('/'); slash != std::string::npos) {
    const auto protocol = parse_protocol(text.substr(slash + 1));
    if (!protocol) return std::nullopt;
    protocols = {*protocol};
    ports.erase(slash);
  } else if (const auto protocol = parse_protocol(text);
             protocol && text.find_first_not_of("0123456789") != std::string::npos) {
    return std::vector<ir::PortSpan>{{*protocol, 0, 65535, ""}};
  }
  const auto number = [](std::string_view digits) -> std::optional<std::uint16_t> {
    std::uint16_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (digits.empty() || error != std::errc() || end != digits.data() + digits.size()) {
      return std::nullopt;
    }
    return value;
  };
  const std::size_t dash = ports.find('-');
  const auto first = number(std::string_view(ports).substr(0, dash));
  const auto last =
      dash == std::string::npos ? first : number(std::string_view(ports).substr(dash + 1));
  if (!first || !last || *last < *first) return std::nullopt;
  const bool icmp = protocols[0] == ir::kProtoIcmp || protocols[0] == ir::kProtoIcmp6;
  if (icmp && *last > kMostIcmpType) return std::nullopt;
  std::vector<ir::PortSpan> out;
  for (const ir::Protocol p : protocols) out.push_back({p, *first, *last, ""});
  return out;
}

// "http", "metrics/TCP": letters, digits and dashes, a letter among them.
std::optional<NamedPort> parse_port_name(const std::string& text) {
  NamedPort out;
  const std::size_t slash = text.find('/');
  if (slash != std::string::npos) {
    out.protocol = parse_protocol(text.substr(slash + 1));
    const bool ported = out.protocol == ir::kProtoTcp || out.protocol == ir::kProtoUdp ||
                        out.protocol == ir::kProtoSctp;
    if (!ported) return std::nullopt;
  }
  out.name = lower(text.substr(0, slash));
  constexpr const char* kLetters = "abcdefghijklmnopqrstuvwxyz";
  const bool plain =
      out.name.find_first_not_of(kLetters + std::string("0123456789-")) == std::string::npos;
  const bool letter = out.name.find_first_of(kLetters) != std::string::npos;
  constexpr std::size_t kLongest = 15;
  if (!plain || !letter || out.name.size() > kLongest) return std::nullopt;
  return out;
}

constexpr const char* kPing = "ping";

// Echo requests of both families.
std::vector<ir::PortSpan> ping_ports() {
  return {{ir::kProtoIcmp, 8, 8, ""}, {ir::kProtoIcmp6, 128, 128, ""}};
}

// One port of a claim. False where the text is none.
bool add_port(const std::string& text, Claim& claim) {
  const auto spans = lower(text) == kPing ? std::optional(ping_ports()) : parse_ports(text);
  if (spans) {
    claim.ports.insert(claim.ports.end(), spans->begin(), spans->end());
    return true;
  }
  const auto name = parse_port_name(text);
  if (name) claim.port_names.push_back(*name);
  return name.has_value();
}

bool is_method(const std::string& word) {
  return word.size() > 2 &&
         std::all_of(word.begin(), word.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

// "pod", "pods in namespace shop", "one outside shop with tier=web": what stands behind "no".
Expected<PartySet> parse_set(const std::vector<std::string>& words) {
  PartySet out;
  std::size_t i = 0;
  const auto word = [&](std::size_t k) { return k < words.size() ? lower(words[k]) : ""; };
  if (word(i) == "pod" || word(i) == "pods" || word(i) == "workload" || word(i) == "workloads") {
    out.workloads = true;
    ++i;
  } else if (word(i) == "one" || word(i) == "body") {
    ++i;
  }
  const std::size_t conditions = i;
  while (i < words.size()) {
    const std::string w = word(i);
    if (w == "outside" || w == "in" || w == "inside") {
      ++i;
      if (word(i) == "namespace") ++i;
      if (i >= words.size()) return Error{fmt::format("nothing follows `{}`", w)};
      if (w == "outside") {
        PartySet inside;
        inside.ns = words[i++];
        out.none_of.push_back(std::move(inside));
      } else if (out.ns.empty()) {
        out.ns = words[i++];
      } else {
        return Error{fmt::format(
            "`in namespace` stands twice, and no pod is in {} and in {}; say it once, or list both "
            "in the long form of a PolicyTest (`any`)",
            out.ns, words[i])};
      }
    } else if (w == "with") {
      ++i;
      if (word(i) == "label" || word(i) == "labels") ++i;
      if (i >= words.size()) return Error{"nothing follows `with`"};
      if (!out.labels.empty()) {
        return Error{fmt::format("`with` stands twice; write `with {},{}`", out.labels, words[i])};
      }
      out.labels = words[i++];
    } else if (i == conditions && !out.workloads) {
      std::string name;
      for (; i < words.size(); ++i) name += (name.empty() ? "" : " ") + words[i];
      out.name = name;
    } else {
      return Error{
          fmt::format("`{}` is not understood; write `outside namespace X`, `in namespace "
                      "X` or `with key=value`",
                      words[i])};
    }
  }
  return out;
}

}  // namespace

std::optional<Expected<Claim>> parse_claim(const std::string& sentence) {
  std::vector<std::string> words;
  std::istringstream in(sentence);
  for (std::string w; in >> w;) words.push_back(w);
  while (!words.empty() && (words.back().back() == '.' || words.back().back() == '?')) {
    words.back().pop_back();
    if (words.back().empty()) words.pop_back();
  }
  if (words.empty()) return std::nullopt;
  Claim out;
  const std::string first = lower(words[0]);
  std::vector<std::string> subject;
  if (first == "no") {
  } else if (first == "nobody" || first == "noone") {
    subject.emplace_back("one");
  } else if (first == "every" || first == "each" || first == "all") {
    out.allow = true;
  } else if (first == "everybody" || first == "everyone") {
    out.allow = true;
    subject.emplace_back("one");
  } else {
    return std::nullopt;
  }
  static const std::vector<std::string> kVerbs = {"reach", "reaches", "connect", "connects", "talk",
                                                  "talks", "ping",    "pings",   "can",      "may"};
  const auto is_verb = [](const std::string& w) {
    return std::find(kVerbs.begin(), kVerbs.end(), lower(w)) != kVerbs.end();
  };
  std::size_t i = 1;
  while (i < words.size() && !is_verb(words[i])) subject.push_back(words[i++]);
  bool ping = false;
  for (; i < words.size() && is_verb(words[i]) && words[i] != "CONNECT"; ++i) {
    ping = ping || lower(words[i]) == kPing || lower(words[i]) == "pings";
  }
  if (i < words.size() && is_method(words[i])) {
    RequestSet request;
    request.method = words[i++];
    if (i < words.size() && words[i][0] == '/') request.path = words[i++];
    // Words as in a request, not expressions: what looks like one is no path.
    constexpr const char* kExpression = "*[]+\\()|{}^$";
    if (request.path.find_first_of(kExpression) != std::string::npos) {
      return Error{fmt::format(
          "`{}` looks like an expression, and a sentence takes a path as it stands; a PolicyTest "
          "takes expressions in its long form (`http: {{path: REGEX}}`)",
          request.path)};
    }
    for (std::string* part : {&request.method, &request.path}) {
      std::string literal;
      for (const char c : *part) {
        if (!std::isalnum(static_cast<unsigned char>(c)) && c != '/') literal += '\\';
        literal += c;
      }
      *part = literal;
    }
    out.requests = std::move(request);
  }
  if (i < words.size() && lower(words[i]) == "to") ++i;
  std::vector<std::string> object;
  while (i < words.size() && lower(words[i]) != "on") object.push_back(words[i++]);
  if (i < words.size()) {
    ++i;
    if (i < words.size() && lower(words[i]) == "port") ++i;
    if (ping) return Error{"a ping goes to no port; leave `on` out"};
    if (i + 1 != words.size() || !add_port(words[i], out)) {
      return Error{"behind `on` stands one port, like 5432, 53/UDP, 8000-8010/TCP or http"};
    }
  }
  if (ping) out.ports = ping_ports();
  if (object.empty()) return Error{"the sentence names no target"};
  auto from = parse_set(subject);
  if (!from) return Error{from.error()};
  out.from = std::move(*from);
  // Targets may be sets too, and usually are names.
  const std::string head = lower(object[0]);
  if (head == "pods" || head == "any") {
    if (head == "any") object.erase(object.begin());
    auto to = parse_set(object);
    if (!to) return Error{to.error()};
    out.to = std::move(*to);
  } else {
    for (const std::string& w : object) out.to.name += (out.to.name.empty() ? "" : " ") + w;
  }
  return Expected<Claim>(std::move(out));
}

ClaimWorld::ClaimWorld(const ir::World& world, std::string ns)
    : world_(world),
      ns_(std::move(ns)),
      resolved_(ir::resolve(world, {ir::policy_names(world.policies)})),
      connectivity_(world.settings, resolved_),
      parties_(ir::graph_parties(world, resolved_)) {
  // Lists leave them out; what is said of all pods of a namespace is said of these, too.
  for (std::size_t i = 0; i < world.inventory.pods.size(); ++i) {
    const ir::Pod& pod = world.inventory.pods[i];
    if (!pod.host_network) continue;
    ir::GraphParty p;
    p.id = pod.ns + "/" + pod.kind + "/" + pod.name;
    p.kind = "workload";
    p.labels = ir::pod_identity(world.inventory, world.settings, pod);
    p.pod = i;
    if (pod.ips.empty()) {
      p.unknown = "on the host network, and nobody told of which node";
    } else {
      p.address = pod.ips.front();
    }
    p.node = node_under(world, ir::PodParty{i}).value_or(SIZE_MAX);
    parties_.push_back(std::move(p));
  }
}

Expected<std::vector<ir::GraphParty>> ClaimWorld::members(const PartySet& set) const {
  std::vector<ir::GraphParty> out = parties_;
  const auto keep = [&](const auto& wanted) {
    std::erase_if(out, [&](const ir::GraphParty& p) { return !wanted(p); });
  };
  if (set.workloads || !set.ns.empty() || !set.labels.empty()) {
    keep([](const ir::GraphParty& p) { return p.pod != SIZE_MAX; });
  }
  if (!set.ns.empty()) {
    keep([&](const ir::GraphParty& p) { return world_.inventory.pods[p.pod].ns == set.ns; });
  }
  if (!set.labels.empty()) {
    const auto selector = parse_selector(set.labels);
    if (!selector) return Error{fmt::format("`{}` is no label selector", set.labels)};
    keep([&](const ir::GraphParty& p) { return selector->matches(p.labels); });
  }
  if (!set.name.empty()) {
    const auto side = resolve_side(world_, set.name, ns_);
    if (!side) return Error{side.error()};
    std::vector<ir::GraphParty> named;
    ResolvedSide rest = side->pod_by_pod();
    std::erase_if(rest.parties, [&](const ir::Party& party) {
      // The world is the block without any prefix of its own, and those with one.
      const auto* entity = std::get_if<ir::EntityParty>(&party);
      if (entity == nullptr || !entity->entity.starts_with("world")) return false;
      for (const ir::GraphParty& p : out) {
        if (p.kind == "cidr" || p.id == entity->entity) named.push_back(p);
      }
      return true;
    });
    auto others = parties_of_side(world_, out, rest, set.name);
    if (!others) return others;
    named.insert(named.end(), others->begin(), others->end());
    out = std::move(named);
  }
  const auto inside = [](const std::vector<ir::GraphParty>& list, const ir::GraphParty& p) {
    return std::any_of(list.begin(), list.end(),
                       [&](const ir::GraphParty& other) { return other.id == p.id; });
  };
  if (!set.any_of.empty()) {
    std::vector<ir::GraphParty> all;
    for (const PartySet& s : set.any_of) {
      auto list = members(s);
      if (!list) return list;
      all.insert(all.end(), list->begin(), list->end());
    }
    keep([&](const ir::GraphParty& p) { return inside(all, p); });
  }
  for (const PartySet& s : set.none_of) {
    const auto list = members(s);
    if (!list) return list;
    keep([&](const ir::GraphParty& p) { return !inside(*list, p); });
  }
  return out;
}

Expected<std::vector<ClaimWorld::Targets>> ClaimWorld::targets(const PartySet& set,
                                                               const Claim& claim) const {
  const auto all = members(set);
  if (!all) return Error{all.error()};
  std::vector<Targets> out;
  const auto add = [&](const ir::GraphParty& party, const std::vector<ir::PortSpan>& on) {
    const auto of_id = [&](const ir::GraphParty& p) { return p.id == party.id; };
    if (std::none_of(all->begin(), all->end(), of_id)) return;
    auto same =
        std::find_if(out.begin(), out.end(), [&](const Targets& t) { return t.ports == on; });
    if (same == out.end()) same = out.insert(out.end(), {{}, on});
    if (std::none_of(same->parties.begin(), same->parties.end(), of_id)) {
      same->parties.push_back(party);
    }
  };
  const auto is = [](const NamedPort& asked, const std::string& name, ir::Protocol protocol) {
    return asked.name == lower(name) && (!asked.protocol || *asked.protocol == protocol);
  };
  const auto nobody = [&] {
    const NamedPort& asked = claim.port_names.front();
    return Error{fmt::format(
        "no target has a port named `{}`{}", asked.name,
        asked.protocol ? fmt::format(" of {}", ir::protocol_name(*asked.protocol)) : "")};
  };
  if (!set.name.empty()) {
    const auto side = resolve_side(world_, set.name, ns_);
    if (side && side->service && !side->service->ports.empty()) {
      const ir::Service& service = *side->service;
      std::vector<ir::PortSpan> wanted = claim.ports;
      for (const NamedPort& asked : claim.port_names) {
        for (const ir::ServicePort& p : service.ports) {
          if (is(asked, p.name, p.protocol) || is(asked, p.target_name, p.protocol)) {
            wanted.push_back({p.protocol, p.port, p.port, ""});
          }
        }
      }
      if (wanted.empty() && !claim.port_names.empty()) {
        return Error{lacks_port(service, "named " + claim.port_names.front().name)};
      }
      if (!has_service_port(service, wanted)) return Error{lacks_port(service, wanted)};
      for (const ir::GraphParty& p : *all) {
        const auto spans = back_end_spans(world_, service, party_of(p), wanted);
        if (!spans.empty()) add(p, spans);
      }
      return out;
    }
  }
  for (const PartySet& s : set.any_of) {
    const auto some = targets(s, claim);
    if (!some) return some;
    for (const Targets& t : *some) {
      for (const ir::GraphParty& p : t.parties) add(p, t.ports);
    }
  }
  if (!set.any_of.empty()) return out;
  if (claim.port_names.empty()) {
    out.push_back({*all, claim.ports});
    return out;
  }
  for (const ir::GraphParty& p : *all) {
    std::vector<ir::PortSpan> wanted = claim.ports;
    for (const NamedPort& asked : claim.port_names) {
      for (const ir::Protocol protocol : {ir::kProtoTcp, ir::kProtoUdp, ir::kProtoSctp}) {
        if (p.pod == SIZE_MAX || (asked.protocol && *asked.protocol != protocol)) continue;
        const auto number =
            ir::ingress_ports(world_.inventory.pods[p.pod]).find(asked.name, protocol);
        if (number) wanted.push_back({protocol, *number, *number, ""});
      }
    }
    if (!wanted.empty()) add(p, wanted);
  }
  if (out.empty()) return nobody();
  return out;
}

Expected<RequestLanguage> ClaimWorld::requests(const RequestSet& r) const {
  auto language = RequestLanguage::matching(r.not_method ? "" : r.method, r.not_path ? "" : r.path,
                                            r.not_host ? "" : r.host);
  for (const auto& [negated, method, path, host] :
       {std::tuple(r.not_method, r.method, std::string(), std::string()),
        std::tuple(r.not_path, std::string(), r.path, std::string()),
        std::tuple(r.not_host, std::string(), std::string(), r.host)}) {
    if (!negated || !language) continue;
    const auto without = RequestLanguage::matching(method, path, host);
    if (!without) return without;
    language = language->subtract(*without);
  }
  return language;
}

Expected<ReachResult> ClaimWorld::decide(const Claim& claim) const {
  auto from = members(claim.from);
  if (!from) return Error{from.error()};
  const auto to = targets(claim.to, claim);
  if (!to) return Error{to.error()};
  ReachClaim reach;
  reach.from = std::move(*from);
  reach.allow = claim.allow;
  if (claim.requests) {
    auto language = requests(*claim.requests);
    if (!language) return Error{language.error()};
    reach.requests = std::move(*language);
  }
  ReachResult out;
  for (const Targets& t : *to) {
    reach.to = t.parties;
    reach.ports = t.ports;
    ReachResult part = policyc::decide(world_, connectivity_, reach);
    part.pairs += out.pairs;
    if (out.kind == ReachResult::Kind::Unknown && part.kind == ReachResult::Kind::Holds) {
      part.kind = out.kind;
      part.why = out.why;
    }
    out = std::move(part);
    if (out.kind == ReachResult::Kind::Fails) break;
  }
  if (world_.settings.host_firewall) about_nodes(claim, reach.from, *to, out);
  return out;
}

// Under the host firewall nodes refuse, too. Where the input does not say which nodes there are,
// what passes by Connectivity may not pass.
void ClaimWorld::about_nodes(const Claim& claim, const std::vector<ir::GraphParty>& from,
                             const std::vector<Targets>& to, ReachResult& result) const {
  const auto unjudged = [&](const ir::Party& p) {
    return !std::holds_alternative<ir::NodeParty>(p) && stands_for_node(world_, p);
  };
  const auto node = [&](const ir::GraphParty& p) { return unjudged(party_of(p)); };
  const auto some = [&](const std::vector<ir::GraphParty>& list) {
    return std::any_of(list.begin(), list.end(), node);
  };
  const bool open =
      claim.allow
          ? result.kind == ReachResult::Kind::Holds &&
                (some(from) || std::any_of(to.begin(), to.end(),
                                           [&](const Targets& t) { return some(t.parties); }))
          : result.counterexample &&
                (unjudged(result.counterexample->from) || unjudged(result.counterexample->to));
  if (!open) return;
  result.kind = ReachResult::Kind::Unknown;
  result.counterexample.reset();
  result.why =
      "the host firewall is on, and the input does not say which nodes there are; ask `can A reach "
      "B` of the nodes";
}

namespace {

// The pods of the set, whoever they are, as a selector; nullopt where the set says more than
// namespaces and labels.
std::optional<ir::Selector> any_pods(const PartySet& set) {
  if (!set.name.empty() || !set.any_of.empty()) return std::nullopt;
  if (!set.workloads && set.ns.empty() && set.labels.empty()) return std::nullopt;
  ir::Selector out;
  const auto of_namespace = [](ir::Operator op, std::vector<std::string> values) {
    ir::Requirement r;
    r.source = "k8s";
    r.key = ir::kNamespaceKey;
    r.op = op;
    r.values = std::move(values);
    return r;
  };
  out.requirements.push_back(of_namespace(ir::Operator::Exists, {}));
  if (!set.ns.empty()) out.requirements.push_back(of_namespace(ir::Operator::In, {set.ns}));
  if (!set.labels.empty()) {
    const auto labels = parse_selector(set.labels);
    if (!labels) return std::nullopt;
    out.requirements.insert(out.requirements.end(), labels->requirements.begin(),
                            labels->requirements.end());
  }
  for (const PartySet& none : set.none_of) {
    const bool of_ns = !none.ns.empty() && none.labels.empty();
    const bool of_labels = none.ns.empty() && !none.labels.empty();
    if (of_ns == of_labels || !none.name.empty() || !none.any_of.empty() || !none.none_of.empty()) {
      return std::nullopt;
    }
    if (of_ns) {
      out.requirements.push_back(of_namespace(ir::Operator::NotIn, {none.ns}));
      continue;
    }
    const auto labels = parse_selector(none.labels);
    if (!labels || labels->requirements.size() != 1) return std::nullopt;
    ir::Requirement r = labels->requirements[0];
    r.op = r.op == ir::Operator::In       ? ir::Operator::NotIn
           : r.op == ir::Operator::NotIn  ? ir::Operator::In
           : r.op == ir::Operator::Exists ? ir::Operator::DoesNotExist
                                          : ir::Operator::Exists;
    out.requirements.push_back(std::move(r));
  }
  return out;
}

}  // namespace

std::optional<OpenAnswer> ClaimWorld::decide_for_any_pod(const Claim& claim) const {
  auto from = any_pods(claim.from);
  if (from && claim.allow) {
    OpenAnswer out;
    out.why =
        "since a claim about every pod is one about those of the input: a pod that could exist may "
        "be one that some policy keeps back";
    return out;
  }
  const auto to = targets(claim.to, claim);
  if (!from || !to || to->size() != 1) return std::nullopt;
  OpenClaim open;
  open.from = std::move(*from);
  open.ports = to->front().ports;
  for (const ir::GraphParty& p : to->front().parties) {
    if (p.pod == SIZE_MAX) return std::nullopt;
    open.to.push_back(p.pod);
  }
  if (open.to.empty()) return std::nullopt;
  if (claim.requests) {
    auto language = requests(*claim.requests);
    if (!language) return std::nullopt;
    open.requests = std::move(*language);
  }
  return no_pod_reaches(world_, open);
}

// ---- assertion files

namespace {

class TestReader {
 public:
  explicit TestReader(const SourceMap& sources) : sources_(sources) {}

  Expected<std::vector<PolicyTest>> read(const YamlNode& root) {
    std::vector<PolicyTest> out;
    known_keys(root, {"apiVersion", "kind", "metadata", "tests"});
    const YamlNode* tests = root.get("tests");
    if (tests == nullptr || !tests->is_sequence()) {
      fail(root, "a PolicyTest needs a list of `tests`");
    } else {
      for (const frontend::YamlRef& item : tests->items) {
        if (error_.empty()) out.push_back(test(*item.node));
      }
    }
    if (!error_.empty()) return Error{error_};
    return out;
  }

 private:
  void fail(const YamlNode& at, const std::string& what) {
    if (error_.empty()) error_ = sources_.place(at.range) + ": " + what;
  }

  void known_keys(const YamlNode& node, std::initializer_list<std::string_view> keys) {
    if (!node.is_mapping()) return fail(node, "a mapping is wanted here");
    for (const frontend::YamlEntry& e : node.entries) {
      if (std::find(keys.begin(), keys.end(), e.key) != keys.end()) continue;
      std::string list;
      for (const std::string_view k : keys) list += (list.empty() ? "" : ", ") + std::string(k);
      fail(*e.value.node, fmt::format("unknown key `{}`; known are {}", e.key, list));
    }
  }

  // The same, and each key has a value: one without would ask for nothing, which means everything.
  void known_values(const YamlNode& node, std::initializer_list<std::string_view> keys) {
    known_keys(node, keys);
    for (const frontend::YamlEntry& e : node.entries) {
      if (node.get(e.key) == nullptr) fail(*e.value.node, fmt::format("`{}` has no value", e.key));
    }
  }

  // The text under that key; empty where it is missing.
  std::string text(const YamlNode& node, const char* key) {
    const YamlNode* child = node.get(key);
    if (child == nullptr) return "";
    if (!child->is_scalar() || child->text.empty()) {
      fail(*child, fmt::format("`{}` is one text", key));
    }
    return std::string(child->text);
  }

  std::vector<PartySet> sets(const YamlNode& list) {
    std::vector<PartySet> out;
    if (!list.is_sequence() || list.items.empty()) fail(list, "a list of sets is wanted here");
    for (const frontend::YamlRef& item : list.items) out.push_back(set(*item.node));
    return out;
  }

  std::string labels(const YamlNode& node) {
    if (node.is_scalar() && !node.text.empty()) return std::string(node.text);
    std::string out;
    for (const frontend::YamlEntry& e : node.entries) {
      const YamlNode& value = *e.value.node;
      if (!value.is_scalar() || value.kind == frontend::NodeKind::Null) {
        fail(value, fmt::format("the label `{}` has one value", e.key));
      }
      out += fmt::format("{}{}={}", out.empty() ? "" : ",", e.key, value.text);
    }
    if (out.empty()) fail(node, "`labels` are a selector like app=x,tier!=y, or a mapping");
    return out;
  }

  PartySet set(const YamlNode& node) {
    PartySet out;
    if (node.is_scalar()) {
      if (node.text.empty()) fail(node, "a name is empty");
      out.name = std::string(node.text);
      return out;
    }
    if (node.is_sequence()) {
      out.any_of = sets(node);
      return out;
    }
    known_values(node, {"name", "namespace", "labels", "workloads", "not", "any"});
    out.name = text(node, "name");
    out.ns = text(node, "namespace");
    if (const YamlNode* l = node.get("labels")) out.labels = labels(*l);
    if (const YamlNode* workloads = node.get("workloads")) {
      const std::string word = lower(std::string(workloads->text));
      out.workloads = word == "true" || word == "yes" || word == "on";
      const bool is_bool = workloads->kind == frontend::NodeKind::Bool;
      if (!is_bool) fail(*workloads, "`workloads` is true or false");
    }
    if (const YamlNode* n = node.get("not")) out.none_of.push_back(set(*n));
    if (const YamlNode* any = node.get("any")) out.any_of = sets(*any);
    return out;
  }

  RequestSet requests(const YamlNode& node) {
    RequestSet out;
    if (node.is_scalar()) {
      std::istringstream in{std::string(node.text)};
      std::string more;
      in >> out.method >> out.path >> more;
      if (out.method.empty() || !more.empty()) fail(node, "`http` is a method and a path");
      return out;
    }
    known_values(node, {"method", "path", "host", "not"});
    const auto take = [&](const YamlNode& from, bool negated) {
      const auto part = [&](const char* key, std::string& expression, bool& flag) {
        if (from.get(key) == nullptr) return;
        if (!expression.empty()) fail(from, fmt::format("`{}` is given twice", key));
        expression = text(from, key);
        flag = negated;
      };
      part("method", out.method, out.not_method);
      part("path", out.path, out.not_path);
      part("host", out.host, out.not_host);
    };
    take(node, false);
    if (const YamlNode* n = node.get("not")) {
      known_values(*n, {"method", "path", "host"});
      if (n->entries.size() > 1) fail(*n, "`not` takes one of method, path and host");
      take(*n, true);
    }
    return out;
  }

  PolicyTest test(const YamlNode& node) {
    PolicyTest out;
    out.range = node.range;
    known_values(node, {"name", "assert", "from", "to", "ports", "http", "expect"});
    out.name = std::string(node.get_text("name"));
    if (out.name.empty()) fail(node, "a test needs a `name`");
    const YamlNode* assertions = node.get("assert");
    const YamlNode* from = node.get("from");
    const YamlNode* to = node.get("to");
    if ((assertions != nullptr) == (from != nullptr || to != nullptr)) {
      fail(node, "a test has either `assert` with sentences, or `from`, `to` and `expect`");
      return out;
    }
    if (assertions != nullptr) {
      if (!assertions->is_sequence()) fail(*assertions, "`assert` is a list of sentences");
      for (const frontend::YamlRef& s : assertions->items) {
        out.sentences.emplace_back(std::string(s.node->text), s.node->range);
      }
      if (out.sentences.empty()) fail(*assertions, "a test without sentences tests nothing");
      return out;
    }
    Claim claim;
    if (from != nullptr) claim.from = set(*from);
    if (to != nullptr) claim.to = set(*to);
    const std::string_view expect = node.get_text("expect");
    if (expect != "allow" && expect != "deny") fail(node, "`expect` is allow or deny");
    claim.allow = expect == "allow";
    if (const YamlNode* ports = node.get("ports")) {
      const auto one = [&](const YamlNode& p) {
        if (add_port(std::string(p.text), claim)) return;
        fail(p, fmt::format("`{}` is no port; write 5432, 53/UDP, 8000-8010/TCP, 8/ICMP, ping or "
                            "the name of one",
                            p.text));
      };
      if (ports->is_sequence()) {
        for (const frontend::YamlRef& p : ports->items) one(*p.node);
      } else {
        one(*ports);
      }
    }
    if (const YamlNode* http = node.get("http")) claim.requests = requests(*http);
    out.claim = std::move(claim);
    return out;
  }

  const SourceMap& sources_;
  std::string error_;
};

}  // namespace

Expected<std::vector<PolicyTest>> read_policy_tests(const SourceMap& sources, FileId file) {
  DiagnosticSink sink;
  const frontend::YamlStream stream = frontend::read_yaml(sources, file, sink);
  if (!stream.ok()) {
    for (const Diagnostic& d : sink.all()) return Error{sources.place(d.range) + ": " + d.message};
  }
  std::vector<PolicyTest> out;
  for (const frontend::YamlDocument& document : stream.documents()) {
    const YamlNode& root = *document.root;
    if (!root.is_mapping() || root.get_text("kind") != "PolicyTest") continue;
    auto tests = TestReader(sources).read(root);
    if (!tests) return tests;
    out.insert(out.end(), std::make_move_iterator(tests->begin()),
               std::make_move_iterator(tests->end()));
  }
  return out;
}

}  // namespace policyc::cli
