// Symbolic execution of BPF programs: what a tc program does, as terms over the packet, its length,
// the socket buffer's fields and the contents of the maps. Instructions are taken as they stand in
// the object file. Where paths meet, states are merged, so the work grows with the program and not
// with its paths. What is not known here (a helper, a loop, a store to the packet, a pointer that
// cannot be followed) ends the execution with a reason: the caller proves nothing then.
//
// Helpers: look-ups and updates of maps with keys, the clock, and bpf_skb_pull_data, where the
// caller names them; others end the execution.
//
// Taken for granted: the meaning of the instructions (RFC 9669; held against the kernel by the
// tests) and of the helpers (linux/bpf.h), no map changes while one packet is looked at (nor does
// anybody else write to the entries that it found), packets of at most 65,535 bytes in the linear
// part; bpf_skb_pull_data leaves a linear part of some length between the old one and the
// packet's, and moves no byte of it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
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
// The symbols of the packet's linear length, 16 bits: at the start, and behind bpf_skb_pull_data.
// With ExecutorOptions::gathered_at kPacketLength is that from there on, and kFirstLength that at
// the start.
inline constexpr const char* kPacketLength = "length";
inline constexpr const char* kPulledLength = "length, pulled";
inline constexpr const char* kFirstLength = "length, at first";
// The symbol of a 32-bit field of struct __sk_buff before the program runs.
std::string context_symbol(std::size_t offset);
// The symbol of a map word that other programs or user space write at any time: each time that the
// program reads it, it may be another value. 32 bits.
std::string volatile_symbol(std::size_t map, std::uint64_t offset, unsigned times_read_before);

// What a register or a place that the program wrote holds.
struct BpfValue {
  enum class Kind : std::uint8_t {
    Nothing,  // never written, or of two kinds after paths met: not to be read
    Number,
    Context,
    Packet,
    PacketEnd,
    Stack,     // `which`: frame
    MapValue,  // `which`: map
    Map,       // `which`: map; what helpers are given
    Memory,    // `which`: an entry of a map; null unless `there`
  };
  Kind kind = Kind::Nothing;
  std::size_t which = 0;
  Term term;     // number of 64 bits, or byte offset of 64 bits
  Term there{};  // of Memory: 1 bit

  bool pointer() const { return kind != Kind::Nothing && kind != Kind::Number; }
  bool same_place(const BpfValue& o) const { return kind == o.kind && which == o.which; }
  friend bool operator==(const BpfValue&, const BpfValue&) = default;
};

// A byte of what the program writes: byte `index` of what was stored there.
struct BpfStackByte {
  BpfValue whole;
  unsigned index = 0;
  friend bool operator==(const BpfStackByte&, const BpfStackByte&) = default;
};
using BpfStack = std::map<std::int64_t, BpfStackByte>;  // by offset; in frames below 0

// Where an execution stands.
struct BpfState {
  std::vector<Term> path;  // the path condition is the conjunction
  BpfValue regs[ebpf::kRegisters];
  std::vector<BpfStack> stacks;  // one for each active frame
  std::map<std::size_t, BpfStack> memory;
  Term length;                          // of the packet's linear part, 64 bits
  bool pulled = false;                  // on some path that leads here
  std::map<std::size_t, Term> context;  // fields written so far
  std::map<std::pair<std::size_t, std::uint64_t>, unsigned> volatile_reads;
  std::map<int, unsigned> calls;  // of helpers
  std::set<std::size_t> updated;  // maps: entries found before may be others now
};

// The start of a function in a frame of its own: nothing but the frame pointer is known.
BpfState function_start(Terms& terms);

// What stands for the result of a call: four bytes of an array that is no memory.
struct CallResult {
  unsigned array = 0;
  Term index;  // 32 bits
};
// Functions whose calls are not executed, by their first instruction: the result is made from r1 to
// r5 (`arguments`). They change nothing that can be seen. Errors end the execution.
using CallSummary = std::function<Expected<CallResult>(const BpfValue* arguments)>;

// What a helper returns, 64 bits, as often as it was called before on the way.
std::string helper_symbol(int helper, unsigned called_before);

enum Helper : int {
  kMapLookup = 1,
  kMapUpdate = 2,
  kClock = 5,
  kPullData = 39,
};

