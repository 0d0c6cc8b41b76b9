// The semantic findings of `lint`: policies that a cluster accepts, and that do not do what they
// say.
#pragma once

#include <string>
#include <vector>

#include "ir/base/diagnostic.h"
#include "ir/base/source.h"
#include "ir/evaluate.h"
#include "verifier/solver.h"

namespace policyc {

struct CheckOptions {
  ProofListener proofs;  // hears every question that a proof is made of
  Decider decider;       // asked where the algebra gives up
  // By policy: the kustomization root that lists its file; "" (or no entry): none does.
  std::vector<std::string> roots = {};
};

// Reports every finding POL0301–POL0399 about the accepted policies of the world. Findings that
// hang on who exists are reported only where the inventory is complete; findings that need several
// policies look at those of one deployment set.
void run_checks(const ir::World& world, const SourceMap& sources, DiagnosticSink& sink,
                const CheckOptions& options = {});

}  // namespace policyc
