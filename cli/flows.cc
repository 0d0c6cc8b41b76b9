#include "cli/flows.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "ir/identity.h"

namespace policyc::cli {

using nlohmann::json;
using nlohmann::ordered_json;

std::optional<ir::Protocol> parse_protocol(const std::string& text) {
  std::string upper = text;
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (upper == "TCP") return ir::kProtoTcp;
  if (upper == "UDP") return ir::kProtoUdp;
  if (upper == "SCTP") return ir::kProtoSctp;
  if (upper == "ICMP" || upper == "ICMPV4") return ir::kProtoIcmp;
  if (upper == "ICMPV6") return ir::kProtoIcmp6;
  if (!text.empty() && text.find_first_not_of("0123456789") == std::string::npos) {
    const int number = text.size() > 3 ? 256 : std::stoi(text);
    if (number <= 255) return static_cast<ir::Protocol>(number);
  }
  return std::nullopt;
}

namespace {

Expected<ir::Party> read_party(const json& j, const ir::World& world) {
  if (!j.is_object() || j.empty()) return Error{"is not an object like {\"pod\": \"ns/name\"}"};
  const auto text = [&](const char* key) { return j.value(key, std::string()); };
  if (j.contains("pod")) {
    if (const auto pod = world.inventory.find_pod(text("pod")))
      return ir::Party{ir::PodParty{*pod}};
    return Error{fmt::format("names pod `{}`, which is not in the input", text("pod"))};
  }
  if (j.contains("ip")) {
    if (const auto ip = ir::parse_ip(text("ip"))) return ir::Party{ir::AddressParty{*ip}};
    return Error{fmt::format("has `{}`, which is no IP address", text("ip"))};
  }
  if (j.contains("entity")) {
    static const std::set<std::string> kKnown = {
        "world",   "world-ipv4", "world-ipv6", "host",      "remote-node", "kube-apiserver",
        "ingress", "health",     "init",       "unmanaged", "none"};
    if (kKnown.count(text("entity")) == 0) {
      return Error{fmt::format("names entity `{}`, which is no single party", text("entity"))};
    }
    return ir::Party{ir::EntityParty{text("entity")}};
  }
  if (j.contains("node")) {
    for (std::size_t i = 0; i < world.inventory.nodes.size(); ++i) {
      if (world.inventory.nodes[i].name == text("node")) return ir::Party{ir::NodeParty{i}};
    }
    return Error{fmt::format("names node `{}`, which is not in the input", text("node"))};
  }
  if (j.contains("name")) return ir::Party{ir::NameParty{text("name")}};
  return Error{"has none of the keys pod, ip, entity, node, name"};
}

ir::L7Request read_l7(const json& j) {
  if (j.contains("http")) {
    const json& h = j["http"];
    ir::HttpRequest out{h.value("method", ""), h.value("path", ""), h.value("host", ""), {}};
    if (h.contains("headers") && h["headers"].is_object()) {
      for (const auto& [name, value] : h["headers"].items()) {
        out.headers.emplace_back(name, value.is_string() ? value.get<std::string>() : value.dump());
      }
    }
    return out;
  }
  if (j.contains("dns")) return ir::DnsQuery{j["dns"].value("name", "")};
  if (j.contains("kafka")) {
    const json& k = j["kafka"];
    ir::KafkaRequest out;
    if (k.contains("apiKey")) {
      out.api_key = k["apiKey"].is_string() ? k["apiKey"].get<std::string>() : k["apiKey"].dump();
    }
    if (k.contains("apiVersion")) {
      const json& v = k["apiVersion"];
      out.api_version = v.is_number_integer() ? v.get<int>()
                        : v.is_string() && !v.get<std::string>().empty()
                            ? std::atoi(v.get<std::string>().c_str())
                            : 0;
    }
    out.client_id = k.value("clientID", "");
    out.topic = k.value("topic", "");
    return out;
  }
  if (j.contains("tls")) return ir::TlsHello{j["tls"].value("sni", "")};
  return std::monostate{};
}

// An address that no pod is named for. A node's is a policy subject where the host firewall is on.
Expected<ir::Party> hubble_address(const std::string& text, const ir::World& world) {
  const auto ip = ir::parse_ip(text);
  if (!ip) return Error{fmt::format("has `{}`, which is no IP address", text)};
  for (std::size_t i = 0; world.settings.host_firewall && i < world.inventory.nodes.size(); ++i) {
    const auto& addresses = world.inventory.nodes[i].addresses;
    if (std::find(addresses.begin(), addresses.end(), *ip) != addresses.end()) {
      return ir::Party{ir::NodeParty{i}};
    }
  }
  return ir::Party{ir::AddressParty{*ip}};
}

// One line of `hubble observe -o json`.
Expected<ir::Flow> read_hubble(const json& line, const ir::World& world) {
  const json& f = line.contains("flow") ? line["flow"] : line;
  ir::Flow out;
  out.id = f.value("uuid", std::string());
  const auto side = [&](const char* end, const char* address) -> Expected<ir::Party> {
    const json e = f.value(end, json::object());
    const std::string pod = e.value("pod_name", "");
    const json ip = f.value("IP", json::object());
    if (pod.empty()) return hubble_address(ip.value(address, ""), world);
    // The pod itself; else its workload, whose template stands for it.
    const std::string ns = e.value("namespace", "");
    std::vector<std::string> names = {ns + "/" + pod};
    for (const json& w : e.value("workloads", json::array())) {
      const std::string name = ns + "/" + w.value("kind", "") + "/" + w.value("name", "");
      names.insert(w.value("name", "") == pod ? names.begin() : names.end(), name);
    }
    for (const std::string& name : names) {
      if (const auto found = world.inventory.find_pod(name)) return ir::Party{ir::PodParty{*found}};
    }
    return Error{fmt::format("names pod `{}/{}`, which is not in the input", ns, pod)};
  };
  auto from = side("source", "source");
  auto to = side("destination", "destination");
  if (!from) return Error{"source " + from.error()};
  if (!to) return Error{"destination " + to.error()};
  out.from = *from;
  out.to = *to;
  const json is_reply = f.value("is_reply", json());
  const bool reply = is_reply.is_boolean() && is_reply.get<bool>();
  const json l4 = f.value("l4", json::object());
  for (const auto& [name, body] : l4.items()) {
    const auto protocol = parse_protocol(name);
    if (!protocol) continue;
    out.protocol = *protocol;
    const char* field = name.rfind("ICMP", 0) == 0 ? "type" : "destination_port";
    const int port = body.value(field, 0);
    if (port < 0 || port > 65535) return Error{fmt::format("`{}` {} is out of range", field, port)};
    out.port = static_cast<std::uint16_t>(port);
    // A reply stands for the connection that it answers.
    if (reply) {
      std::swap(out.from, out.to);
      const int source = body.value("source_port", 0);
      if (source < 0 || source > 65535) return Error{"`source_port` is out of range"};
      out.port = static_cast<std::uint16_t>(source);
      if (*protocol == ir::kProtoIcmp && port == 0) out.port = 8;
      if (*protocol == ir::kProtoIcmp6 && port == 129) out.port = 128;
    }
  }
  const json l7 = f.value("l7", json::object());
  if (l7.contains("http")) {
    // "http://host/path"
    std::string url = l7["http"].value("url", "");
    ir::HttpRequest request;
    request.method = l7["http"].value("method", "");
    if (const std::size_t scheme = url.find("://"); scheme != std::string::npos) {
      url.erase(0, scheme + 3);
      const std::size_t slash = std::min(url.find('/'), url.size());
      request.host = url.substr(0, slash);
      url.erase(0, slash);
    }
    request.path = url;
    for (const json& h : l7["http"].value("headers", json::array())) {
      request.headers.emplace_back(h.value("key", ""), h.value("value", ""));
    }
    out.l7 = request;
  } else if (l7.contains("dns") && l7["dns"].contains("query")) {
    std::string name = l7["dns"].value("query", "");
    if (!name.empty() && name.back() == '.') name.pop_back();
    out.l7 = ir::DnsQuery{name};
  }
  return out;
}

Expected<ir::Flow> read_flow(const json& j, const ir::World& world) {
  ir::Flow flow;
  if (!j.is_object()) return Error{"is not an object"};
  if (j.contains("id")) flow.id = j["id"].is_string() ? j["id"].get<std::string>() : j["id"].dump();
  for (const char* end : {"from", "to"}) {
    auto party = read_party(j.value(end, json()), world);
    if (!party) return Error{fmt::format("`{}` {}", end, party.error())};
    (end[0] == 'f' ? flow.from : flow.to) = *party;
  }
  const std::string proto = j.value("proto", std::string("TCP"));
  const auto protocol = parse_protocol(proto);
  if (!protocol)
    return Error{fmt::format("`proto` is `{}`; use TCP, UDP, SCTP, ICMP, ICMPv6", proto)};
  flow.protocol = *protocol;
  const json port = j.value("port", json());
  if (!port.is_number_integer() || port.get<std::int64_t>() < 0 ||
      port.get<std::int64_t>() > 65535) {
    return Error{
        fmt::format("`port` is {}; it must be a whole number from 0 to 65535", port.dump())};
  }
  flow.port = static_cast<std::uint16_t>(port.get<std::int64_t>());
  const bool icmp = flow.protocol == ir::kProtoIcmp || flow.protocol == ir::kProtoIcmp6;
  if (icmp && flow.port > kMostIcmpType) {
    return Error{fmt::format("`port` is {}; for {} it is the type, at most {}", flow.port, proto,
                             kMostIcmpType)};
  }
  if (j.contains("l7") && !j["l7"].is_null()) {
    if (!j["l7"].is_object()) return Error{"`l7` is not an object like {\"http\": {…}}"};
    flow.l7 = read_l7(j["l7"]);
  }
  return flow;
}

}  // namespace

Expected<std::vector<ir::Flow>> read_flows(const std::string& text, const ir::World& world) {
  std::vector<ir::Flow> out;
  try {
    const json all = json::parse(text, nullptr, false);
    if (all.is_array()) {
      for (std::size_t i = 0; i < all.size(); ++i) {
        Expected<ir::Flow> flow = Error{""};
        try {
          flow = read_flow(all[i], world);
        } catch (const json::exception& e) {
          flow = Error{std::string("a field has the wrong type: ") + e.what()};
        }
        if (!flow) return Error{fmt::format("flow {}: {}", i, flow.error())};
        out.push_back(std::move(*flow));
      }
      return out;
    }
    if (text.find_first_not_of(" \t\r\n") == std::string::npos) return Error{"the file is empty"};
    // Hubble writes one object a line.
    std::size_t begin = 0;
    for (std::size_t number = 1; begin < text.size(); ++number) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string line = text.substr(begin, end - begin);
      begin = end + 1;
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      const json j = json::parse(line, nullptr, false);
      if (j.is_discarded()) {
        return Error{
            fmt::format("line {}: neither a JSON array of flows nor Hubble's JSON lines", number)};
      }
      auto flow = read_hubble(j, world);
      if (!flow) return Error{fmt::format("line {}: {}", number, flow.error())};
      out.push_back(std::move(*flow));
    }
  } catch (const json::exception& e) {
    return Error{fmt::format("flows are not as expected: {}", e.what())};
  }
  return out;
}

