#include "verifier/terms_solver.h"

namespace policyc::verify {

struct TermSolver::State {};

TermSolver::TermSolver(std::uint64_t budget) : budget_(budget) {}
TermSolver::~TermSolver() = default;

bool TermSolver::available() {
  return false;
}

TermAnswer TermSolver::ask(const Terms&, Term, Relate, std::string_view, std::uint64_t) {
  TermAnswer out;
  out.reason = "this build has no solver (POLICYC_Z3 is off)";
  return out;
}

void TermSolver::forget() {}

}  // namespace policyc::verify
