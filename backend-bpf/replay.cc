#include "backend-bpf/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "backend-bpf/http_stream.h"

namespace policyc::bpf {

std::string_view fate_name(Fate fate) {
  switch (fate) {
    case Fate::Pass:
      return "pass";
    case Fate::Drop:
      return "drop";
    case Fate::Redirect:
      return "redirect";
    case Fate::Refused:
      return "refused";
  }
  return "";
}

// Names as in Cilium's monitor (pkg/monitor/api/drop.go), for the reasons that our programs give.
std::string drop_reason_name(std::uint32_t reason) {
  switch (reason) {
    case 133:
      return "policy: no rule allows it";
    case 134:
      return "invalid packet";
    case 139:
      return "address family not in use";
    case 156:
      return "too many IPv6 extension headers";
    case 157:
      return "later fragment, its ports are not known";
    case 181:
      return "policy: a deny rule";
    case 182:
      return "VLAN tag";
    case 189:
      return "authentication required";
    default:
      return fmt::format("reason {}", reason);
  }
}

namespace {

// Both ends of a connection, in the order of the packet.
using Tuple = std::tuple<ir::IpAddress, std::uint16_t, ir::IpAddress, std::uint16_t, ir::Protocol>;

Tuple tuple_of(const Packet& p) {
  return {p.from, p.source_port, p.to, p.destination_port, p.protocol};
}

Tuple reverse(const Tuple& t) {
  const auto& [from, sport, to, dport, protocol] = t;
  return {to, dport, from, sport, protocol};
}

struct Place {
  std::size_t view = 0;
  std::size_t endpoint = 0;
  std::string name;
};

class Replayer {
 public:
  Replayer(const ir::World& world, const ir::Resolved& resolved, Runner& runner,
           const ReplayOptions& options)
      : world_(world), resolved_(resolved), runner_(runner), options_(options) {
    for (std::size_t v = 0; v < resolved.views.size(); ++v) {
      const ir::NodeView& view = resolved.views[v];
      for (std::size_t e = 0; e < view.endpoints.size(); ++e) {
        for (const std::size_t pod : view.endpoints[e].pods) {
          const ir::Pod& p = world.inventory.pods[pod];
          for (const ir::IpAddress& ip : p.ips) {
            places_[ip] = {v, e, p.ns + "/" + p.name};
            parties_[ip] = ir::PodParty{pod};
          }
        }
        if (!view.endpoints[e].host) continue;
        for (std::size_t n = 0; n < world.inventory.nodes.size(); ++n) {
          if (world.inventory.nodes[n].name != view.node) continue;
          for (const ir::IpAddress& ip : world.inventory.nodes[n].addresses) {
            places_[ip] = {v, e, view.node};
            parties_[ip] = ir::NodeParty{n};
          }
        }
      }
    }
  }

  Expected<PacketResult> run(const ReplayPacket& input);
  void forget_connections() {
    connections_.clear();
    streams_.clear();
  }

 private:
  ir::Party party(const ir::IpAddress& ip) const {
    const auto it = parties_.find(ip);
    return it == parties_.end() ? ir::Party{ir::AddressParty{ip}} : it->second;
  }
  Expected<bool> run_program(const ir::IpAddress& subject, ir::Direction direction,
                             const std::vector<std::uint8_t>& frame, PacketResult& out);
  void compare(const ProgramRun& run, const std::optional<ir::DirectionVerdict>& verdict,
               PacketResult& out) const;
  void proxy(const Packet& packet, const std::string& parser, PacketResult& out);
  void judge_request(const ir::L7Request& request, const std::string& text, PacketResult& out);