namespace {

std::string policy_name(const ir::World& world, const ir::Origin& origin) {
  return world.policies.policies[origin.policy].ref.str();
}

ordered_json direction_json(const ir::World& world, const ir::DirectionVerdict& v) {
  ordered_json out;
  out["verdict"] = ir::verdict_name(v.verdict);
  out["reason"] = ir::reason_name(v.reason);
  if (!v.parser.empty()) out["parser"] = v.parser;
  if (v.auth) {
    out["auth"] = {{"type", ir::auth_name(v.auth->type)}, {"explicit", v.auth->is_explicit}};
  }
  std::vector<std::string> rules;
  for (const ir::Origin& o : v.rules) rules.push_back(policy_name(world, o));
  std::sort(rules.begin(), rules.end());
  rules.erase(std::unique(rules.begin(), rules.end()), rules.end());
  out["rules"] = rules;
  if (v.l7) {
    const char* verdict = v.l7->verdict == ir::L7VerdictKind::Allow  ? "allow"
                          : v.l7->verdict == ir::L7VerdictKind::Deny ? "deny"
                                                                     : "unknown";
    out["l7"] = {{"verdict", verdict}, {"reason", v.l7->reason}};
  }
  if (!v.depends_on.empty()) out["depends_on"] = v.depends_on;
  if (!v.error.empty()) out["error"] = v.error;
  return out;
}

}  // namespace

