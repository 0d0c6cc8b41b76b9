#include "cli/hubble.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <nlohmann/json.hpp>

#include "cli/flows.h"

namespace policyc::cli {

using nlohmann::ordered_json;

std::string_view hubble_drop_reason(std::uint32_t reason) {
  switch (reason) {
    case 133:
      return "POLICY_DENIED";
    case 134:
      return "INVALID_PACKET_DROPPED";
    case 135:
      return "CT_TRUNCATED_OR_INVALID_HEADER";
    case 137:
      return "CT_UNKNOWN_L4_PROTOCOL";
    case 139:
      return "UNSUPPORTED_L3_PROTOCOL";
    case 142:
      return "UNKNOWN_L4_PROTOCOL";
    case 155:
      return "CT_MAP_INSERTION_FAILED";
    case 156:
      return "INVALID_IPV6_EXTENSION_HEADER";
    case 157:
      return "IP_FRAGMENTATION_NOT_SUPPORTED";
    case 175:
      return "FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND";
    case 181:
      return "POLICY_DENY";
    case 182:
      return "VLAN_FILTERED";
    case 189:
      return "AUTH_REQUIRED";
    default:
      return "";
  }
}

namespace {

// Numbers of Cilium's monitor messages (pkg/monitor/api/types.go).
constexpr int kMessageDrop = 1, kMessageTrace = 4, kMessagePolicyVerdict = 5, kMessageL7 = 129;

// policy_match_type (pkg/monitor/datapath_policy.go).
enum MatchType { kNone = 0, kL3Only, kL3L4, kL4Only, kAll, kL3Proto, kProtoOnly };

// The longest entry that covers (protocol, port), as in the policy map.
struct Hit {
  int length = -1;  // 0 any protocol, 8 any port, 8 + n; -1 where there is none
  bool deny = false;
  int priority = 0;
};

Hit longest(const ir::PolicyTable& table, const std::vector<ir::PolicyTable::Entry>& entries,
            ir::Protocol protocol, std::uint16_t port) {
  Hit best;
  for (const ir::PolicyTable::Entry& e : entries) {
    const bool any = e.protocol == ir::kProtoAny;
    const bool covers =
        any || (e.protocol == protocol && port >= e.block.port && port <= e.block.last());
    const int length = any ? 0 : 8 + e.block.length;
    if (!covers || length <= best.length) continue;
    const ir::VerdictRecord& record = table.records[e.record];
    best = {length, record.verdict == ir::VerdictKind::Deny, record.priority};
  }
  return best;
}

// Which entry of Cilium's policy map decides: that of the peer's identity, or that of anybody
// (bpf/lib/policy.h, __policy_can_access).
MatchType match_type(const ir::PolicyTable& table, ir::IdentityIndex identity,
                     ir::Protocol protocol, std::uint16_t port) {
  if (identity >= table.class_of.size()) return kNone;
  const Hit l3 = longest(table, table.class_entries[table.class_of[identity]], protocol, port);
  const Hit l4 = longest(table, table.wildcard_entries, protocol, port);
  if (l3.length < 0 && l4.length < 0) return kNone;
  const bool by_l4 = !l3.deny && l4.length >= 0 &&
                     (l3.length < 0 || l4.deny || l4.priority > l3.priority ||
                      (l4.priority == l3.priority && l4.length > l3.length));
  if (!by_l4) return l3.length > 8 ? kL3L4 : l3.length > 0 ? kL3Proto : kL3Only;
  return l4.length == 0 ? kAll : l4.length <= 8 ? kProtoOnly : kL4Only;
}

std::string mac(const std::vector<std::uint8_t>& frame, std::size_t at) {
  std::string out;
  for (std::size_t i = 0; i < 6; ++i)
    out += fmt::format("{}{:02x}", i == 0 ? "" : ":", frame[at + i]);
  return out;
}

// "2026-11-21T12:00:00.000000000Z"
std::string time_text(std::uint64_t nanoseconds) {
  const auto seconds = static_cast<std::time_t>(nanoseconds / 1'000'000'000U);
  std::tm tm{};
  gmtime_r(&seconds, &tm);
  std::array<char, 32> text{};
  const std::size_t size = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &tm);
  return fmt::format("{}.{:09}Z", std::string_view(text.data(), size),
                     nanoseconds % 1'000'000'000U);
}

}  // namespace

class LineWriter {
 public:
  LineWriter(const HubbleWriter& all, const bpf::ReplayPacket& packet,
             const bpf::PacketResult& result, const bpf::Packet& parsed)
      : all_(all),
        world_(all.world_),
        resolved_(all.resolved_),
        packet_(packet),
        result_(result),
        parsed_(parsed) {}

  ordered_json of_program(const bpf::ProgramRun& run) const;
  ordered_json of_proxy() const;
  ordered_json of_reply() const;

