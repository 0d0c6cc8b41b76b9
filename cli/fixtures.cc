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

constexpr std::size_t kMostFrame = 3712;  // what the kernel takes in one test run

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
  std::vector<std::uint8_t> frame(const YamlNode& node);
  std::vector<std::uint8_t> raw_frame(const YamlNode& hex);
  bpf::Packet packet(const YamlNode& node);
  const bpf::Packet* earlier(const YamlNode& number);
  void answer(const YamlNode& number, bpf::Packet& out);
  void about(const YamlNode& node, const YamlNode& number, bpf::Packet& out);
  void headers(const YamlNode& node, bpf::Packet& out);
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
  // Of the fixture at hand: the bytes sent so far, and its packets; frames in hex have none.
  std::map<Connection, std::uint32_t> next_sequence_;
  std::vector<std::optional<bpf::Packet>> sent_;
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
    found = pick({outside->ip});
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

// IPv4 where both sides have it, else IPv6; `family` and the family's own ICMP decide where they
// are given.
void Reader::addresses(const YamlNode& node, bpf::Packet& out) {
  const auto both = [&](ir::Family family) {
    for (const char* key : {"from", "to"}) {
      const YamlNode* end = node.get(key);
      if (end == nullptr) return fail(node, fmt::format("a packet needs `{}`", key));
      const auto ip = address(*end, family);
      if (!ip) return;
      (key[0] == 'f' ? out.from : out.to) = *ip;
    }
  };
  if (!error_.empty()) return;
  std::uint32_t family = number(node, "family", 0, 6);
  if (const YamlNode* given = node.get("family"); given != nullptr && family != 4 && family != 6) {
    return fail(*given, fmt::format("`family` is 4 or 6, not `{}`", given->text));
  }
  for (const auto& [key, wanted] : {std::pair("icmp", 4U), std::pair("icmpv6", 6U)}) {
    const YamlNode* icmp = node.get(key);
    if (icmp == nullptr) continue;
    if (family != 0 && family != wanted) {
      return fail(*icmp, fmt::format("`{}` belongs to IPv{}", key, wanted));
    }
    family = wanted;
  }
  both(family == 6 ? ir::Family::V6 : ir::Family::V4);
  if (error_.empty() || family != 0) return;
  const std::string first = std::move(error_);
  error_.clear();
  both(ir::Family::V6);
  if (error_.empty()) return;
  const bool by_family = error_ != first;
  error_.clear();
  fail(node, "`from` and `to` have no addresses of one IP family");
  if (!by_family) error_ = first;
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

// Digits in pairs; blanks and colons between them are for the reader.
std::vector<std::uint8_t> Reader::raw_frame(const YamlNode& hex) {
  std::vector<std::uint8_t> out;
  std::string digits;
  for (const char c : hex.text) {
    if (c != ' ' && c != ':' && c != '\n' && c != '\t' && c != '\r') digits += c;
  }
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    std::uint8_t byte = 0;
    const char* end = digits.data() + i + 2;
    const auto [rest, error] = std::from_chars(digits.data() + i, end, byte, 16);
    if (error != std::errc() || rest != end) {
      fail(hex, fmt::format("`{}` is no byte in hexadecimal", digits.substr(i, 2)));
      return out;
    }
    out.push_back(byte);
  }
  if (digits.size() % 2 != 0) fail(hex, "a digit without its second half");
  if (out.size() < 14 || out.size() > kMostFrame) {
    fail(hex, fmt::format("{} bytes: a frame has an Ethernet header of 14 bytes and at most {} in "
                          "all",
                          out.size(), kMostFrame));
  }
  return out;
}

