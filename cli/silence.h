// Ways to keep a finding quiet: comments in place, and a baseline of old findings.
//
//   toPorts:
//     - ports: [{port: "80"}]  # policyc: allow(POL0301) kept for the audit
//
// A comment at the end of a line covers findings that begin on the line; one on lines of its own
// covers the next line with content; one above the first line of a document covers the document.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ir/base/diagnostic.h"
#include "ir/base/expected.h"
#include "ir/base/source.h"

namespace policyc::cli {

struct AllowComment {
  SourceRange range;  // from `#` to the end of the line
  std::vector<DiagCode> codes;
  std::uint32_t first_line = 0;  // the lines it covers, 1-based, inclusive
  std::uint32_t last_line = 0;
  std::vector<bool> used;  // for each code, whether it silenced something
};

// All comments of a file; those that cannot be understood are reported (BadAllow).
std::vector<AllowComment> find_allow_comments(const SourceMap& sources, FileId file,
                                              DiagnosticSink& sink);

// Takes away what comments allow and reports comments that silence nothing (UnusedAllow). Returns
// how many findings were taken away. Files without findings count too: their comments are unused.
std::size_t apply_allow_comments(const SourceMap& sources, DiagnosticSink& sink);

// A baseline holds findings by code, file, object, rule and message (not by line), each with how
// often it occurs.
std::string write_baseline(const SourceMap& sources, const std::vector<Diagnostic>& diagnostics);
// Takes away what the baseline text lists, each entry as often as it says. The number taken away.
Expected<std::size_t> apply_baseline(const std::string& text, const SourceMap& sources,
                                     DiagnosticSink& sink);

}  // namespace policyc::cli
