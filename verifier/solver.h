// The same questions about boxes of flows, answered by an SMT solver: a second decider beside the
// algebra, and the one for what the algebra gives up on. Every value of every dimension is left
// free; bit-vectors of exact width.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "verifier/flow_space.h"

namespace policyc {

// Is there a flow in `box` that none of `covers` takes in?
struct Question {
  const FlowSpace* space = nullptr;
  Box box;
  std::vector<const Box*> covers;
  std::string title;  // what it is about, one line
};

struct Solution {
  enum class Answer : std::uint8_t { Covered, Open, Unknown } answer = Answer::Unknown;
  std::optional<FlowPoint> witness;  // Open
  std::string reason;                // Unknown: why
  std::uint64_t resources = 0;       // the solver's own count, the same on every machine
};

inline constexpr std::uint64_t kSolverBudget = 5'000'000;  // of the solver's own count

// Makes its context at the first question, so that having one costs nothing.
class Solver {
 public:
  explicit Solver(std::uint64_t budget = kSolverBudget);
  ~Solver();
  Solver(const Solver&) = delete;
  Solver& operator=(const Solver&) = delete;

  // Whether this build has a solver. Without one every answer is Unknown.
  static bool available();
  static std::string version();  // "Z3 4.8.12"; empty where there is none
  // `prefilter`: leave out covers that do not meet the box. Off: all of them are put to the solver.
  Solution solve(const Question& question, bool prefilter = true);
  std::size_t solved() const { return solved_; }

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::uint64_t budget_;
  std::size_t solved_ = 0;
};

// A question and what the algebra says of it, as they come.
struct ProofStep {
  const Question* question = nullptr;
  Coverage::Answer answer = Coverage::Answer::Undecided;
  std::size_t steps = 0;
};
using ProofListener = std::function<void(const ProofStep&)>;
// Answers what the algebra has left undecided.
using Decider = std::function<Solution(const Question&)>;

// The question in SMT-LIB 2 (QF_BV): satisfiable where some flow is left open.
std::string smtlib(const Question& question);

}  // namespace policyc
