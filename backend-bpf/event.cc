#include "backend-bpf/event.h"

#include <cstring>

#include "backend-bpf/runner.h"

namespace policyc::bpf {

std::optional<Event> read_event(std::string_view bytes) {
  EventWire wire{};
  if (bytes.size() != sizeof wire) return std::nullopt;
  std::memcpy(&wire, bytes.data(), sizeof wire);
  const auto kind = static_cast<EventKind>(wire.kind);
  if ((kind != EventKind::Verdict && kind != EventKind::Note) || wire.captured > kEventBytes ||
      wire.direction > 1 || wire.outcome > static_cast<std::uint32_t>(Outcome::Redirect)) {
    return std::nullopt;
  }
  Event out;
  out.time = wire.time;
  out.lost = wire.lost;
  out.kind = kind;
  out.generation = wire.generation;
  out.verdict = wire.verdict;
  out.outcome = wire.outcome;
  out.record = wire.record;
  out.identity = wire.identity;
  out.length = wire.length;
  out.note = wire.note;
  out.ingress = wire.direction == 0;
  out.packet.assign(wire.packet.begin(), wire.packet.begin() + wire.captured);
  return out;
}

}  // namespace policyc::bpf
