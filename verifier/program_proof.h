// The program half of the translation validation: the bytes of an object file do to every packet,
// with every contents of the tables, what the layout says the tables mean (datapath_meaning.h). The
// image half (image_check.h) says that the tables mean the policy.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ir/bpf/object.h"
#include "verifier/datapath_meaning.h"
#include "verifier/flow_meaning.h"
#include "verifier/http_tables.h"
#include "verifier/terms_solver.h"

namespace policyc::verify {

// Raised where a proof comes to mean something else: remembered proofs of other versions do not
// count.
inline constexpr int kProofVersion = 6;

// What tc and the packet's buffer hold after a run.
struct PacketFate {
  std::uint32_t action = 0;
  std::uint32_t mark = 0;
  std::array<std::uint32_t, 5> cb{};
  // What a program with connection tracking writes to its maps, an entry each, as text.
  std::vector<std::string> kept{};
  friend bool operator==(const PacketFate&, const PacketFate&) = default;
};

// What a program with connection tracking finds: the entries that the packet asks for, by
// FlowEntry.
struct FlowsFound {
  std::array<std::uint64_t, 2> clock{};  // ns, each time that it is read
  struct Entry {
    bool present = false;
    std::vector<std::uint64_t> fields;  // as in flow_meaning.h
    std::string key;                    // bytes; empty where it is not asked for
  };
  std::array<Entry, kFlowEntries> entries;
};

// A packet and table contents for which program and meaning differ.
struct ProgramWitness {
  std::vector<std::uint8_t> frame;
  std::uint32_t vlan_present = 0;
  bool whole = true;         // the frame is all of the packet; else what lies in its linear part
  std::string node, policy;  // the whole values of the two maps
  PacketFate program, meaning;
  FlowsFound flows;     // of programs with connection tracking
  std::string outside;  // an access outside the packet or a map, where that is what is wrong
};

struct ProofReport {
  enum class Answer : std::uint8_t { Proved, Refuted, NotProved } answer = Answer::NotProved;
  std::string reason;     // NotProved: why
  bool left_out = false;  // NotProved: proved, but for packets that were not looked at
  std::optional<ProgramWitness> witness;
  std::size_t instructions = 0, terms = 0, questions = 0;
  std::uint64_t resources = 0;  // the solver's own count
};

// The reason of those reports.
std::string left_out(const DatapathShape& shape);

// One program of the object, "policyc_ingress" (direction 0) or "policyc_egress" (1). Of a program
// that reads requests: given what its functions give (request_proof.h).
ProofReport prove_program(const ebpf::Object& object, const std::string& program,
                          unsigned direction, const DatapathShape& shape, TermSolver& solver);

// What the meaning says of one packet over given map values: the other side of a witness. `http`:
// the tables of a program that reads requests; `whole`: see ProgramWitness.
PacketFate fate_of(const std::vector<std::uint8_t>& frame, std::uint32_t vlan_present,
                   unsigned direction, const DatapathShape& shape, std::string_view node,
                   std::string_view policy, const HttpTables* http = nullptr, bool whole = true);

// The same with connection tracking. Fills in the keys of what is asked for.
PacketFate fate_of(const std::vector<std::uint8_t>& frame, std::uint32_t vlan_present,
                   unsigned direction, const DatapathShape& shape, std::string_view node,
                   std::string_view policy, FlowsFound& flows);

}  // namespace policyc::verify
