// Findings in the formats that people, editors and CI systems read.
#pragma once

#include <cstddef>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/base/diagnostic.h"
#include "ir/base/source.h"

namespace policyc::cli {

struct Summary {
  std::size_t policies = 0, documents = 0, files = 0;
  std::size_t fixed = 0;   // repaired by --fix, no longer listed
  std::size_t hidden = 0;  // known to the baseline, or allowed in place
};

struct Report {
  const SourceMap& sources;
  const std::vector<Diagnostic>& diagnostics;  // sorted
  Summary summary;
};

struct TextStyle {
  bool color = false;
};

enum class Format { Text, Json, Sarif, Github, Gitlab, Junit };
std::optional<Format> parse_format(std::string_view name);
const std::vector<std::string>& format_names();

std::size_t count(const std::vector<Diagnostic>& diagnostics, Severity severity);

// Findings only; the summary line is render_summary's.
void render_text(const Report& report, const TextStyle& style, std::ostream& out);
// "checked 12 policies in 5 files: 1 error, 2 warnings"
void render_summary(const Report& report, std::ostream& out);

void render_json(const Report& report, std::ostream& out);    // interface version 1
void render_sarif(const Report& report, std::ostream& out);   // SARIF 2.1.0
void render_github(const Report& report, std::ostream& out);  // workflow commands
void render_gitlab(const Report& report, std::ostream& out);  // Code Quality report
void render_junit(const Report& report, std::ostream& out);

// Text as XML content or attribute value; what XML cannot hold is left out.
std::string xml_escape(std::string_view text);

void render(const Report& report, Format format, const TextStyle& style, std::ostream& out);

// A number that stays the same when lines move: code, file, object, rule and message. `occurrence`
// tells equal findings apart.
std::string fingerprint(const Report& report, const Diagnostic& diagnostic, std::size_t occurrence);

// Makes text safe to print: control characters, escape sequences and direction overrides are shown
// as their code points.
std::string printable(std::string_view text);

}  // namespace policyc::cli