// A packet of this fixture by its number, which counts from 1.
const bpf::Packet* Reader::earlier(const YamlNode& number) {
  std::size_t n = 0;
  const char* end = number.text.data() + number.text.size();
  const auto [rest, error] = std::from_chars(number.text.data(), end, n);
  if (error != std::errc() || rest != end || n == 0 || n > sent_.size()) {
    fail(number, fmt::format("`{}` is no number of an earlier packet of this fixture (1 to {})",
                             number.text, sent_.size()));
    return nullptr;
  }
  if (!sent_[n - 1]) fail(number, fmt::format("packet {} is given in hex", n));
  return sent_[n - 1] ? &*sent_[n - 1] : nullptr;
}

// `reply: N`: ends and ports of packet N exchanged.
void Reader::answer(const YamlNode& number, bpf::Packet& out) {
  const bpf::Packet* to = earlier(number);
  if (to == nullptr) return;
  out.from = to->to;
  out.to = to->from;
  out.protocol = to->protocol;
  out.source_port = to->destination_port;
  out.destination_port = to->source_port;
  out.icmp_type = to->protocol == ir::kProtoIcmp ? 0 : 129;  // echo reply
  out.icmp_id = to->icmp_id;
  const bool opens = (to->tcp_flags & bpf::kSyn) != 0;
  out.acknowledgement =
      to->sequence + (opens ? 1U : 0U) + static_cast<std::uint32_t>(to->payload.size());
  out.tcp_flags = opens ? bpf::kSyn | bpf::kAck : bpf::kAck;
  const bool echo = to->protocol == ir::kProtoIcmp    ? to->icmp_type == 8
                    : to->protocol == ir::kProtoIcmp6 ? to->icmp_type == 128
                                                      : true;
  if (!echo) fail(number, "an ICMP packet that is no echo request has no reply");
}

// `about: N`: an ICMP error quotes packet N, and goes to its sender unless `to` says otherwise.
void Reader::about(const YamlNode& node, const YamlNode& number, bpf::Packet& out) {
  const bpf::Packet* quoted = earlier(number);
  if (quoted == nullptr) return;
  const YamlNode* from = node.get("from");
  if (from == nullptr) return fail(node, "a packet needs `from`");
  if (const auto ip = address(*from, quoted->from.family)) out.from = *ip;
  out.to = quoted->from;
  if (const YamlNode* to = node.get("to")) {
    if (const auto ip = address(*to, quoted->from.family)) out.to = *ip;
  }
  const auto frame = bpf::build_frame(*quoted);
  const std::size_t size = (quoted->from.family == ir::Family::V4 ? 20U : 40U) + 8U;
  constexpr std::ptrdiff_t kEthernet = 14;
  out.payload.assign(frame.begin() + kEthernet,
                     frame.begin() + kEthernet +
                         static_cast<std::ptrdiff_t>(std::min(size, frame.size() - kEthernet)));
}

// What stands between the IP header and the transport header.
void Reader::headers(const YamlNode& node, bpf::Packet& out) {
  if (const YamlNode* f = node.get("fragment")) {
    out.later_fragment = f->text == "later";
    out.first_fragment = f->text == "first";
    if (!out.later_fragment && !out.first_fragment)
      fail(*f, fmt::format("`fragment: {}`: `first` or `later`", f->text));
  }
  const bool v4 = out.from.family == ir::Family::V4;
  if (const YamlNode* o = node.get("options")) {
    const std::uint32_t bytes = number(node, "options", 0, 40);
    if (bytes % 4 != 0 || !v4) fail(*o, "IPv4 options: a multiple of 4 bytes, at most 40");
    out.option_words = static_cast<std::uint8_t>(bytes / 4);
  }
  const YamlNode* extensions = node.get("extensions");
  if (extensions == nullptr) return;
  if (!extensions->is_sequence() || v4) {
    fail(*extensions, "`extensions` is a list of IPv6 extension headers");
  }
  static const std::map<std::string_view, ir::Protocol> kKnown = {
      {"hop-by-hop", 0}, {"routing", 43}, {"authentication", 51}, {"destination", 60}};
  for (const frontend::YamlRef& item : extensions->items) {
    const auto it = kKnown.find(item.node->text);
    if (it == kKnown.end()) {
      return fail(*item.node,
                  fmt::format("`{}` is none of hop-by-hop, routing, authentication, destination",
                              item.node->text));
    }
    out.extensions.push_back(it->second);
  }
}

