// Whether a truth value can be true: asked of an SMT solver, over all symbols and all contents of
// the tables.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "verifier/terms.h"

namespace policyc::verify {

struct TermAnswer {
  enum class Kind : std::uint8_t { Never, Possible, Unknown } kind = Kind::Unknown;
  std::string reason;  // Unknown: why
  std::uint64_t resources = 0;
  // Possible: what makes it true. Reads by (array, index, bytes); everything else may be 0.
  std::map<std::string, std::uint64_t> symbols;
  struct Read {
    unsigned array = 0;
    std::uint32_t index = 0;
    unsigned bytes = 0;
    std::uint64_t value = 0;
  };
  std::vector<Read> reads;
};

// A question as it was put to the solver, and what came of it.
struct TermQuestion {
  std::string about;   // what it asks, one line
  std::string smtlib;  // SMT-LIB 2 (QF_BV), with the status that the answer gives it
  const TermAnswer* answer = nullptr;
};
using TermListener = std::function<void(const TermQuestion&)>;

// Reads of tables are taken as numbers of which only this is known: equal places hold equal numbers
// (reads of different sizes are not related). So "never" holds for every contents; "possible" is to
// be checked with an Evaluator. Makes its context at the first question.
class TermSolver {
 public:
  explicit TermSolver(std::uint64_t budget = 50'000'000);  // of the solver's own count
  ~TermSolver();
  TermSolver(const TermSolver&) = delete;
  TermSolver& operator=(const TermSolver&) = delete;
  static bool available();  // whether this build has a solver
  // Which reads are told of each other; fewer is quicker, and what never holds then never holds.
  // With All products are computed too; otherwise they are free numbers, equal ones equal, but for
  // those that only negate and shift.
  // With Truths comparisons are free as well.
  enum class Relate : std::uint8_t { Truths, None, Bytes, All };
  // `about`: what is asked, for the listener. `most`: less than the solver's budget, for questions
  // that are not worth more.
  TermAnswer ask(const Terms& terms, Term truth, Relate relate, std::string_view about = {},
                 std::uint64_t most = ~std::uint64_t{0});
  // Is told of every question from now on.
  void listen(TermListener listener) { listener_ = std::move(listener); }
  // To be called before terms of another store are asked about.
  void forget();
  std::size_t asked() const { return asked_; }

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::uint64_t budget_;
  std::size_t asked_ = 0;
  TermListener listener_;
};

}  // namespace policyc::verify
