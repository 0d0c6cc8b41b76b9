// The emitted C: one generic text, joined from the parts in templates/. What differs between
// programs are table sizes and features; a policy is data.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "backend-bpf/layout.h"

namespace policyc::bpf {

// templates/*.bpf.c as they were at build time, in the order in which they are joined.
extern const char* const kTemplateTables;  // types, numbers, the maps
extern const char* const kTemplateCore;    // address, protocol, port → verdict; tables only
extern const char* const kTemplatePacket;  // headers
extern const char* const kTemplateState;   // connection tracking
extern const char* const kTemplateEvents;  // what `policyc monitor` reads
extern const char* const kTemplateTc;      // the stateless programs
extern const char* const kTemplateWalk;    // the tuple walker

// Names of the programs and maps in the object.
inline constexpr const char* kIngressProgram = "policyc_ingress";
inline constexpr const char* kEgressProgram = "policyc_egress";
inline constexpr const char* kWalkProgram = "policyc_walk";
inline constexpr const char* kNodeMap = ".bss";
inline constexpr const char* kPolicyMap = ".data.policy";
inline constexpr const char* kEventsMap = "events";  // with events
inline constexpr const char* kWalkMap = ".data.walk";

// What a program is made of. Equal specifications give equal text.
struct ProgramSpec {
  SizeClass sizes{};
  bool vlan = false;      // look behind VLAN tags instead of dropping tagged frames
  bool stateful = false;  // track connections: replies and related ICMP errors pass
  bool events = false;    // tell of verdicts through a ring buffer (event.h)
  // C text that stands in front of the programs and defines `int policyc_prelude(struct __sk_buff
  // *skb)`, which sees every packet first: PRELUDE_CONTINUE, or what tc shall do with it. Empty:
  // none. `prelude_file` is what the compiler calls it in messages. It may call
  // `policyc_event(skb, number)`, which does nothing without `events`.
  std::string prelude{}, prelude_file{};
  // C text that stands in front of the programs and defines `int policyc_http(struct __sk_buff
  // *skb, u32 filter, u32 offset)` (the payload's offset), which is asked instead of the proxy
  // where a record names a filter: OUTCOME_PASS, OUTCOME_DROP or OUTCOME_REDIRECT (then it is the
  // proxy's after all). Empty: none.
  std::string http{};
};

// The complete C file.
std::string program_text(const ProgramSpec& spec);

// One question to the core and its answer, as the walker's map holds them (struct tuple).
struct WalkTuple {
  std::array<std::uint8_t, 16> address{};  // the peer, network order; IPv4: the first four bytes
  std::uint8_t family = 4;                 // 4 or 6
  std::uint8_t direction = 0;              // 0 ingress, 1 egress
  std::uint8_t protocol = 0;
  std::uint8_t fragment = 0;
  std::uint32_t port = 0;                                                   // host order
  std::uint32_t outcome = 0, drop = 0, record = 0, identity = 0, cell = 0;  // as in skb->cb
  std::uint32_t reserved = 0;
};
static_assert(sizeof(WalkTuple) == 48);
inline constexpr std::size_t kWalkHeader = 64;  // before the tuples: u32 next, zeros
// A program over the core alone that answers the next of `tuples` (a power of two) questions of its
// map at each run: thousands of verdicts by one test run with a repeat count. For tests.
std::string walker_text(const SizeClass& sizes, std::size_t tuples);

}  // namespace policyc::bpf
