// What every command starts with: options and configuration settled, the input read.
#pragma once

#include <map>
#include <string>

#include "cli/config_file.h"
#include "cli/env.h"
#include "cli/options.h"
#include "frontend/load.h"
#include "ir/base/diagnostic.h"
#include "ir/inventory.h"

namespace policyc::cli {

struct Input {
  frontend::Loaded loaded;
  ir::Settings settings;  // what counts: defaults < .policyc.yaml < input and world < flags
  DiagnosticSink sink;    // what reading and validation said; levels not yet applied
  std::map<DiagCode, Severity> levels;  // of .policyc.yaml and --level
  ConfigFile config;
};

// Reads everything without judging it. False after a usage error or a broken configuration, which
// has been printed; `exit_code` is then set. Reads standard input when `-` is among the paths.
bool read_inputs(CommonOptions& options, Env& env, Input& input, int& exit_code);

// The same for commands that answer questions. False, exit code 2, when some input could not be
// read (unless --keep-going). Errors and warnings are printed on env.err, since answers rest on
// them.
bool load_inputs(CommonOptions& options, Env& env, Input& input, int& exit_code);

// Sets severities as configured and drops what is off.
void apply_levels(const std::map<DiagCode, Severity>& levels, DiagnosticSink& sink);

// --timing and --verbose. Commands call it at the end, with the phases that they add.
void print_timing(const CommonOptions& options, const frontend::Loaded& loaded, Env& env);
void print_skipped(const CommonOptions& options, const frontend::Loaded& loaded, Env& env);

}  // namespace policyc::cli
