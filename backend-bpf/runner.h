// Runs packets through the program of one endpoint: in the kernel (kernel.h), in the interpreter
// (interpreter.h), or whatever else can.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "backend-bpf/event.h"
#include "ir/base/expected.h"
#include "ir/l4.h"
#include "ir/resolved.h"

namespace policyc::bpf {

// What a program did with one packet, as its text reports it in skb->cb.
// Prelude: the user's own filter decided, and the policy was not asked.
enum class Outcome : std::uint8_t { NotSubject = 0, Pass = 1, Drop = 2, Redirect = 3, Prelude = 4 };

struct RunResult {
  std::uint32_t return_code = 0;      // what tc would see: 0 pass, 2 drop
  std::uint32_t mark = 0;             // of the packet, as the program left it
  std::array<std::uint32_t, 5> cb{};  // likewise; the rest says what it means
  Outcome outcome = Outcome::Pass;
  std::uint32_t drop_reason = 0;  // Cilium's number without the sign; 0 if not dropped
  int record = -1;                // verdict record that decided; -1 where the policy was not asked
  std::optional<ir::VerdictRecord> said;  // what that record says
  // Whom the program took the peer for: the number in its own tables; absent where it did not look.
  std::optional<std::uint32_t> identity_number;
  // Likewise in ir::Resolved; absent where its tables number identities otherwise.
  std::optional<ir::IdentityIndex> identity;
  // The verdict is a redirect whose requests the program judges itself, without a proxy.
  bool reads_http = false;
  std::uint32_t nanoseconds = 0;  // mean of one run, where the packet was repeated
  std::vector<Event> events;      // that the program wrote of this packet
};

// Whether the packet ends there: dropped by the verdict, for want of a proxy, or by a prelude
// (TC_ACT_SHOT, TC_ACT_STOLEN).
inline bool stops(const RunResult& result) {
  if (result.outcome == Outcome::Prelude) return result.return_code == 2 || result.return_code == 4;
  return result.outcome == Outcome::Drop || result.return_code != 0;
}

class Runner {
 public:
  virtual ~Runner() = default;
  // `view` and `endpoint` index ir::Resolved. `frame` starts with its Ethernet header. With
  // `repeat` over 1 only the time is of interest.
  virtual Expected<RunResult> run(std::size_t view, std::size_t endpoint, ir::Direction direction,
                                  const std::vector<std::uint8_t>& frame, unsigned repeat) = 0;
};

// "policy" for 133 and so on; the number where it has no name here.
std::string drop_reason_name(std::uint32_t reason);

}  // namespace policyc::bpf