bpf::Packet Reader::packet(const YamlNode& node) {
  bpf::Packet out;
  known_keys(node, {"from", "to", "family", "tcp", "udp", "sctp", "icmp", "icmpv6", "protocol",
                    "http", "dns", "payload", "fragment", "options", "extensions", "vlan", "reply",
                    "about", "repeat"});
  const YamlNode* reply = node.get("reply");
  const YamlNode* quoting = node.get("about");
  if (reply != nullptr) {
    for (const char* key : {"from", "to", "family", "about"}) {
      if (const YamlNode* n = node.get(key))
        fail(*n, fmt::format("`{}` and `reply` do not go together", key));
    }
    answer(*reply, out);
  } else if (quoting != nullptr) {
    about(node, *quoting, out);
  } else {
    addresses(node, out);
  }
  headers(node, out);
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
  const auto count = [&](std::initializer_list<const char*> keys) {
    int n = 0;
    for (const char* key : keys) n += node.get(key) != nullptr ? 1 : 0;
    return n;
  };
  if (count({"tcp", "udp", "sctp", "icmp", "icmpv6", "protocol"}) > 1)
    fail(node, "more than one protocol");
  if (count({"http", "dns", "payload", "about"}) > 1)
    fail(node, "more than one of http, dns, payload, about");
  constexpr std::size_t kMostPayload = 3000;
  if (out.payload.size() > kMostPayload) {
    fail(node, fmt::format("{} bytes of payload do not fit one frame (at most {})",
                           out.payload.size(), kMostPayload));
  }
  const auto ports = [&](const YamlNode& l4, ir::Protocol protocol) {
    if (reply != nullptr && out.protocol != protocol) {
      fail(l4, "the packet that this replies to is of another protocol");
    }
    out.protocol = protocol;
    const std::uint32_t sport = reply != nullptr ? out.source_port : 40000;
    out.source_port = static_cast<std::uint16_t>(number(l4, "sport", sport, 65535));
    out.destination_port =
        static_cast<std::uint16_t>(number(l4, "dport", out.destination_port, 65535));
    if (l4.get("dport") == nullptr && reply == nullptr) fail(l4, "`dport` is missing");
  };
  const auto icmp = [&](const YamlNode& l4, ir::Protocol protocol, std::uint32_t echo) {
    if (reply != nullptr && out.protocol != protocol) {
      fail(l4, "the packet that this replies to is of another protocol");
    }
    const ir::Family family = protocol == ir::kProtoIcmp ? ir::Family::V4 : ir::Family::V6;
    if (out.from.family != family) fail(l4, "ICMP belongs to IPv4, ICMPv6 to IPv6");
    out.protocol = protocol;
    out.icmp_type =
        static_cast<std::uint8_t>(number(l4, "type", reply != nullptr ? out.icmp_type : echo, 255));
    out.icmp_code = static_cast<std::uint8_t>(number(l4, "code", 0, 255));
    out.icmp_id = static_cast<std::uint16_t>(number(l4, "id", out.icmp_id, 65535));
  };
  if (const YamlNode* tcp = node.get("tcp")) {
    known_keys(*tcp, {"sport", "dport", "flags", "seq", "ack"});
    ports(*tcp, ir::kProtoTcp);
    if (tcp->get("flags") != nullptr || reply == nullptr) {
      const std::string flags(tcp->get("flags") != nullptr ? tcp->get_text("flags")
                              : out.payload.empty()        ? "S"
                                                           : "PA");
      const auto bits = bpf::parse_tcp_flags(flags);
      if (!bits) fail(*tcp, fmt::format("flags `{}`: letters of S, A, P, F, R, U", flags));
      out.tcp_flags = bits.value_or(0);
    }
    out.sequence = number(*tcp, "seq", 0, UINT32_MAX);
    out.acknowledgement = number(*tcp, "ack", out.acknowledgement, UINT32_MAX);
    number_bytes(out, tcp->get("seq") != nullptr);
  } else if (const YamlNode* udp = node.get("udp")) {
    known_keys(*udp, {"sport", "dport"});
    ports(*udp, ir::kProtoUdp);
  } else if (const YamlNode* sctp = node.get("sctp")) {
    known_keys(*sctp, {"sport", "dport"});
    ports(*sctp, ir::kProtoSctp);
  } else if (const YamlNode* i4 = node.get("icmp")) {
    known_keys(*i4, {"type", "code", "id"});
    icmp(*i4, ir::kProtoIcmp, 8);
  } else if (const YamlNode* i6 = node.get("icmpv6")) {
    known_keys(*i6, {"type", "code", "id"});
    icmp(*i6, ir::kProtoIcmp6, 128);
  } else if (node.get("protocol") != nullptr) {
    out.protocol = static_cast<ir::Protocol>(number(node, "protocol", 0, 255));
  } else if (reply == nullptr) {
    fail(node, "a packet needs one of tcp, udp, sctp, icmp, icmpv6, protocol");
  } else if (out.protocol == ir::kProtoTcp) {
    number_bytes(out, false);
  }
  const bool error = out.protocol == ir::kProtoIcmp || out.protocol == ir::kProtoIcmp6;
  if (quoting != nullptr && !error) fail(*quoting, "only `icmp` and `icmpv6` quote a packet");
  return out;
}

