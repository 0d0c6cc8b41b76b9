#include "verifier/reach.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace policyc {
namespace {

using ir::Connection;
using ir::GraphParty;
using ir::PortSpan;

std::vector<PortSpan> every_port() {
  std::vector<PortSpan> out;
  for (std::uint32_t c = 0; c < ir::kProtocolClasses; ++c) {
    const auto protocol = ir::class_protocol(static_cast<ir::ProtocolClass>(c));
    const bool has_ports = protocol != ir::kProtoAny;
    out.push_back({protocol, 0, static_cast<std::uint16_t>(has_ports ? 65535 : 0), ""});
  }
  return out;
}

class Decider {
 public:
  Decider(const ir::World& world, const ir::Connectivity& connectivity, const ReachClaim& claim)
      : world_(world), connectivity_(connectivity), claim_(claim) {}

  ReachResult run() {
    for (const GraphParty& a : claim_.from) {
      for (const GraphParty& b : claim_.to) {
        if (a.id == b.id || (!a.subject() && !b.subject())) continue;
        if (a.node != SIZE_MAX && a.node == b.node) continue;  // does not leave the node
        ++out_.pairs;
        pair(a, b);
        if (out_.kind == ReachResult::Kind::Fails) return out_;
      }
    }
    return out_;
  }

 private:
  void unknown(std::string why) {
    if (out_.kind != ReachResult::Kind::Holds) return;
    out_.kind = ReachResult::Kind::Unknown;
    out_.why = std::move(why);
  }

  void fail(const GraphParty& a, const GraphParty& b, ir::Protocol protocol, std::uint16_t port,
            std::optional<ir::HttpRequest> request) {
    ir::Flow flow;
    flow.id = "counterexample";
    flow.from = party_of(a);
    flow.to = party_of(b);
    flow.protocol = protocol;
    flow.port = port;
    if (request) flow.l7 = std::move(*request);
    const ir::VerdictKind said = ir::evaluate(world_, flow).final;
    const bool passes = said == ir::VerdictKind::Allow || said == ir::VerdictKind::Redirect;
    const bool refused = said == ir::VerdictKind::Deny;
    if (claim_.allow ? !refused : !passes) {
      unknown(fmt::format("{} and {} on {}/{}: the evaluator says {}", a.id, b.id,
                          ir::protocol_name(protocol), port, ir::verdict_name(said)));
      return;
    }
    out_.kind = ReachResult::Kind::Fails;
    out_.counterexample = std::move(flow);
    out_.why.clear();
  }

  void pair(const GraphParty& a, const GraphParty& b) {
    for (const GraphParty* p : {&a, &b}) {
      if (!p->unknown.empty()) return unknown(p->id + ": " + p->unknown);
    }
    const ir::Connectivity::Place from = connectivity_.place(a), to = connectivity_.place(b);
    if (const std::string why = ir::Connectivity::open_question(from, to); !why.empty()) {
      return unknown(fmt::format("{} and {}: {}", a.id, b.id, why));
    }
    const Connection c = connectivity_.between(from, to);
    for (const PortSpan& wanted : claim_.ports.empty() ? every_port() : claim_.ports) {
      // Ports of the claim that no span covers are refused.
      std::uint32_t at = wanted.from;
      for (const PortSpan& span : c.spans) {
        if (span.protocol != wanted.protocol || span.to < at || span.from > wanted.to) continue;
        if (claim_.allow && span.from > at) {
          return fail(a, b, wanted.protocol, static_cast<std::uint16_t>(at), request_of_claim());
        }
        const auto port = static_cast<std::uint16_t>(std::max<std::uint32_t>(at, span.from));
        passing(a, b, span, port);
        if (out_.kind == ReachResult::Kind::Fails) return;
        at = std::uint32_t{span.to} + 1;
      }
      if (claim_.allow && at <= wanted.to) {
        return fail(a, b, wanted.protocol, static_cast<std::uint16_t>(at), request_of_claim());
      }
    }
  }

