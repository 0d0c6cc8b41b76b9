#include "cli/question.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "cli/flows.h"
#include "ir/base/text.h"
#include "ir/connectivity.h"
#include "ir/filters.h"
#include "ir/identity.h"

namespace policyc::cli {
namespace {

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

// Under the host firewall nodes are policy subjects: an address of one, a pod on one's network,
// `host` and `remote-node` become the nodes that they stand for, as seen from the other side.
Expected<std::vector<ir::Party>> as_nodes(const ir::World& world, const ir::Party& party,
                                          const ir::Party& other) {
  const auto& nodes = world.inventory.nodes;
  const std::vector<ir::Party> same = {party};
  if (const auto node = node_under(world, party))
    return std::vector<ir::Party>{ir::NodeParty{*node}};
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
