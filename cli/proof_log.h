// What `lint` does with the questions behind its proofs: puts them to the solver, too, and writes
// them down so that others can repeat them.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "ir/base/expected.h"
#include "verifier/solver.h"

namespace policyc::cli {

class ProofLog {
 public:
  // `dir`: where the questions go, made if it is not there; empty: nowhere.
  ProofLog(std::string dir, bool cross_check) : dir_(std::move(dir)), cross_check_(cross_check) {}

  // One file NNNN.smt2 a question. Nothing is written where a file could not be.
  void hear(const ProofStep& step);
  // Answers what the algebra gave up on, if the solver can within its budget.
  Solution decide(const Question& question);
  // Writes index.json. What went wrong, if anything did.
  std::optional<std::string> finish();

  // Questions on which the solver contradicts the algebra: a bug.
  const std::vector<std::string>& contradictions() const { return contradictions_; }
  // "12 questions put to Z3 4.8.12 as well: 12 agree, 0 unknown"
  std::string summary() const;

 private:
  struct Entry {
    std::string file, title, answer, engine;
    std::size_t steps = 0;        // of the algebra: boxes looked at
    std::uint64_t resources = 0;  // of the solver, in its own count
  };

  std::string dir_;
  bool cross_check_ = false;
  Solver solver_;
  std::vector<Entry> entries_;
  std::vector<std::string> contradictions_;
  std::size_t agreed_ = 0, unknown_ = 0, decided_ = 0;
  std::string failure_;
};

}  // namespace policyc::cli
