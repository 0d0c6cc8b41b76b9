// What programs of `compile --events` put into their ring buffer (templates/events.bpf.c says the
// same for them): one entry for each packet that does not pass, that opens a flow, or whose request
// the program read itself; and what a prelude notes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace policyc::bpf {

inline constexpr std::size_t kEventBytes = 256;  // of a packet, at most

// As it lies in the ring. Every number in the machine's order.
struct EventWire {
  std::uint64_t time;  // ns since the machine started
  std::uint64_t lost;  // events so far for which there was no room
  std::uint32_t kind;  // EventKind
  std::uint32_t generation;
  std::int32_t verdict;
  std::uint32_t outcome;   // Outcome
  std::uint32_t record;    // as in skb->cb (layout.h)
  std::uint32_t identity;  // likewise
  std::uint32_t length;    // of the packet
  std::uint32_t captured;  // bytes of it in `packet`
  std::uint32_t note;
  std::uint32_t direction;  // 0 ingress, 1 egress
  std::array<std::uint8_t, kEventBytes> packet;
};
static_assert(sizeof(EventWire) == 56 + kEventBytes);

// Verdict has the number of Cilium's message of that name (pkg/monitor/api/types.go).
enum class EventKind : std::uint32_t { Verdict = 5, Note = 128 };

struct Event {
  std::uint64_t time = 0, lost = 0;
  EventKind kind = EventKind::Verdict;
  std::uint32_t generation = 0;  // of the tables that were asked
  // 0: passes, above: to the proxy at this port, below: a drop reason; as in Cilium's notification.
  std::int32_t verdict = 0;
  std::uint32_t outcome = 0, record = 0, identity = 0;
  std::uint32_t length = 0;  // of the packet, which may be longer than what was kept
  std::uint32_t note = 0;    // the prelude's number
  bool ingress = true;
  std::vector<std::uint8_t> packet;  // from its Ethernet header on, up to kEventBytes
};

// nullopt: not written by our programs. Any bytes are safe to read.
std::optional<Event> read_event(std::string_view bytes);

}  // namespace policyc::bpf
