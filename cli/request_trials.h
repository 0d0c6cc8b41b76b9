// Packets with requests, tried on a program whose proof failed: a reader gets one to look at.
#pragma once

#include <optional>
#include <string>

#include "verifier/program_proof.h"

namespace policyc::cli {

struct RequestTrial {
  verify::ProgramWitness witness;
  std::string payload;
};

// A packet at the borders of what is read of requests for which the program, run here instruction
// by instruction, does something else than its tables mean. `elf`: an object that reads requests.
std::optional<RequestTrial> try_requests(const std::string& elf, const char* program,
                                         unsigned direction, const verify::DatapathShape& shape);

}  // namespace policyc::cli
