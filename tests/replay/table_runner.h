// A runner that reads the resolved tables: replay without a kernel and without programs.
#pragma once

#include <optional>
#include <vector>

#include "backend-bpf/packet.h"
#include "backend-bpf/runner.h"
#include "ir/resolved.h"

namespace policyc::testing {

class TableRunner : public bpf::Runner {
 public:
  explicit TableRunner(const ir::Resolved& resolved) : resolved_(resolved) {}

  Expected<bpf::RunResult> run(std::size_t view, std::size_t endpoint, ir::Direction direction,
                               const std::vector<std::uint8_t>& frame, unsigned) override {
    const auto packet = bpf::parse_frame(frame);
    const ir::NodeView& v = resolved_.views[view];
    const ir::ResolvedEndpoint& ep = v.endpoints[endpoint];
    const bool ingress = direction == ir::Direction::Ingress;
    const auto& table = ingress ? *ep.ingress : *ep.egress;
    const ir::IpAddress& peer = ingress ? (*packet)->from : (*packet)->to;
    const ir::IdentityIndex identity = takes_everybody_for.value_or(v.identity_of(peer));
    const auto& r = table.lookup(identity, (*packet)->protocol, (*packet)->policy_port());
    bpf::RunResult out;
    out.identity = identity;
    out.said = r;
    out.outcome = r.verdict == ir::VerdictKind::Allow      ? bpf::Outcome::Pass
                  : r.verdict == ir::VerdictKind::Redirect ? bpf::Outcome::Redirect
                                                           : bpf::Outcome::Drop;
    if (lie && out.outcome == bpf::Outcome::Drop) out.outcome = bpf::Outcome::Pass;
    if (out.outcome == bpf::Outcome::Drop) {
      out.drop_reason = r.reason == ir::Reason::PolicyDeny ? 181 : 133;
    }
    return out;
  }

  bool lie = false;  // passes what it should drop
  std::optional<ir::IdentityIndex> takes_everybody_for;

 private:
  const ir::Resolved& resolved_;
};

}  // namespace policyc::testing
