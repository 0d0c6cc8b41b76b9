#include "backend-bpf/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "backend-bpf/http_stream.h"
#include "backend-bpf/judge.h"

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
      return "later fragment, and no rule allows its protocol on every port";
    case 175:
      return "later fragment, and its first was not seen";
    case 178:
      return "left to a proxy, and there is none";
    case 181:
      return "policy: a deny rule";
    case 182:
      return "VLAN tag";
    case 189:
      return "authentication required";
    case 203:
      return "the tables were never filled";
    default:
      return fmt::format("reason {}", reason);
  }
}

namespace {

// Both ends of a connection, in the order of the packet. Echo requests and their replies carry
// their id instead of ports.
using Tuple = std::tuple<ir::IpAddress, std::uint16_t, ir::IpAddress, std::uint16_t, ir::Protocol>;

bool is_icmp(const Packet& p) {
  return p.protocol == ir::kProtoIcmp || p.protocol == ir::kProtoIcmp6;
}

Tuple tuple_of(const Packet& p) {
  if (is_icmp(p)) return {p.from, p.icmp_id, p.to, p.icmp_id, p.protocol};
  return {p.from, p.source_port, p.to, p.destination_port, p.protocol};
}

bool is_echo_request(const Packet& p) {
  return p.protocol == ir::kProtoIcmp ? p.icmp_type == 8
                                      : p.protocol == ir::kProtoIcmp6 && p.icmp_type == 128;
}

bool is_echo_reply(const Packet& p) {
  return p.protocol == ir::kProtoIcmp ? p.icmp_type == 0
                                      : p.protocol == ir::kProtoIcmp6 && p.icmp_type == 129;
}

bool has_ports(const Packet& p) {
  return !p.later_fragment && !p.too_many_headers &&
         (p.protocol == ir::kProtoTcp || p.protocol == ir::kProtoUdp ||
          p.protocol == ir::kProtoSctp);
}

Tuple reverse(const Tuple& t) {
  const auto& [from, sport, to, dport, protocol] = t;
  return {to, dport, from, sport, protocol};
}

class Replayer {
 public:
  Replayer(const ir::World& world, const ir::Resolved& resolved, Runner& runner,
           const ReplayOptions& options)
      : world_(world),
        resolved_(resolved),
        runner_(runner),
        options_(options),
        judge_(world, resolved) {}

  Expected<PacketResult> run(const ReplayPacket& input);
  void forget_connections() {
    connections_.clear();
    streams_.clear();
  }

 private:
  Expected<bool> run_program(const ir::IpAddress& subject, ir::Direction direction,
                             const std::vector<std::uint8_t>& frame, PacketResult& out);
  std::string why_passed(const Packet& packet) const;
  void compare(std::size_t number, const std::optional<ir::DirectionVerdict>& verdict,
               const Packet& packet, PacketResult& out);
  std::string compare_request(const ProgramRun& run, const Packet& packet);
  void explain(Mismatch& mismatch, const Packet& packet, const ProgramRun& run);
  void proxy(const Packet& packet, const std::string& parser, PacketResult& out);
  void judge_request(const ir::L7Request& request, const std::string& text, PacketResult& out);

