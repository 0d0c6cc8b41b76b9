// Proofs about the functions of a program that read request heads (`--l7 kernel`), for all packets
// and all contents of the tables. Together with the program (program_proof.h, which takes their
// results as given) and the tables (http_tables.h) they say what becomes of each request.
//
// The loop over a head's bytes is proved by induction on one step: it is run from the function's
// start to its head, and from there, with everything free that it changes, once around. What it
// changes is found by trying: what grows by the same number each time is written by the count of
// rounds, and one number is left, the automaton's state.
#pragma once

#include "ir/bpf/object.h"
#include "verifier/request_functions.h"
#include "verifier/terms_solver.h"

namespace policyc::verify {

struct RequestReport {
  bool proved = false;
  std::string reason;  // where it is not
  std::size_t questions = 0;
  std::uint64_t resources = 0;  // the solver's own count
};

// ask: a payload that is not there is left to the proxy; what `head` denies is dropped; what it
// allows passes where there is no proxy; all else is the proxy's. `node` is the map with its port.
RequestReport prove_ask(const ebpf::Object& object, const ebpf::Program& program,
                        const RequestFunctions& functions, std::size_t node, TermSolver& solver);

// head: the verdict of HttpTables on the bytes from an offset below 512 to the packet's end, or
// "undecided" where they are too many; given what check_http_tables asks of the tables besides:
// bytes that are passed over lead from a state to itself, and the row of lost states leads nowhere.
RequestReport prove_head(const ebpf::Object& object, const ebpf::Program& program,
                         const RequestFunctions& functions, TermSolver& solver);

}  // namespace policyc::verify
