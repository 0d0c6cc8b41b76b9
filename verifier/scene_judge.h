// The evaluator's word on a scene, with all policies and without a part of them. Only the rules
// that bear on the scene are handed to it: those that may select its pod, and, where the other end
// is an address, what all rules say about addresses.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ir/evaluate.h"
#include "verifier/deletion.h"
#include "verifier/universe.h"

namespace policyc {

class SceneJudge {
 public:
  // Of these policies; the world outlives the judge.
  explicit SceneJudge(const ir::World& world);

  // The verdict on the scene's judged pod in this direction; `part`: without it.
  ir::DirectionVerdict verdict(const Universe::Scene& scene, ir::Direction direction,
                               const Part* part = nullptr) const;

 private:
  ir::PolicySet near(const Universe::Scene& scene, const Part* part) const;

  const ir::World& world_;
  std::map<std::string, std::vector<std::size_t>> by_namespace_;  // "": of any or unknown
  // By rule: its address peers alone; no items where it has none.
  std::vector<ir::Rule> addresses_;
};

}  // namespace policyc
