// Symbolic execution of BPF programs: what a tc program does, as terms over the packet, its length,
// the socket buffer's fields and the contents of the maps. Instructions are taken as they stand in
// the object file. Where paths meet, states are merged, so the work grows with the program and not
// with its paths. What is not known here (a helper, a loop, a store to the packet, a pointer that
// cannot be followed) ends the execution with a reason: the caller proves nothing then.
//
// Taken for granted: the meaning of the instructions (RFC 9669; held against the kernel by the
// tests), no map changes while one packet is looked at, packets of at most 65,535 bytes in the
// linear part.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ir/base/expected.h"
#include "ir/bpf/object.h"
#include "verifier/terms.h"

namespace policyc::verify {

// Arrays of Terms::read: byte k of the packet, byte offsets into the value of map k.
inline constexpr unsigned kPacketArray = 0;
inline constexpr unsigned map_array(std::size_t map) {
  return static_cast<unsigned>(map) + 1;
}
// The symbol of the packet's length, 16 bits.
inline constexpr const char* kPacketLength = "length";
// The symbol of a 32-bit field of struct __sk_buff before the program runs.
std::string context_symbol(std::size_t offset);
// The symbol of a map word that other programs or user space write at any time: each time that the
// program reads it, it may be another value.
std::string volatile_symbol(std::size_t map, std::uint64_t offset, unsigned times_read_before);

struct ExecutorOptions {
  // 32-bit words that may change between two reads: (map, byte offset).
  std::vector<std::pair<std::size_t, std::uint64_t>> volatile_words;
  // May name a place by another term that is equal wherever the path condition (a conjunction)
  // holds: `index` is a variable offset of 32 bits into `array`. For the sake of later comparisons.
  // Where it gives nothing, a place that is a choice of two is read as a choice of two reads.
  std::function<std::optional<Term>(const std::vector<Term>& path, unsigned array, Term index)>
      same_place;
  std::size_t max_steps = 200000;  // instructions, calls counted as often as they are made
};

// What an access needs: under `when`, `holds`.
struct Obligation {
  Term when, holds;
  std::string what;  // "instruction 12: r1 = *(u8 *)(r2 + 3)"
};

struct Execution {
  Term result;                          // 32 bits
  std::map<std::size_t, Term> context;  // 32-bit fields that may have been written, by offset
  std::vector<Obligation> obligations;  // beyond what was clear at once
  std::size_t steps = 0;
};

// Offsets in struct __sk_buff (linux/bpf.h).
inline constexpr std::size_t kSkbMark = 8, kSkbVlanPresent = 20, kSkbCb = 48, kSkbData = 76,
                             kSkbDataEnd = 80;

// Errors name the instruction and what is not known of it.
Expected<Execution> execute(Terms& terms, const ebpf::Object& object, const ebpf::Program& program,
                            const ExecutorOptions& options = {});

}  // namespace policyc::verify
