// Replay: packets through the real programs of their endpoints, a proxy model behind them, and the
// reference evaluator beside them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "backend-bpf/packet.h"
#include "backend-bpf/runner.h"
#include "ir/evaluate.h"
#include "ir/resolved.h"

namespace policyc::bpf {

// What becomes of a packet. Refused: the proxy reads the request and answers 403 (DNS: REFUSED).
enum class Fate : std::uint8_t { Pass, Drop, Redirect, Refused };
std::string_view fate_name(Fate fate);  // "pass", "drop", "redirect", "refused"

struct ReplayPacket {
  std::vector<std::uint8_t> frame;
  std::optional<Fate> expect;
  std::optional<std::uint64_t> time = std::nullopt;  // nanoseconds since 1970, where captured
};

// Packets that belong together: connections and replies are followed inside one fixture.
struct Fixture {
  std::string name;
  std::vector<ReplayPacket> packets;
};

// One program that saw the packet.
struct ProgramRun {
  std::string endpoint;             // "default/frontend"
  std::size_t view = 0, index = 0;  // in ir::Resolved
  ir::Direction direction = ir::Direction::Ingress;
  RunResult result;
  std::vector<ir::Origin> rules;  // that decide this direction, by the evaluator
};

// Program and evaluator do not say the same. The evaluator's rules are those of `run`.
struct Mismatch {
  std::size_t run = 0;  // index into PacketResult::programs
  std::string what;     // who says what
  // How the program came to it: the identity that it took the peer for, and its verdict record.
  std::string took;
  std::vector<ir::Origin> took_rules;  // that decide about that identity, by the evaluator
};

struct PacketResult {
  std::string fixture;
  std::size_t number = 0;  // 1-based in its fixture
  std::string summary;     // Packet::str()
  Fate fate = Fate::Pass;
  std::string reason;  // "policy: default deny", "reply", "GET /a allowed", …
  std::vector<ProgramRun> programs;
  std::vector<ir::Origin> rules;  // that decide, by the evaluator
  std::optional<ir::Flow>
      flow;  // as the evaluator was asked; absent where no endpoint is concerned
  // Why nothing can be said: an endpoint on the way has no program, because its policy cannot be
  // computed. `fate` then means nothing, and expectations are not judged.
  std::string undecided;
  bool reply = false;    // of a connection that was let through: no program is asked
  std::string mismatch;  // program and evaluator disagree: Mismatch::what of the first
  std::vector<Mismatch> mismatches;
  std::string unmet;  // the fixture expected something else: what
};

struct ReplayOptions {
  unsigned repeat = 1;
  std::function<void(std::size_t done)> progress = nullptr;  // after each packet, where set
};

// One result for each packet, in order. An error where a program cannot be run at all.
Expected<std::vector<PacketResult>> replay(const ir::World& world, const ir::Resolved& resolved,
                                           Runner& runner, const std::vector<Fixture>& fixtures,
                                           const ReplayOptions& options = {});

}  // namespace policyc::bpf
