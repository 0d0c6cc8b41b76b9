// .policyc.yaml: settings, lint levels and ignores of a repository.
//
//   profile: cilium-1.18          # any setting of cli/settings.h
//   namespace: shop               # -n
//   set: auto
//   inventory: partial
//   fqdn: names.json              # relative to the file
//   exclude: [archive/**]
//   deny-warnings: true
//   baseline: .policyc-baseline.json
//   levels: {POL0301: error, POL0165: off}
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ir/base/diagnostic.h"
#include "ir/base/expected.h"
#include "ir/base/source.h"

namespace policyc::cli {

struct ConfigFile {
  std::string path;  // empty: there is none
  std::vector<std::pair<std::string, std::string>> settings;
  std::map<DiagCode, Severity> levels;
  std::vector<std::string> exclude;
  std::string ns, set, inventory, fqdn, baseline, unknown_fields;
  bool deny_warnings = false;
};

// The nearest .policyc.yaml from the working directory upward, up to the root of the repository
// (the folder with .git) or of the file system; empty when there is none.
std::string find_config_file();

// Reads it. Mistakes are diagnostics (BadSetting and those of the YAML reader) with ranges in
// `sources`; the result is nullopt then.
std::optional<ConfigFile> read_config_file(const std::string& path, SourceMap& sources,
                                           DiagnosticSink& sink);

// "POL0301=warning".
Expected<std::pair<DiagCode, Severity>> parse_level(const std::string& text);
std::optional<Severity> parse_severity(std::string_view text);

}  // namespace policyc::cli
