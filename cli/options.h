// The flags that every command shares.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <string>
#include <vector>

#include "frontend/load.h"
#include "ir/base/diagnostic.h"
#include "ir/inventory.h"

namespace policyc::cli {

struct CommonOptions {
  frontend::LoadOptions load;
  std::map<std::string, std::string> settings;  // given by flags, by name; empty = not given
  std::string set = "auto";
  std::string inventory = "auto";
  std::string unknown_fields;  // --unknown-fields: prune or reject; empty = not given
  std::string config_file;     // --config
  std::string color = "auto";
  std::vector<std::string> levels;  // --level CODE=SEVERITY
  bool quiet = false;
  bool verbose = false;
  bool timing = false;
  bool keep_going = false;
};

enum class PathArgument {
  None,     // the command declares its own positionals and fills load.paths
  Declare,  // PATH…
};

// Declares them on a command. `options` must live as long as the command.
void add_common_options(CLI::App& command, CommonOptions& options,
                        PathArgument paths = PathArgument::Declare);

// A flag that may be given several times, one value each: `--exclude A --exclude B`.
CLI::Option* add_repeated(CLI::App& command, const std::string& name,
                          std::vector<std::string>& values, const std::string& help);

// Refuses values other than these. The names belong into type_name: "auto|all|dir".
CLI::Validator one_of(std::vector<std::string> words);

bool use_color(const CommonOptions& options, bool terminal);

}  // namespace policyc::cli