  const ir::World& world_;
  const ir::Resolved& resolved_;
  Runner& runner_;
  const ReplayOptions& options_;
  Judge judge_;
  std::set<Tuple> connections_;  // forwarded or redirected: their replies pass
  std::map<Tuple, HttpStream> streams_;
};

// False where the address is no endpoint.
Expected<bool> Replayer::run_program(const ir::IpAddress& subject, ir::Direction direction,
                                     const std::vector<std::uint8_t>& frame, PacketResult& out) {
  const Judge::Place* place = judge_.place(subject);
  if (place == nullptr) return false;
  const ir::ResolvedEndpoint& endpoint = resolved_.views[place->view].endpoints[place->endpoint];
  if (!endpoint.error.empty() || !endpoint.depends_on.empty()) {
    out.undecided = fmt::format(
        "no program for {}: {}", place->name,
        endpoint.error.empty() ? "it depends on " + endpoint.depends_on.front() : endpoint.error);
    return false;
  }
  auto result = runner_.run(place->view, place->endpoint, direction, frame, options_.repeat);
  if (!result) return result.failure();
  out.programs.push_back({place->name, place->view, place->endpoint, direction, *result, {}});
  return true;
}

// What the program went by: the identity that it took the peer for, and what it read of it.
void Replayer::explain(Mismatch& mismatch, const Packet& packet, const ProgramRun& run) {
  const auto table = [&] {
    const auto& said = run.result.said;
    return said ? fmt::format("; its table says {} ({})", ir::verdict_name(said->verdict),
                              ir::reason_name(said->reason))
                : "";
  };
  if (!run.result.identity || *run.result.identity >= resolved_.identities.size()) {
    mismatch.took =
        run.result.identity_number
            ? fmt::format(
                  "the program took the peer for identity {} of its own tables{}; they were "
                  "compiled from another input than this one",
                  *run.result.identity_number, table())
            : "the program did not look the peer up";
    return;
  }
  const bool ingress = run.direction == ir::Direction::Ingress;
  const ir::IdentityIndex took = *run.result.identity;
  const ir::NodeView& view = resolved_.views[run.view];
  const ir::IdentityIndex right = view.identity_of(ingress ? packet.from : packet.to);
  const auto text = [&](ir::IdentityIndex i) {
    return fmt::format("{} ({})", resolved_.identities[i].number,
                       resolved_.identities[i].labels.str());
  };
  mismatch.took = "the program took the peer for identity " + text(took);
  if (took != right) mismatch.took += ", which is " + text(right);
  mismatch.took += table();
  const ir::ResolvedEndpoint& endpoint = view.endpoints[run.index];
  const ir::VerdictRecord& now = (ingress ? endpoint.ingress : endpoint.egress)
                                     ->lookup(took, packet.protocol, packet.policy_port());
  if (run.result.said && *run.result.said != now) {
    // No rule of these policies is the program's.
    mismatch.took += "; it was compiled from other policies than these";
    return;
  }
  for (const auto& [prefix, identity] : view.ipcache) {
    if (identity != took || prefix.address.family != packet.from.family) continue;
    // Somebody of that identity, in the peer's place.
    Packet theirs = packet;
    (ingress ? theirs.from : theirs.to) = prefix.address;
    mismatch.took_rules = judge_.judge(theirs).rules(run.direction);
    return;
  }
}

// A program that reads requests itself. What it must have said where it said something else; it may
// always leave a payload undecided.
std::string Replayer::compare_request(const ProgramRun& run, const Packet& packet) {
  const Outcome said = run.result.outcome;
  if (packet.payload.empty()) return said == Outcome::Pass ? "" : "allow: it carries no request";
  if (said == Outcome::Redirect) return "";
  const std::string head(packet.payload.begin(), packet.payload.end());
  const bool whole = head.ends_with("\r\n\r\n");
  const auto request =
      whole ? parse_http_head(std::string_view(head).substr(0, head.size() - 4)) : std::nullopt;
  if (!request) return "nothing: it is no request head";
  ir::Flow flow = judge_.judge(packet).flow;
  flow.l7 = *request;
  const ir::FlowVerdict verdict = ir::evaluate(world_, flow);
  const auto& half = run.direction == ir::Direction::Egress ? verdict.egress : verdict.ingress;
  const bool allowed = half && half->l7 && half->l7->verdict == ir::L7VerdictKind::Allow;
  if (allowed == (said == Outcome::Pass)) return "";
  return fmt::format("{} {} {}", allowed ? "allow" : "refuse", request->method, request->path);
}

void Replayer::compare(std::size_t number, const std::optional<ir::DirectionVerdict>& verdict,
                       const Packet& packet, PacketResult& out) {
  const ProgramRun& run = out.programs[number];
  const auto say = [&](const std::string& want) {
    Mismatch mismatch;
    mismatch.run = number;
    mismatch.what = fmt::format(
        "the {} program of {} says {}{}, the policies say {}", ir::direction_name(run.direction),
        run.endpoint,
        run.result.outcome == Outcome::Drop       ? "drop"
        : run.result.outcome == Outcome::Redirect ? "redirect"
                                                  : "pass",
        run.result.drop_reason == 0 ? "" : fmt::format(" ({})", run.result.drop_reason), want);
    explain(mismatch, packet, run);
    if (out.mismatch.empty()) out.mismatch = mismatch.what;
    out.mismatches.push_back(std::move(mismatch));
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
      if (redirect && !authenticate && run.result.reads_http) {
        if (const std::string want = compare_request(run, packet); !want.empty()) say(want);
        break;
      }
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
      // No mismatch: the tables know only what the input did.
      out.undecided = fmt::format("what the policies say in {} depends on {}; the program says {}",
                                  ir::direction_name(run.direction),
                                  verdict->depends_on.empty() ? "?" : verdict->depends_on.front(),
                                  run.result.outcome == Outcome::Drop ? "drop" : "pass");
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

// Packets that belong to a connection that was let through pass without asking the policy: replies,
// and errors about it. Empty for all others.
std::string Replayer::why_passed(const Packet& packet) const {
  const bool may_reply = has_ports(packet) || is_echo_reply(packet);
  if (may_reply && connections_.count(reverse(tuple_of(packet))) != 0) {
    return "reply of a connection that was let through";
  }
  if (const auto quoted = quoted_packet(packet)) {
    const Tuple tuple = tuple_of(*quoted);
    if (connections_.count(tuple) != 0 || connections_.count(reverse(tuple)) != 0) {
      return "error about a connection that was let through";
    }
  }
  return "";
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
  out.reason = why_passed(packet);
  if (!out.reason.empty()) {
    out.reply = true;
    return out;
  }
  const auto egress = run_program(packet.from, ir::Direction::Egress, input.frame, out);
  if (!egress) return egress.failure();
  const auto stopped = [&] { return !out.programs.empty() && stops(out.programs.back().result); };
  if (!stopped()) {
    const auto ingress = run_program(packet.to, ir::Direction::Ingress, input.frame, out);
    if (!ingress) return ingress.failure();
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
  const RunResult& last = out.programs.back().result;
  if (last.outcome == Outcome::Prelude) {
    out.reason = fmt::format("by the prelude, which returns {}",
                             static_cast<std::int32_t>(last.return_code));
  }
  if (stops(last)) {
    out.fate = Fate::Drop;
    if (last.outcome == Outcome::Drop) {
      out.reason =
          last.reads_http ? "no rule allows the request" : drop_reason_name(last.drop_reason);
    } else if (last.outcome == Outcome::Redirect) {
      out.reason = "left to a proxy, and there is none";
    }
  } else if (did(Outcome::Redirect)) {
    out.fate = Fate::Redirect;
    out.reason = "handed to the proxy";
  }
  // What the policies say. Packets that are decided before any policy are left out.
  const bool fragmentation_needed =
      packet.protocol == ir::kProtoIcmp && packet.icmp_type == 3 && packet.icmp_code == 4;
  if (packet.vlan || packet.later_fragment || packet.too_many_headers || fragmentation_needed)
    return out;
  const Judge::Judged& judged = judge_.judge(packet);
  out.flow = judged.flow;
  std::string parser;  // of the first proxy on the way
  for (std::size_t i = 0; i < out.programs.size(); ++i) {
    ProgramRun& run = out.programs[i];
    const bool egress_half = run.direction == ir::Direction::Egress;
    const auto& half = egress_half ? judged.verdict.egress : judged.verdict.ingress;
    if (run.result.outcome == Outcome::Prelude) continue;  // nobody's policy
    run.rules = judged.rules(run.direction);
    compare(i, half, packet, out);
    if (half && parser.empty()) parser = half->parser;
    const bool decides = out.fate != Fate::Drop || stops(run.result);
    if (decides && !run.rules.empty()) out.rules = run.rules;
  }
  if (out.fate == Fate::Drop) return out;
  if (has_ports(packet) || is_echo_request(packet)) connections_.insert(tuple_of(packet));
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
        return result.failure().at(fmt::format("{} packet {}", fixture.name, i + 1));
      }
      result->fixture = fixture.name;
      result->number = i + 1;
      const std::optional<Fate>& expect = fixture.packets[i].expect;
      if (expect && result->undecided.empty() && *expect != result->fate) {
        result->unmet =
            fmt::format("expected {}, got {}", fate_name(*expect), fate_name(result->fate));
      }
      out.push_back(std::move(*result));
      if (options.progress) options.progress(out.size());
    }
  }
  return out;
}

}  // namespace policyc::bpf