ordered_json answer_json(const ir::World& world, const ir::FlowVerdict& verdict) {
  ordered_json out;
  out["id"] = verdict.id;
  out["egress"] = verdict.egress ? direction_json(world, *verdict.egress) : ordered_json();
  out["ingress"] = verdict.ingress ? direction_json(world, *verdict.ingress) : ordered_json();
  out["final"] = {{"verdict", ir::verdict_name(verdict.final)}, {"reason", verdict.final_reason}};
  return out;
}

ordered_json policy_json(const ir::Policy& policy) {
  ordered_json out;
  out["file"] = policy.file;
  out["doc"] = policy.document;
  out["kind"] = policy.ref.kind;
  out["namespace"] = policy.ref.ns;
  out["name"] = policy.ref.name;
  out["ok"] = policy.accepted;
  out["layer"] = layer_name(policy.layer);
  out["error"] = policy.error;
  return out;
}

ordered_json flow_json(const ir::World& world, const ir::Flow& flow) {
  const auto party = [&](const ir::Party& p) -> ordered_json {
    const std::string name = party_name(world, p);
    switch (p.index()) {
      case 0:
        return {{"pod", name}};
      case 1:
        return {{"ip", name}};
      case 2:
        return {{"entity", name}};
      case 3:
        return {{"node", name}};
      case 4:
        return {{"labels", name}};
      default:
        return {{"name", name}};
    }
  };
  ordered_json out;
  if (!flow.id.empty()) out["id"] = flow.id;
  out["from"] = party(flow.from);
  out["to"] = party(flow.to);
  out["proto"] = ir::protocol_name(flow.protocol);
  out["port"] = flow.port;
  if (const auto* h = std::get_if<ir::HttpRequest>(&flow.l7)) {
    out["l7"]["http"] = {{"method", h->method}};
    if (!h->any_path) out["l7"]["http"]["path"] = h->path;
    if (!h->any_host) out["l7"]["http"]["host"] = h->host;
    for (const auto& [name, value] : h->headers) out["l7"]["http"]["headers"][name] = value;
  } else if (const auto* d = std::get_if<ir::DnsQuery>(&flow.l7)) {
    out["l7"]["dns"] = {{"name", d->name}};
  } else if (const auto* t = std::get_if<ir::TlsHello>(&flow.l7)) {
    out["l7"]["tls"] = {{"sni", t->sni}};
  } else if (const auto* k = std::get_if<ir::KafkaRequest>(&flow.l7)) {
    out["l7"]["kafka"] = {{"apiKey", k->api_key}, {"topic", k->topic}};
  }
  return out;
}

std::string party_name(const ir::World& world, const ir::Party& party) {
  struct Namer {
    const ir::World& world;
    std::string operator()(const ir::PodParty& p) const {
      const ir::Pod& pod = world.inventory.pods[p.pod];
      return pod.ns + "/" + pod.name;
    }
    std::string operator()(const ir::AddressParty& p) const { return p.ip.str(); }
    std::string operator()(const ir::EntityParty& p) const { return p.entity; }
    std::string operator()(const ir::NodeParty& p) const {
      return world.inventory.nodes[p.node].name;
    }
    std::string operator()(const ir::LabelsParty& p) const {
      std::string out;
      for (const ir::Label& l : p.labels.labels()) {
        if (l.key == ir::kNamespaceKey || l.key == ir::kClusterKey ||
            l.key.rfind(ir::kNamespaceLabelsPrefix, 0) == 0) {
          continue;
        }
        if (!out.empty()) out += ",";
        out += l.key + "=" + l.value;
      }
      return "any pod with " + out;
    }
    std::string operator()(const ir::NameParty& p) const { return p.name; }
  };
  return std::visit(Namer{world}, party);
}

}  // namespace policyc::cli
