#include "backend-bpf/agent_dump.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "ir/identity.h"
#include "ir/map_entries.h"

namespace policyc::bpf {
namespace {

using nlohmann::json;

constexpr std::uint32_t kFirstProxyPlaceholder = 20001;

std::optional<std::uint64_t> number(const json& j, std::uint64_t max) {
  std::uint64_t out = 0;
  if (j.is_number_unsigned()) {
    out = j.get<std::uint64_t>();
  } else if (j.is_string()) {
    const std::string text = j.get<std::string>();
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  } else {
    return std::nullopt;
  }
  if (out > max) return std::nullopt;
  return out;
}

// "identity=123 encryptkey=0 …", or the number.
std::optional<std::uint32_t> ipcache_identity(const json& j) {
  const json& first = j.is_array() && !j.empty() ? j.front() : j;
  if (first.is_string()) {
    const std::string text = first.get<std::string>();
    constexpr std::string_view kName = "identity=";
    const std::size_t at = text.find(kName);
    if (at != std::string::npos) {
      std::uint32_t out = 0;
      const char* begin = text.data() + at + kName.size();
      if (std::from_chars(begin, text.data() + text.size(), out).ec == std::errc{}) return out;
      return std::nullopt;
    }
  }
  const auto n = number(first, UINT32_MAX);
  if (!n) return std::nullopt;
  return static_cast<std::uint32_t>(*n);
}

Expected<bool> read_ipcache(const json& j, AgentDump& out) {
  for (const auto& [text, value] : j.items()) {
    const auto prefix = ir::parse_prefix(text, true);
    const auto identity = ipcache_identity(value);
    if (!prefix || !identity) return Error{fmt::format("ipcache: `{}` is not understood", text)};
    out.ipcache[*prefix] = *identity;
  }
  return true;
}

// Numbers in network order as the agent prints them: the bytes as a little-endian number.
std::uint16_t from_network(std::uint64_t v) {
  return static_cast<std::uint16_t>((v & 0xffU) << 8U | (v >> 8U & 0xffU));
}

Expected<bool> read_policy(const json& list, AgentDump& out) {
  for (const json& e : list) {
    if (!e.is_object()) return Error{"policy: an entry is no object"};
    if (e.contains("Content")) {
      if (e["Content"].is_null()) continue;
      if (!e["Content"].is_array()) return Error{"policy: `Content` is no list"};
      const auto read = read_policy(e["Content"], out);
      if (!read) return read;
      continue;
    }
    const auto key = e.find("Key");
    if (key == e.end() || !key->is_object()) return Error{"policy: an entry has no `Key`"};
    const auto field = [](const json& j, const char* name, std::uint64_t max) {
      const auto it = j.find(name);
      return it == j.end() ? std::nullopt : number(*it, max);
    };
    const auto proxy = field(e, "ProxyPortNetwork", 0xffff);
    if (!proxy || *proxy == 0) continue;
    const auto length = field(*key, "Prefixlen", 64);
    const auto direction = field(*key, "TrafficDirection", 1);
    const auto protocol = field(*key, "Nexthdr", 255);
    const auto port = field(*key, "DestPortNetwork", 0xffff);
    if (!length || !direction || !protocol || !port) {
      return Error{"policy: a `Key` lacks Prefixlen, TrafficDirection, Nexthdr or DestPortNetwork"};
    }
    out.redirects[{*direction == 1, static_cast<std::uint8_t>(*protocol), from_network(*port),
                   static_cast<std::uint32_t>(*length)}]
        .push_back(from_network(*proxy));
  }
  return true;
}

// Proxy ports by what their entries redirect: certain where all entries of a name agree.
std::map<std::string, std::set<std::uint16_t>> ports_by_name(const ir::NodeView& view,
                                                             const AgentDump& dump) {
  std::map<std::string, std::set<std::uint16_t>> out;
  for (const ir::ResolvedEndpoint& ep : view.endpoints) {
    for (const ir::Direction d : {ir::Direction::Ingress, ir::Direction::Egress}) {
      const auto& table = d == ir::Direction::Ingress ? ep.ingress : ep.egress;
      if (!table) continue;
      const std::vector<std::string> names = proxy_names(*table, d);
      if (names.size() != 1) continue;  // which entry is whose is not certain
      const auto look = [&](const ir::PolicyTable::Entry& e) {
        if (table->records[e.record].verdict != ir::VerdictKind::Redirect) return;
        const std::uint32_t length =
            kCiliumPolicyPrefix + (e.protocol == ir::kProtoAny ? 0U : 8U + e.block.length);
        const auto it =
            dump.redirects.find({d == ir::Direction::Egress, e.protocol, e.block.port, length});
        if (it != dump.redirects.end()) out[names[0]].insert(it->second.begin(), it->second.end());
      };
      for (const auto& e : table->wildcard_entries) look(e);
      for (const auto& list : table->class_entries) {
        for (const auto& e : list) look(e);
      }
    }
  }
  return out;
}

}  // namespace

Expected<bool> read_agent_dump(std::string_view text, AgentDump& out, std::string& node) {
  const json j = json::parse(text, nullptr, false);
  if (j.is_discarded()) return Error{"not JSON"};
  if (j.is_array()) return read_policy(j, out);
  if (!j.is_object()) return Error{"neither an ipcache nor a policy map"};
  const bool own = std::any_of(j.items().begin(), j.items().end(), [](const auto& member) {
    return member.key() == "node" || member.key() == "ipcache" || member.key() == "endpoints" ||
           member.key() == "proxy_ports" || member.key() == "policy";
  });
  if (!own) return read_ipcache(j, out);
  for (const auto& [name, value] : j.items()) {
    Expected<bool> read = true;
    if (name == "node" && value.is_string()) {
      node = value.get<std::string>();
    } else if (name == "ipcache" && value.is_object()) {
      read = read_ipcache(value, out);
    } else if (name == "policy" && value.is_array()) {
      read = read_policy(value, out);
    } else if ((name == "endpoints" || name == "proxy_ports") && value.is_object()) {
      auto& into = name == "endpoints" ? out.endpoints : out.proxy_ports;
      for (const auto& [key, n] : value.items()) {
        const auto v = number(n, 0xffff);
        if (!v || *v == 0) return Error{fmt::format("{}: `{}` has no number", name, key)};
        into[key] = static_cast<std::uint16_t>(*v);
      }
    } else {
      return Error{fmt::format("`{}` is not understood", name)};
    }
    if (!read) return read;
  }
  return true;
}

Expected<AgentNumbers> agent_numbers(const ir::Resolved& resolved, const ir::NodeView& view,
                                     const std::vector<ir::KnownIdentity>& known,
                                     const AgentDump& dump) {
  AgentNumbers out;
  std::set<std::uint32_t> allocated;
  for (const ir::KnownIdentity& k : known) allocated.insert(k.id);
  for (const ir::Identity& i : resolved.identities) {
    const bool reserved = i.number < ir::kIdentityFirstPod;
    out.identities.push_back({i.number, !reserved && allocated.count(i.number) == 0});
  }
  std::map<ir::IdentityIndex, std::pair<std::uint32_t, ir::Prefix>> seen;
  for (const auto& [prefix, identity] : view.ipcache) {
    const auto it = dump.ipcache.find(prefix);
    if (it == dump.ipcache.end()) continue;
    const auto [first, fresh] = seen.try_emplace(identity, it->second, prefix);
    if (!fresh && first->second.first != it->second) {
      return Error{
          fmt::format("the agent gives {} identity {} and {} identity {}; by the policies "
                      "and labels of the input they are one",
                      first->second.second.str(), first->second.first, prefix.str(), it->second)};
    }
    AgentNumbers::Number& n = out.identities[identity];
    if (!n.placeholder && n.value != it->second) {
      return Error{fmt::format("the agent gives {} identity {}; by the input it is {}",
                               prefix.str(), it->second, n.value)};
    }
    n = {it->second, false};
  }
  // A stand-in must not look like a number that the agent has given to somebody else.
  std::set<std::uint32_t> taken = allocated;
  for (const auto& [prefix, n] : dump.ipcache) taken.insert(n);
  for (AgentNumbers::Number& n : out.identities) {
    while (n.placeholder && !taken.insert(n.value).second) ++n.value;
  }

  std::set<std::string> names;
  for (const ir::ResolvedEndpoint& ep : view.endpoints) {
    for (const std::string& n : proxy_names(*ep.ingress, ir::Direction::Ingress)) names.insert(n);
    for (const std::string& n : proxy_names(*ep.egress, ir::Direction::Egress)) names.insert(n);
  }
  const auto found = ports_by_name(view, dump);
  std::uint32_t next = kFirstProxyPlaceholder;
  for (const std::string& name : names) {
    AgentNumbers::Number& n = out.proxy_ports[name];
    if (const auto told = dump.proxy_ports.find(name); told != dump.proxy_ports.end()) {
      n = {told->second, false};
    } else if (const auto it = found.find(name); it != found.end() && it->second.size() == 1) {
      n = {*it->second.begin(), false};
    } else {
      n = {next++, true};
    }
  }
  return out;
}

}  // namespace policyc::bpf
