#include "cli/fixtures.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <tuple>

#include "backend-bpf/capture.h"
#include "cli/question.h"
#include "frontend/yaml_document.h"

namespace policyc::cli {
namespace {

using frontend::YamlNode;

// Reads one file; the first mistake ends it.
class Reader {
 public:
  Reader(const SourceMap& sources, const ir::World& world, const std::string& ns)
      : sources_(sources), world_(world), ns_(ns) {}

  Expected<std::vector<bpf::Fixture>> read(const YamlNode& root) {
    std::vector<bpf::Fixture> out;
    if (!root.is_sequence()) fail(root, "a fixture file is a list of {name, packets, expect}");
    for (const frontend::YamlRef& item : root.items) {
      if (!error_.empty()) break;
      out.push_back(fixture(*item.node));
    }
    if (!error_.empty()) return Error{error_};
    return out;
  }

 private:
  void fail(const YamlNode& at, const std::string& what) {
    if (error_.empty()) error_ = sources_.place(at.range) + ": " + what;
  }

  bpf::Fixture fixture(const YamlNode& node);
  bpf::Packet packet(const YamlNode& node);
  void addresses(const YamlNode& node, bpf::Packet& out);
  std::optional<ir::IpAddress> address(const YamlNode& node, ir::Family family);
  std::uint32_t number(const YamlNode& parent, const char* key, std::uint32_t otherwise,
                       std::uint32_t most);
  void known_keys(const YamlNode& node, std::initializer_list<std::string_view> keys);
  void number_bytes(bpf::Packet& packet, bool given);