// A map of .maps.
struct KeyedMap {
  std::size_t key_bytes = 0, value_bytes = 0;
};

// A place of a map with keys, as it is before the run.
struct MapEntry {
  std::size_t map = 0;
  Term present;              // 1 bit
  std::vector<Term> fields;  // of the value: side by side from byte 0, 8 to 64 bits each
};

// A word of 32 bits that others write at any time.
struct VolatileWord {
  std::size_t map = 0;
  std::uint64_t offset = 0;
};

struct ExecutorOptions {
  std::vector<VolatileWord> volatile_words;
  std::set<int> helpers = {kPullData};    // that may be called
  std::map<std::size_t, KeyedMap> keyed;  // by map
  std::vector<MapEntry> entries;          // that look-ups may find
  // Which entry the map has under this key (terms of 8 bits) wherever the path condition holds.
  std::function<std::optional<std::size_t>(const std::vector<Term>& path, std::size_t map,
                                           const std::vector<Term>& key)>
      look_up;
  // What is known of every packet that is looked at.
  std::vector<Term> given;
  // May name a place by another term that is equal wherever the path condition (a conjunction)
  // holds: `index` is a variable offset of 32 bits into `array`. For the sake of later comparisons.
  // Where it gives nothing, a place that is a choice of two is read as a choice of two reads.
  std::function<std::optional<Term>(const std::vector<Term>& path, unsigned array, Term index)>
      same_place;
  std::map<std::size_t, CallSummary> summaries;
  // May name a value by another term that is equal wherever the path condition holds. Asked of what
  // arithmetic gives, and of what registers and stack hold where paths have met.
  std::function<std::optional<Term>(const std::vector<Term>& path, Term value)> same_value;
  // May give another conjunction that holds exactly where this path condition does. Asked there
  // too.
  std::function<std::optional<Term>(const std::vector<Term>& path)> same_path;
  // An instruction of the program itself that all ways pass: from there on nothing is known of the
  // packet's linear length but its symbol.
  std::optional<std::size_t> gathered_at;
  std::size_t max_steps = 200000;  // instructions, calls counted as often as they are made
};

// What an access needs: under `when`, `holds`.
struct Obligation {
  Term when, holds;
  std::string what;  // "instruction 12: r1 = *(u8 *)(r2 + 3)"
};

// An entry that is made or replaced, in the order of the program: under `when`.
struct MapUpdate {
  Term when;
  std::size_t map = 0;
  std::vector<Term> key, value;  // 8 bits each
};

struct Execution {
  Term result;                             // 32 bits
  std::map<std::size_t, Term> context;     // 32-bit fields that may have been written, by offset
  std::vector<Obligation> obligations;     // beyond what was clear at once
  std::vector<std::vector<Term>> entries;  // the fields of ExecutorOptions::entries afterwards
  std::vector<MapUpdate> updates;
  std::size_t steps = 0;
};

// Offsets in struct __sk_buff (linux/bpf.h).
inline constexpr std::size_t kSkbLen = 0, kSkbMark = 8, kSkbVlanPresent = 20, kSkbCb = 48,
                             kSkbData = 76, kSkbDataEnd = 80;

// Errors name the instruction and what is not known of it.
Expected<Execution> execute(Terms& terms, const ebpf::Object& object, const ebpf::Program& program,
                            const ExecutorOptions& options = {});

// A stretch of one function, with all paths merged where it ends: at the function's exit, or where
// control comes (back) to the instruction `cut`.
struct Stretch {
  std::optional<BpfState> at_exit, at_cut;
  std::vector<Obligation> obligations;
};
// Runs from `start` at the instruction `from`; where that is `cut`, once around.
Expected<Stretch> execute_stretch(Terms& terms, const ebpf::Object& object,
                                  const ebpf::Program& program, const ExecutorOptions& options,
                                  std::size_t from, BpfState start, std::optional<std::size_t> cut);

// Where the jumps of a function lead back to: the loops' heads, ascending. Errors as above.
Expected<std::vector<std::size_t>> loop_heads(const ebpf::Object& object,
                                              const ebpf::Program& program, std::size_t entry);

}  // namespace policyc::verify
