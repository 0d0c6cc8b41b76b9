#include "verifier/solver.h"

namespace policyc {

struct Solver::State {};

Solver::Solver(std::uint64_t budget) : budget_(budget) {}
Solver::~Solver() = default;

bool Solver::available() {
  return false;
}

std::string Solver::version() {
  return "";
}

Solution Solver::solve(const Question&, bool) {
  Solution out;
  out.reason = "this build has no solver (POLICYC_Z3 is off)";
  return out;
}

}  // namespace policyc