  const SourceMap& sources_;
  const ir::World& world_;
  const std::string& ns_;
  std::string error_;
  using Connection = std::tuple<ir::IpAddress, std::uint16_t, ir::IpAddress, std::uint16_t>;
  std::map<Connection, std::uint32_t> next_sequence_;  // of the fixture at hand
};

void Reader::known_keys(const YamlNode& node, std::initializer_list<std::string_view> keys) {
  for (const frontend::YamlEntry& e : node.entries) {
    if (std::find(keys.begin(), keys.end(), e.key) != keys.end()) continue;
    std::string list;
    for (const std::string_view k : keys) list += (list.empty() ? "" : ", ") + std::string(k);
    fail(*e.value.node, fmt::format("unknown key `{}`; known are {}", e.key, list));
  }
}

std::uint32_t Reader::number(const YamlNode& parent, const char* key, std::uint32_t otherwise,
                             std::uint32_t most) {
  const YamlNode* node = parent.get(key);
  if (node == nullptr) return otherwise;
  std::uint32_t value = 0;
  const char* end = node->text.data() + node->text.size();
  auto [rest, error] = std::from_chars(node->text.data(), end, value);
  if (error != std::errc() || rest != end || value > most) {
    fail(*node, fmt::format("`{}` is no number from 0 to {}", node->text, most));
  }
  return value;
}

std::optional<ir::IpAddress> Reader::address(const YamlNode& node, ir::Family family) {
  const std::string name(node.text);
  const auto pick = [&](const std::vector<ir::IpAddress>& list) -> std::optional<ir::IpAddress> {
    for (const ir::IpAddress& ip : list) {
      if (ip.family == family) return ip;
    }
    return std::nullopt;
  };
  const auto side = resolve_side(world_, name, ns_);
  if (!side) {
    fail(node, side.error());
    return std::nullopt;
  }
  const ir::Party& party = side->parties.front();
  std::optional<ir::IpAddress> found;
  if (const auto* pod = std::get_if<ir::PodParty>(&party)) {
    found = pick(world_.inventory.pods[pod->pod].ips);
  } else if (const auto* outside = std::get_if<ir::AddressParty>(&party)) {
    found = outside->ip;
  } else if (const auto* n = std::get_if<ir::NodeParty>(&party)) {
    found = pick(world_.inventory.nodes[n->node].addresses);
  } else if (const auto* dns = std::get_if<ir::NameParty>(&party); dns && world_.inventory.fqdn) {
    const auto it = world_.inventory.fqdn->find(dns->name);
    if (it != world_.inventory.fqdn->end()) found = pick(it->second);
  }
  if (!found) {
    fail(node, fmt::format("`{}` has no {} address; write an address", name,
                           family == ir::Family::V4 ? "IPv4" : "IPv6"));
  }
  return found;
}

// IPv4 where both sides have it, else IPv6; `family` decides where it is given.
void Reader::addresses(const YamlNode& node, bpf::Packet& out) {
  const auto both = [&](ir::Family family) {
    for (const char* key : {"from", "to"}) {
      const YamlNode* end = node.get(key);
      if (end == nullptr) return fail(node, fmt::format("a packet needs `{}`", key));
      const auto ip = address(*end, family);
      if (!ip) return;
      (key[0] == 'f' ? out.from : out.to) = *ip;
    }
    if (out.from.family != out.to.family)
      fail(node, "`from` and `to` are of different IP families");
  };
  if (!error_.empty()) return;
  const std::uint32_t family = number(node, "family", 0, 6);
  both(family == 6 ? ir::Family::V6 : ir::Family::V4);
  if (error_.empty() || family != 0) return;
  const std::string first = std::move(error_);
  error_.clear();
  both(ir::Family::V6);
  if (!error_.empty()) error_ = first;
}

// Sequence numbers follow what was sent before on the connection, unless given.
void Reader::number_bytes(bpf::Packet& packet, bool given) {
  const Connection c{packet.from, packet.source_port, packet.to, packet.destination_port};
  auto [it, fresh] = next_sequence_.try_emplace(c, 1000);
  if (!given) packet.sequence = it->second;
  const std::uint32_t syn = (packet.tcp_flags & bpf::kSyn) != 0 ? 1 : 0;
  it->second = packet.sequence + syn + static_cast<std::uint32_t>(packet.payload.size());
}

std::vector<std::uint8_t> dns_query(std::string_view name) {
  std::vector<std::uint8_t> out = {0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0};
  while (!name.empty()) {
    const std::size_t dot = std::min(name.find('.'), name.size());
    out.push_back(static_cast<std::uint8_t>(dot));
    out.insert(out.end(), name.begin(), name.begin() + static_cast<std::ptrdiff_t>(dot));
    name.remove_prefix(std::min(dot + 1, name.size()));
  }
  out.insert(out.end(), {0, 0, 1, 0, 1});  // root, type A, class IN
  return out;
}

bpf::Packet Reader::packet(const YamlNode& node) {
  bpf::Packet out;
  known_keys(node, {"from", "to", "family", "tcp", "udp", "sctp", "icmp", "icmpv6", "http", "dns",
                    "payload", "fragment"});
  addresses(node, out);
  if (const YamlNode* p = node.get("payload")) out.payload.assign(p->text.begin(), p->text.end());
  if (const YamlNode* h = node.get("http")) out.payload.assign(h->text.begin(), h->text.end());
  if (const YamlNode* d = node.get("dns")) {
    bool fits = d->text.size() <= 253;
    for (std::string_view rest = d->text; !rest.empty();) {
      const std::size_t dot = std::min(rest.find('.'), rest.size());
      fits = fits && dot > 0 && dot <= 63;
      rest.remove_prefix(std::min(dot + 1, rest.size()));
    }
    if (!fits) fail(*d, "no DNS name: at most 253 characters, labels of 1 to 63");
    out.payload = dns_query(d->text);
  }
  if (const YamlNode* f = node.get("fragment")) {
    out.later_fragment = f->text == "later";
    if (!out.later_fragment)
      fail(*f, fmt::format("`fragment: {}`: only `later` is known", f->text));
  }
  const auto count = [&](std::initializer_list<const char*> keys) {
    int n = 0;
    for (const char* key : keys) n += node.get(key) != nullptr ? 1 : 0;
    return n;
  };
  if (count({"tcp", "udp", "sctp", "icmp", "icmpv6"}) > 1) fail(node, "more than one protocol");
  if (count({"http", "dns", "payload"}) > 1) fail(node, "more than one of http, dns, payload");
  constexpr std::size_t kMostPayload = 3000;  // what the kernel takes in one test frame
  if (out.payload.size() > kMostPayload) {
    fail(node, fmt::format("{} bytes of payload do not fit one frame (at most {})",
                           out.payload.size(), kMostPayload));
  }
  const auto ports = [&](const YamlNode& l4, ir::Protocol protocol) {
    out.protocol = protocol;
    out.source_port = static_cast<std::uint16_t>(number(l4, "sport", 40000, 65535));
    out.destination_port = static_cast<std::uint16_t>(number(l4, "dport", 0, 65535));
    if (l4.get("dport") == nullptr) fail(l4, "`dport` is missing");
  };
  const auto icmp = [&](const YamlNode& l4, ir::Protocol protocol, std::uint32_t echo) {
    out.protocol = protocol;
    out.icmp_type = static_cast<std::uint8_t>(number(l4, "type", echo, 255));
    out.icmp_code = static_cast<std::uint8_t>(number(l4, "code", 0, 255));
  };
  if (const YamlNode* tcp = node.get("tcp")) {
    known_keys(*tcp, {"sport", "dport", "flags", "seq", "ack"});
    ports(*tcp, ir::kProtoTcp);
    const std::string flags(tcp->get("flags") != nullptr ? tcp->get_text("flags")
                            : out.payload.empty()        ? "S"
                                                         : "PA");
    const auto bits = bpf::parse_tcp_flags(flags);
    if (!bits) fail(*tcp, fmt::format("flags `{}`: letters of S, A, P, F, R, U", flags));
    out.tcp_flags = bits.value_or(0);
    out.sequence = number(*tcp, "seq", 0, UINT32_MAX);
    out.acknowledgement = number(*tcp, "ack", 0, UINT32_MAX);
    number_bytes(out, tcp->get("seq") != nullptr);
  } else if (const YamlNode* udp = node.get("udp")) {
    known_keys(*udp, {"sport", "dport"});
    ports(*udp, ir::kProtoUdp);
  } else if (const YamlNode* sctp = node.get("sctp")) {
    known_keys(*sctp, {"sport", "dport"});
    ports(*sctp, ir::kProtoSctp);
  } else if (const YamlNode* i4 = node.get("icmp")) {
    known_keys(*i4, {"type", "code"});
    icmp(*i4, ir::kProtoIcmp, 8);
  } else if (const YamlNode* i6 = node.get("icmpv6")) {
    known_keys(*i6, {"type", "code"});
    icmp(*i6, ir::kProtoIcmp6, 128);
  } else {
    fail(node, "a packet needs one of tcp, udp, sctp, icmp, icmpv6");
  }
  return out;
}

bpf::Fixture Reader::fixture(const YamlNode& node) {
  bpf::Fixture out;
  next_sequence_.clear();
  if (!node.is_mapping()) {
    fail(node, "a fixture is a mapping with name, packets and expect");
    return out;
  }
  known_keys(node, {"name", "packets", "expect"});
  out.name = std::string(node.get_text("name"));
  const YamlNode* packets = node.get("packets");
  if (packets == nullptr || !packets->is_sequence()) {
    fail(node, "a fixture needs a list of `packets`");
    return out;
  }
  if (packets->items.empty()) fail(*packets, "a fixture without packets tests nothing");
  for (const frontend::YamlRef& p : packets->items) {
    out.packets.push_back({bpf::build_frame(packet(*p.node)), std::nullopt});
    if (!error_.empty()) return out;
  }
  const YamlNode* expect = node.get("expect");
  if (expect == nullptr) return out;
  const auto fate = [&](const YamlNode& at) -> std::optional<bpf::Fate> {
    for (const bpf::Fate f :
         {bpf::Fate::Pass, bpf::Fate::Drop, bpf::Fate::Redirect, bpf::Fate::Refused}) {
      if (at.text == bpf::fate_name(f)) return f;
    }
    fail(at, fmt::format("`{}` is none of pass, drop, redirect, refused", at.text));
    return std::nullopt;
  };
  if (expect->is_scalar()) {
    const auto all = fate(*expect);
    for (bpf::ReplayPacket& p : out.packets) p.expect = all;
    return out;
  }
  if (expect->items.size() != out.packets.size()) {
    fail(*expect,
         fmt::format("{} expectations for {} packets", expect->items.size(), out.packets.size()));
    return out;
  }
  for (std::size_t i = 0; i < out.packets.size(); ++i) {
    out.packets[i].expect = fate(*expect->items[i].node);
  }
  return out;
}

}  // namespace

Expected<std::vector<bpf::Fixture>> read_fixtures(const std::string& path, const std::string& text,
                                                  const ir::World& world, const std::string& ns) {
  SourceMap sources;
  const FileId file = sources.add(path, text);
  DiagnosticSink sink;
  const frontend::YamlStream stream = frontend::read_yaml(sources, file, sink);
  if (!stream.ok()) {
    for (const Diagnostic& d : sink.all()) return Error{sources.place(d.range) + ": " + d.message};
    return Error{path + ": does not parse"};
  }
  std::vector<bpf::Fixture> out;
  Reader reader(sources, world, ns);
  for (const frontend::YamlDocument& document : stream.documents()) {
    if (document.root->kind == frontend::NodeKind::Null) continue;
    auto fixtures = reader.read(*document.root);
    if (!fixtures) return fixtures;
    out.insert(out.end(), std::make_move_iterator(fixtures->begin()),
               std::make_move_iterator(fixtures->end()));
  }
  return out;
}

Expected<bpf::Fixture> read_capture_fixture(const std::string& path) {
  auto frames = bpf::read_capture(path);
  if (!frames) return Error{frames.error()};
  bpf::Fixture out;
  out.name = path;
  for (auto& frame : *frames) out.packets.push_back({std::move(frame), std::nullopt});
  return out;
}

}  // namespace policyc::cli