 private:
  ordered_json begin(const char* verdict, std::uint32_t drop, std::size_t view) const;
  ordered_json endpoint(const ir::IpAddress& ip, std::size_t view) const;
  ordered_json layer4(std::string& summary) const;
  ordered_json policies(const std::vector<ir::Origin>& rules) const;
  ordered_json line(ordered_json flow, std::size_t view) const;

  const HubbleWriter& all_;
  const ir::World& world_;
  const ir::Resolved& resolved_;
  const bpf::ReplayPacket& packet_;
  const bpf::PacketResult& result_;
  const bpf::Packet& parsed_;
};

ordered_json LineWriter::endpoint(const ir::IpAddress& ip, std::size_t view) const {
  const ir::NodeView& v = resolved_.views[view];
  const ir::Identity& identity = resolved_.identities[v.identity_of(ip)];
  ordered_json out = {{"identity", identity.number}};
  const auto found = all_.pods_.find(ip);
  const ir::Pod* pod = found == all_.pods_.end() ? nullptr : found->second;
  out["cluster_name"] = world_.settings.cluster_name;
  if (pod != nullptr) out["namespace"] = pod->ns;
  out["labels"] = ordered_json::array();
  for (const ir::Label& l : identity.labels.labels()) {
    out["labels"].push_back(l.value.empty() ? l.source + ":" + l.key
                                            : l.source + ":" + l.key + "=" + l.value);
  }
  if (pod == nullptr) return out;
  out["pod_name"] = pod->name;
  if (pod->kind != "Pod") out["workloads"] = {{{"name", pod->name}, {"kind", pod->kind}}};
  return out;
}

ordered_json LineWriter::layer4(std::string& summary) const {
  const auto ports = [&] {
    return ordered_json{{"source_port", parsed_.source_port},
                        {"destination_port", parsed_.destination_port}};
  };
  switch (parsed_.protocol) {
    case ir::kProtoTcp: {
      ordered_json tcp = ports();
      std::string flags;
      for (const auto& [bit, name] : {std::pair{bpf::kFin, "FIN"},
                                      {bpf::kSyn, "SYN"},
                                      {bpf::kRst, "RST"},
                                      {bpf::kPsh, "PSH"},
                                      {bpf::kAck, "ACK"},
                                      {bpf::kUrg, "URG"}}) {
        if ((parsed_.tcp_flags & bit) == 0) continue;
        tcp["flags"][name] = true;
        flags += (flags.empty() ? "" : ", ") + std::string(name);
      }
      summary = "TCP Flags: " + flags;
      return {{"TCP", tcp}};
    }
    case ir::kProtoUdp:
      summary = "UDP";
      return {{"UDP", ports()}};
    case ir::kProtoSctp:
      summary = "SCTP";
      return {{"SCTP", ports()}};
    case ir::kProtoIcmp:
    case ir::kProtoIcmp6: {
      const char* name = parsed_.protocol == ir::kProtoIcmp ? "ICMPv4" : "ICMPv6";
      summary = fmt::format("{} type {} code {}", name, parsed_.icmp_type, parsed_.icmp_code);
      return {{name, {{"type", parsed_.icmp_type}, {"code", parsed_.icmp_code}}}};
    }
    default:
      summary = fmt::format("protocol {}", parsed_.protocol);
      return ordered_json::object();
  }
}

ordered_json LineWriter::policies(const std::vector<ir::Origin>& rules) const {
  ordered_json out = ordered_json::array();
  for (const ir::Origin& o : rules) {
    const auto& ref = world_.policies.policies[o.policy].ref;
    ordered_json policy = {{"name", ref.name}};
    if (!ref.ns.empty()) policy["namespace"] = ref.ns;
    policy["kind"] = ref.kind;
    if (std::find(out.begin(), out.end(), policy) == out.end()) out.push_back(policy);
  }
  return out;
}

ordered_json LineWriter::begin(const char* verdict, std::uint32_t drop, std::size_t view) const {
  const bool v4 = parsed_.from.family == ir::Family::V4;
  ordered_json out;
  if (packet_.time) out["time"] = time_text(*packet_.time);
  out["verdict"] = verdict;
  if (drop != 0) out["drop_reason"] = drop;
  out["ethernet"] = {{"source", mac(packet_.frame, 6)}, {"destination", mac(packet_.frame, 0)}};
  out["IP"] = {{"source", parsed_.from.str()},
               {"destination", parsed_.to.str()},
               {"ipVersion", v4 ? "IPv4" : "IPv6"}};
  std::string summary;
  out["l4"] = layer4(summary);
  out["source"] = endpoint(parsed_.from, view);
  out["destination"] = endpoint(parsed_.to, view);
  out["Type"] = "L3_L4";
  if (resolved_.views[view].node != "-") out["node_name"] = resolved_.views[view].node;
  out["Summary"] = summary;
  return out;
}

ordered_json LineWriter::line(ordered_json flow, std::size_t view) const {
  ordered_json out;
  out["flow"] = std::move(flow);
  if (resolved_.views[view].node != "-") out["node_name"] = resolved_.views[view].node;
  if (packet_.time) out["time"] = time_text(*packet_.time);
  return out;
}

ordered_json LineWriter::of_program(const bpf::ProgramRun& run) const {
  const bool ingress = run.direction == ir::Direction::Ingress;
  const bpf::RunResult& r = run.result;
  const bool dropped = r.outcome == bpf::Outcome::Drop;
  ordered_json out = begin(dropped                               ? "DROPPED"
                           : r.outcome == bpf::Outcome::Redirect ? "REDIRECTED"
                                                                 : "FORWARDED",
                           r.drop_reason, run.view);
  const bool judged = r.said.has_value();
  out["event_type"] = {{"type", judged    ? kMessagePolicyVerdict
                                : dropped ? kMessageDrop
                                          : kMessageTrace}};
  if (dropped && !judged) out["event_type"]["sub_type"] = r.drop_reason;
  out["traffic_direction"] = ingress ? "INGRESS" : "EGRESS";
  if (judged) {
    const ir::NodeView& view = resolved_.views[run.view];
    const ir::ResolvedEndpoint& endpoint = view.endpoints[run.index];
    out["policy_match_type"] = match_type(ingress ? *endpoint.ingress : *endpoint.egress,
                                          view.identity_of(ingress ? parsed_.from : parsed_.to),
                                          parsed_.protocol, parsed_.policy_port());
  }
  if (dropped) out["drop_reason_desc"] = hubble_drop_reason(r.drop_reason);
  out["is_reply"] = false;
  if (judged && !run.rules.empty()) {
    out[fmt::format("{}_{}_by", ir::direction_name(run.direction),
                    dropped ? "denied" : "allowed")] = policies(run.rules);
  }
  return line(std::move(out), run.view);
}

// What the proxy said of the request that this packet completes.
ordered_json LineWriter::of_proxy() const {
  const bpf::ProgramRun& run = result_.programs.back();
  const bool refused = result_.fate == bpf::Fate::Refused;
  ordered_json out = begin(refused ? "DROPPED" : "FORWARDED", 0, run.view);
  out["Type"] = "L7";
  out["event_type"] = {{"type", kMessageL7}};
  out["traffic_direction"] = run.direction == ir::Direction::Ingress ? "INGRESS" : "EGRESS";
  out["is_reply"] = false;
  out["l7"] = {{"type", "REQUEST"}};
  if (const auto* http = std::get_if<ir::HttpRequest>(&result_.flow->l7)) {
    ordered_json h = {{"method", http->method}, {"url", "http://" + http->host + http->path}};
    h["headers"] = ordered_json::array();
    for (const auto& [key, value] : http->headers)
      h["headers"].push_back({{"key", key}, {"value", value}});
    out["l7"]["http"] = h;
    out["Summary"] = "HTTP " + http->method + " " + http->path;
  } else if (const auto* dns = std::get_if<ir::DnsQuery>(&result_.flow->l7)) {
    out["l7"]["dns"] = {{"query", dns->name + "."}};
    out["Summary"] = "DNS query " + dns->name + ".";
  }
  return line(std::move(out), run.view);
}

ordered_json LineWriter::of_reply() const {
  const auto receiver = all_.view_of_.find(parsed_.to);
  const std::size_t view = receiver == all_.view_of_.end() ? 0 : receiver->second;
  ordered_json out = begin("FORWARDED", 0, view);
  out["event_type"] = {{"type", kMessageTrace}};
  out["is_reply"] = true;
  return line(std::move(out), view);
}

HubbleWriter::HubbleWriter(const ir::World& world, const ir::Resolved& resolved)
    : world_(world), resolved_(resolved) {
  for (const ir::Pod& pod : world.inventory.pods) {
    for (const ir::IpAddress& ip : pod.ips) {
      if (!pod.host_network) pods_[ip] = &pod;
    }
  }
  for (std::size_t v = 0; v < resolved.views.size(); ++v) {
    for (const ir::ResolvedEndpoint& e : resolved.views[v].endpoints) {
      for (const std::size_t pod : e.pods) {
        for (const ir::IpAddress& ip : world.inventory.pods[pod].ips) view_of_[ip] = v;
      }
    }
  }
}

std::vector<ordered_json> HubbleWriter::lines(const bpf::ReplayPacket& packet,
                                              const bpf::PacketResult& result) const {
  const auto parsed = bpf::parse_frame(packet.frame);
  if (!parsed || !*parsed || resolved_.views.empty()) return {};
  const LineWriter writer(*this, packet, result, **parsed);
  if (result.reply) return {writer.of_reply()};
  std::vector<ordered_json> out;
  for (const bpf::ProgramRun& run : result.programs) out.push_back(writer.of_program(run));
  if (result.flow && result.flow->l7.index() != 0) out.push_back(writer.of_proxy());
  return out;
}

}  // namespace policyc::cli
