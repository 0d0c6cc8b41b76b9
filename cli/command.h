// How commands are declared. A command is one file, cli/cmd_NAME.cc with `void add_NAME(Cli&)`, one
// line in cli/commands.def and one in cli/CMakeLists.txt:
//
//   void add_greet(Cli& cli) {
//     auto options = std::make_shared<GreetOptions>();
//     CLI::App* command = cli.add("greet", "say hello", "  policyc greet world");
//     add_common_options(*command, *options);
//     cli.on_run(command, [options](Env& env) { return greet(*options, env); });
//   }
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cli/env.h"
#include "cli/exit_code.h"
#include "ir/base/expected.h"

namespace policyc::cli {

class Cli {
 public:
  Cli();

  // A subcommand with its one-line summary and example lines for --help.
  CLI::App* add(const std::string& name, const std::string& summary, const std::string& examples);
  // What the command does once its options are read; returns the exit code.
  void on_run(CLI::App* command, std::function<int(Env&)> run) { runs_[command] = std::move(run); }

  // What stood behind `--` on the command line: no options, whatever they look like.
  const std::vector<std::string>& after_dashes() const { return after_dashes_; }

  // Parses (arguments without the program's name) and runs.
  int run(std::vector<std::string> arguments, Env& env);
  // For shell completion: the commands, and the long options of one.
  std::vector<std::string> command_names() const;
  std::vector<std::string> option_names(const std::string& command) const;
  std::string command_summary(const std::string& command) const;

 private:
  int unknown_command(const std::string& word, Env& env) const;
  int explain_parse_error(const CLI::ParseError& error, Env& env);

  CLI::App app_;
  std::vector<std::string> after_dashes_;
  std::map<const CLI::App*, std::function<int(Env&)>> runs_;
};

// Prints "policyc: message" and gives the exit code of a usage error.
int usage_error(Env& env, const std::string& message);

// The same with the exit code of the error's kind: 3 where this machine cannot do it.
int failure(Env& env, const Error& error);

// All commands of cli/commands.def.
void add_all_commands(Cli& cli);

// Runs policyc as from a shell. `arguments` are without the program's name.
int run_policyc(const std::vector<std::string>& arguments, Env& env);

}  // namespace policyc::cli