std::vector<std::uint8_t> Reader::frame(const YamlNode& node) {
  if (const YamlNode* hex = node.get("hex")) {
    known_keys(node, {"hex", "repeat"});
    sent_.emplace_back();
    return raw_frame(*hex);
  }
  const bpf::Packet p = packet(node);
  if (!error_.empty()) return {};
  sent_.emplace_back(p);
  std::vector<std::uint8_t> out = bpf::build_frame(p);
  if (const YamlNode* tag = node.get("vlan")) {
    if (tag->is_sequence()) fail(*tag, "one VLAN number from 0 to 4095");
    bpf::add_vlan(out, static_cast<std::uint16_t>(number(node, "vlan", 0, 4095)));
  }
  return out;
}

bpf::Fixture Reader::fixture(const YamlNode& node) {
  bpf::Fixture out;
  next_sequence_.clear();
  sent_.clear();
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
  std::vector<std::size_t> copies;  // of each packet as written
  for (const frontend::YamlRef& p : packets->items) {
    if (!p.node->is_mapping())
      fail(*p.node, "a packet is a mapping, like {from: a, to: b, tcp: …}");
    const std::vector<std::uint8_t> bytes = frame(*p.node);
    constexpr std::uint32_t kMostCopies = 1'000'000;
    copies.push_back(number(*p.node, "repeat", 1, kMostCopies));
    if (copies.back() == 0) fail(*p.node, "`repeat: 0` sends nothing");
    if (out.packets.size() + copies.back() > kMostCopies) {
      fail(*p.node, fmt::format("more than {} packets in one fixture", kMostCopies));
    }
    if (!error_.empty()) return out;
    out.packets.insert(out.packets.end(), copies.back(), {bytes, std::nullopt});
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
  if (expect->items.size() != copies.size()) {
    fail(*expect,
         fmt::format("{} expectations for {} packets", expect->items.size(), copies.size()));
    return out;
  }
  std::size_t at = 0;
  for (std::size_t i = 0; i < copies.size(); ++i) {
    const auto wanted = fate(*expect->items[i].node);
    for (std::size_t n = 0; n < copies[i]; ++n) out.packets[at++].expect = wanted;
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
  for (auto& frame : *frames) {
    out.packets.push_back({std::move(frame.bytes), std::nullopt, frame.time});
  }
  return out;
}

}  // namespace policyc::cli
