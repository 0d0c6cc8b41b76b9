// The questions behind proofs, written down so that others can repeat them; and what `lint` does
// with its own: it puts them to the solver, too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "ir/base/expected.h"
#include "verifier/solver.h"

namespace policyc::cli {

// One file NNNN.smt2 a question, and index.json.
class ProofFolder {
 public:
  struct Entry {
    std::string title, answer, engine;  // answer: "unsat", "sat" or "unknown"
    std::size_t steps = 0;              // of the algebra: boxes looked at
    std::uint64_t resources = 0;        // of the solver, in its own count
    std::string file{};                 // given by add
  };

  // `dir` is made if it is not there; empty: nothing is written. The questions of an earlier log
  // go; a folder that holds anything but a log is a failure.
  explicit ProofFolder(std::string dir) : dir_(std::move(dir)) {}
  // `text`: makes the question's SMT-LIB, where it is wanted. Nothing is written after a failure.
  void add(Entry entry, const std::function<std::string()>& text);
  // Writes index.json. What went wrong, if anything did.
  std::optional<std::string> finish();
  std::size_t size() const { return entries_.size(); }

 private:
  void prepare();

  std::string dir_;
  bool prepared_ = false;
  std::vector<Entry> entries_;
  std::string failure_;
};

class ProofLog {
 public:
  // `dir`: where the questions go, made if it is not there; empty: nowhere.
  ProofLog(std::string dir, bool cross_check)
      : folder_(std::move(dir)), cross_check_(cross_check) {}

  void hear(const ProofStep& step);
  // Answers what the algebra gave up on, if the solver can within its budget.
  Solution decide(const Question& question);
  // As ProofFolder's.
  std::optional<std::string> finish() { return folder_.finish(); }

  // Questions on which the solver contradicts the algebra: a bug.
  const std::vector<std::string>& contradictions() const { return contradictions_; }
  // "12 questions put to Z3 4.8.12 as well: 12 agree, 0 unknown"
  std::string summary() const;

 private:
  ProofFolder folder_;
  bool cross_check_ = false;
  Solver solver_;
  std::vector<std::string> contradictions_;
  std::size_t agreed_ = 0, unknown_ = 0, decided_ = 0;
};

}  // namespace policyc::cli
