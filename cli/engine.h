// Input plus engine: what commands that answer questions start with.
#pragma once

#include <string>
#include <vector>

#include "cli/input.h"
#include "ir/evaluate.h"

namespace policyc::cli {

struct EngineOptions {
  CommonOptions common;
  std::vector<std::string> with;     // --with FILE: objects added for this question only
  std::vector<std::string> without;  // --without KIND/NS/NAME: policies left out
};

struct Engine {
  Input input;
  ir::World world;

  const SourceMap& sources() const { return *input.loaded.sources; }
};

void add_engine_options(CLI::App& command, EngineOptions& options, PathArgument paths);

// Reads, lowers, and settles which policies count. False after a message, with the exit code: input
// that could not be read, `--without` that names nothing, or objects that exclude each other (the
// same kind, namespace and name twice), of which one must be chosen.
bool load_engine(EngineOptions& options, Env& env, Engine& engine, int& exit_code);

// The exit code of an answer that would be `code`: where the cluster refuses policies, and nobody
// said that they are to be left out (--keep-going, --unknown-fields), kUndecided in place of kOk,
// with a message that names them. Worlds of recorded verdicts (--world) hold such policies on
// purpose.
int account_for_refused(const EngineOptions& options, const Engine& engine, int code, Env& env);
// Of several inputs, each with a name that stands in front of its policies.
int account_for_refused(const EngineOptions& options,
                        const std::vector<std::pair<std::string, const Engine*>>& sides, int code,
                        Env& env);

}  // namespace policyc::cli
