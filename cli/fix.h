// Applies the certain repairs of findings to the files.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "ir/base/diagnostic.h"
#include "ir/base/source.h"

namespace policyc::cli {

struct FixResult {
  std::size_t fixed = 0;              // findings repaired; they are taken out of the sink
  std::vector<std::string> problems;  // files that could not be written, or were better left
};

// A fix is applied whole or not at all; of fixes that overlap the first wins (run again for the
// others). Standard input is left alone, and so is a file that would no longer read as YAML, or as
// JSON, as it did before.
FixResult apply_fixes(const SourceMap& sources, DiagnosticSink& sink);

}  // namespace policyc::cli