  const ir::World& world_;
  const ir::Resolved& resolved_;
  Runner& runner_;
  const ReplayOptions& options_;
  std::map<ir::IpAddress, Place> places_;
  std::map<ir::IpAddress, ir::Party> parties_;
  std::set<Tuple> connections_;  // forwarded or redirected: their replies pass
  std::map<Tuple, HttpStream> streams_;
};

// False where the address is no endpoint.
Expected<bool> Replayer::run_program(const ir::IpAddress& subject, ir::Direction direction,
                                     const std::vector<std::uint8_t>& frame, PacketResult& out) {
  const auto it = places_.find(subject);
  if (it == places_.end()) return false;
  const ir::ResolvedEndpoint& endpoint =
      resolved_.views[it->second.view].endpoints[it->second.endpoint];
  if (!endpoint.error.empty() || !endpoint.depends_on.empty()) {
    out.undecided = fmt::format(
        "no program for {}: {}", it->second.name,
        endpoint.error.empty() ? "it depends on " + endpoint.depends_on.front() : endpoint.error);
    return false;
  }
  auto result =
      runner_.run(it->second.view, it->second.endpoint, direction, frame, options_.repeat);
  if (!result) return Error{result.error()};
  out.programs.push_back({it->second.name, direction, *result});
  return true;
}

void Replayer::compare(const ProgramRun& run, const std::optional<ir::DirectionVerdict>& verdict,
                       PacketResult& out) const {
  const auto say = [&](const std::string& want) {
    if (!out.mismatch.empty()) return;
    out.mismatch = fmt::format(
        "the {} program of {} says {}{}, the policies say {}", ir::direction_name(run.direction),
        run.endpoint,
        run.result.outcome == Outcome::Drop       ? "drop"
        : run.result.outcome == Outcome::Redirect ? "redirect"
                                                  : "pass",
        run.result.drop_reason == 0 ? "" : fmt::format(" ({})", run.result.drop_reason), want);
  };
  if (!verdict) return say("nothing: this is no endpoint");
  const auto record_agrees = [&] {
    const std::optional<ir::VerdictRecord>& said = run.result.said;
    return !said || (said->reason == verdict->reason && said->parser == verdict->parser &&
                     said->auth == verdict->auth);
  };
  const bool authenticate = verdict->auth && verdict->auth->type != ir::AuthType::Disabled;
  switch (verdict->verdict) {
    case ir::VerdictKind::Allow:
    case ir::VerdictKind::Redirect: {
      const bool redirect = verdict->verdict == ir::VerdictKind::Redirect;
      const Outcome want = authenticate ? Outcome::Drop
                           : redirect   ? Outcome::Redirect
                                        : Outcome::Pass;
      if (run.result.outcome != want || (authenticate && run.result.drop_reason != 189)) {
        say(authenticate ? "drop until authenticated" : redirect ? "redirect" : "allow");
      } else if (!record_agrees()) {
        say(fmt::format("{} for another reason ({})", redirect ? "redirect" : "allow",
                        ir::reason_name(verdict->reason)));
      }
      break;
    }
    case ir::VerdictKind::Deny: {
      const std::uint32_t reason = verdict->reason == ir::Reason::PolicyDeny ? 181 : 133;
      if (run.result.outcome != Outcome::Drop || run.result.drop_reason != reason) {
        say(fmt::format("deny ({})", ir::reason_name(verdict->reason)));
      }
      break;
    }
    case ir::VerdictKind::Error:
      say("nothing: the policy cannot be computed");
      break;
    case ir::VerdictKind::Depends:
      say(fmt::format("it depends on {}",
                      verdict->depends_on.empty() ? "?" : verdict->depends_on.front()));
      break;
  }
}

void Replayer::judge_request(const ir::L7Request& request, const std::string& text,
                             PacketResult& out) {
  ir::Flow flow = *out.flow;
  flow.l7 = request;
  const ir::FlowVerdict verdict = ir::evaluate(world_, flow);
  if (verdict.final == ir::VerdictKind::Depends || verdict.final == ir::VerdictKind::Error) {
    out.undecided = fmt::format("the proxy's answer to {} cannot be told from the policies", text);
    return;
  }
  const bool refused = verdict.final == ir::VerdictKind::Deny;
  if (refused && out.fate == Fate::Refused) return;  // the first refusal stands
  out.fate = refused                                      ? Fate::Refused
             : verdict.final == ir::VerdictKind::Redirect ? Fate::Redirect
                                                          : Fate::Pass;
  out.flow = flow;
  for (const auto* half : {&verdict.egress, &verdict.ingress}) {
    if (!*half || !(*half)->l7) continue;
    const bool denies = (*half)->l7->verdict == ir::L7VerdictKind::Deny;
    if (refused != denies) continue;
    out.reason = fmt::format("the proxy {} {}", refused ? "refuses" : "lets pass", text);
    out.rules = (*half)->l7->rules;
    if (out.rules.empty()) out.rules = (*half)->rules;
    break;
  }
}

// The proxy reads what the client sends on a redirected connection.
void Replayer::proxy(const Packet& packet, const std::string& parser, PacketResult& out) {
  if (parser == "dns" && packet.protocol == ir::kProtoUdp) {
    if (const auto name = parse_dns_query(packet.payload)) {
      judge_request(ir::DnsQuery{*name}, "the query for " + *name, out);
    }
    return;
  }
  if (parser != "http" || packet.protocol != ir::kProtoTcp) return;
  HttpStream& stream = streams_[tuple_of(packet)];
  if ((packet.tcp_flags & kSyn) != 0) {
    stream.start(packet.sequence + 1);
    return;
  }
  const std::vector<ir::HttpRequest> requests = stream.add(packet.sequence, packet.payload);
  for (const ir::HttpRequest& request : requests) {
    judge_request(request, request.method + " " + request.path, out);
  }
  if (stream.broken() && requests.empty() && !packet.payload.empty()) {
    out.fate = Fate::Refused;
    out.reason = "the proxy cannot read this as HTTP/1";
  }
}

Expected<PacketResult> Replayer::run(const ReplayPacket& input) {
  PacketResult out;
  const auto parsed = parse_frame(input.frame);
  if (!parsed) {
    out.summary = fmt::format("{} bytes", input.frame.size());
    out.undecided = parsed.error() + ": nobody can tell whose it is";
    return out;
  }
  if (!*parsed) {
    out.summary = fmt::format("{} bytes, no IP", input.frame.size());
    out.reason = "not a matter of network policy";
    return out;
  }
  const Packet& packet = **parsed;
  out.summary = packet.str();
  const bool has_ports = packet.protocol == ir::kProtoTcp || packet.protocol == ir::kProtoUdp ||
                         packet.protocol == ir::kProtoSctp;
  if (has_ports && connections_.count(reverse(tuple_of(packet))) != 0) {
    out.reason = "reply of a connection that was let through";
    return out;
  }
  const auto egress = run_program(packet.from, ir::Direction::Egress, input.frame, out);
  if (!egress) return Error{egress.error()};
  const auto stopped = [&] {
    return !out.programs.empty() && out.programs.back().result.outcome == Outcome::Drop;
  };
  if (!stopped()) {
    const auto ingress = run_program(packet.to, ir::Direction::Ingress, input.frame, out);
    if (!ingress) return Error{ingress.error()};
  }
  if (!out.undecided.empty() && !stopped()) return out;
  out.undecided.clear();  // dropped before it got there
  if (out.programs.empty()) {
    out.reason = "neither side is an endpoint of the input";
    return out;
  }
  // What the programs did.
  const auto did = [&](Outcome outcome) {
    return std::any_of(out.programs.begin(), out.programs.end(),
                       [&](const ProgramRun& r) { return r.result.outcome == outcome; });
  };
  if (did(Outcome::Drop)) {
    out.fate = Fate::Drop;
    out.reason = drop_reason_name(out.programs.back().result.drop_reason);
  } else if (did(Outcome::Redirect)) {
    out.fate = Fate::Redirect;
    out.reason = "handed to the proxy";
  }
  // What the policies say. Packets that are decided before any policy are left out.
  const bool fragmentation_needed =
      packet.protocol == ir::kProtoIcmp && packet.icmp_type == 3 && packet.icmp_code == 4;
  if (packet.vlan || packet.later_fragment || packet.too_many_headers || fragmentation_needed)
    return out;
  ir::Flow flow;
  flow.from = party(packet.from);
  flow.to = party(packet.to);
  flow.protocol = packet.protocol;
  flow.port = packet.policy_port();
  out.flow = flow;
  const ir::FlowVerdict verdict = ir::evaluate(world_, flow);
  std::string parser;  // of the first proxy on the way
  for (const ProgramRun& run : out.programs) {
    const auto& half = run.direction == ir::Direction::Egress ? verdict.egress : verdict.ingress;
    compare(run, half, out);
    if (half && parser.empty()) parser = half->parser;
    const bool decides = out.fate != Fate::Drop || run.result.outcome == Outcome::Drop;
    if (half && decides && !half->rules.empty()) out.rules = half->rules;
    if (out.fate == Fate::Drop && decides && half && half->rules.empty()) {
      out.rules = ir::isolating_rules(world_, flow, run.direction);
    }
  }
  if (out.fate == Fate::Drop) return out;
  if (has_ports) connections_.insert(tuple_of(packet));
  if (out.fate == Fate::Redirect) proxy(packet, parser, out);
  return out;
}

}  // namespace

Expected<std::vector<PacketResult>> replay(const ir::World& world, const ir::Resolved& resolved,
                                           Runner& runner, const std::vector<Fixture>& fixtures,
                                           const ReplayOptions& options) {
  std::vector<PacketResult> out;
  Replayer replayer(world, resolved, runner, options);
  for (const Fixture& fixture : fixtures) {
    replayer.forget_connections();
    for (std::size_t i = 0; i < fixture.packets.size(); ++i) {
      auto result = replayer.run(fixture.packets[i]);
      if (!result) {
        return Error{fmt::format("{} packet {}: {}", fixture.name, i + 1, result.error())};
      }
      result->fixture = fixture.name;
      result->number = i + 1;
      const std::optional<Fate>& expect = fixture.packets[i].expect;
      if (expect && result->undecided.empty() && *expect != result->fate) {
        result->unmet =
            fmt::format("expected {}, got {}", fate_name(*expect), fate_name(result->fate));
      }
      out.push_back(std::move(*result));
    }
  }
  return out;
}

}  // namespace policyc::bpf