  std::optional<ir::HttpRequest> request_of_claim() const {
    return claim_.requests ? claim_.requests->witness() : std::nullopt;
  }

  // The connection is made; what may be sent over it?
  void passing(const GraphParty& a, const GraphParty& b, const PortSpan& span, std::uint16_t port) {
    if (span.parser.empty()) {
      if (!claim_.allow) fail(a, b, span.protocol, port, request_of_claim());
      return;
    }
    const auto proxies = connectivity_.proxies(connectivity_.place(a), connectivity_.place(b),
                                               ir::l4_key(span.protocol, port));
    if (span.parser != "http") {
      if (claim_.requests) {
        // HTTP to a proxy of another kind passes only where that proxy lets everything pass.
        const auto open = [](const ir::ProxyFilter* f) { return f == nullptr || f->everything; };
        const bool all = open(proxies.egress) && open(proxies.ingress);
        if (all != claim_.allow) fail(a, b, span.protocol, port, request_of_claim());
        return;
      }
      if (!claim_.allow) fail(a, b, span.protocol, port, std::nullopt);
      return;
    }
    if (claim_.allow && !claim_.requests) return;
    const auto egress = RequestLanguage::of(proxies.egress);
    const auto ingress = RequestLanguage::of(proxies.ingress);
    if (!egress || !ingress) return unknown(!egress ? egress.error() : ingress.error());
    const auto both = egress->intersect(*ingress);
    if (!both) return unknown(both.error());
    const RequestLanguage asked =
        claim_.requests ? *claim_.requests : RequestLanguage::everything();
    const auto bad = claim_.allow ? asked.subtract(*both) : both->intersect(asked);
    if (!bad) return unknown(bad.error());
    if (auto request = bad->witness()) fail(a, b, span.protocol, port, std::move(request));
  }

  const ir::World& world_;
  const ir::Connectivity& connectivity_;
  const ReachClaim& claim_;
  ReachResult out_;
};

}  // namespace

ir::Party party_of(const ir::GraphParty& party) {
  if (party.node != SIZE_MAX) return ir::NodeParty{party.node};
  if (party.pod != SIZE_MAX) return ir::PodParty{party.pod};
  if (party.kind == "entity" && !party.id.starts_with("world")) return ir::EntityParty{party.id};
  if (party.kind == "fqdn") return ir::NameParty{party.id};
  return ir::AddressParty{party.address};
}

ReachResult decide(const ir::World& world, const ir::Connectivity& connectivity,
                   const ReachClaim& claim) {
  return Decider(world, connectivity, claim).run();
}

std::vector<Reached> blast_radius(const std::vector<ir::GraphParty>& parties,
                                  const ir::Connectivity& connectivity, std::size_t start,
                                  std::size_t hops) {
  std::vector<Reached> out;
  std::set<std::size_t> seen = {start};
  std::vector<std::size_t> edge = {start};
  for (std::size_t hop = 1; hop <= hops && !edge.empty(); ++hop) {
    std::vector<std::size_t> next;
    for (const std::size_t from : edge) {
      if (!parties[from].subject()) continue;
      for (std::size_t to = 0; to < parties.size(); ++to) {
        if (seen.count(to) != 0 || !parties[to].unknown.empty()) continue;
        const Connection c = connectivity.between(parties[from], parties[to]);
        const bool reached = std::any_of(c.spans.begin(), c.spans.end(), [](const PortSpan& s) {
          return s.protocol == ir::kProtoTcp || s.protocol == ir::kProtoUdp ||
                 s.protocol == ir::kProtoSctp;
        });
        if (!reached) continue;
        seen.insert(to);
        next.push_back(to);
        out.push_back({to, from, hop});
      }
    }
    edge = std::move(next);
  }
  return out;
}

}  // namespace policyc
