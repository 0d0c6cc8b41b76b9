#include "cli/command.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>

#include "cli/suggest.h"

namespace policyc::cli {

#define POLICYC_COMMAND(name) void add_##name(Cli& cli);
#include "cli/commands.def"
#undef POLICYC_COMMAND

namespace {

// Help with examples at the end as written, and `policyc` rather than the path of the program.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(34); }

  std::string make_footer(const CLI::App* app) const override {
    const std::string footer = app->get_footer();
    return footer.empty() ? "" : "\n" + footer + "\n";
  }
};

// Whether an option with this name exists and takes part in completion and suggestions.
std::vector<std::string> long_options(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

Cli::Cli() : app_("Compile, question and verify Kubernetes network policy, without a cluster.") {
  app_.name("policyc");
  app_.formatter(std::make_shared<HelpFormatter>());
  app_.require_subcommand(0, 1);
  app_.set_help_flag("-h,--help", "print this help and exit");
  app_.footer(
      "`policyc COMMAND --help` tells more.\n"
      "Exit codes: 0 nothing to report, 1 findings, 2 usage or unreadable input,\n"
      "3 not possible on this machine, 4 undecided, 70 a bug in policyc.");
}

CLI::App* Cli::add(const std::string& name, const std::string& summary,
                   const std::string& examples) {
  CLI::App* command = app_.add_subcommand(name, summary);
  if (!examples.empty()) command->footer("Examples:\n" + examples);
  return command;
}

std::vector<std::string> Cli::command_names() const {
  std::vector<std::string> names;
  for (const CLI::App* command : app_.get_subcommands({})) names.push_back(command->get_name());
  return names;
}

std::vector<std::string> Cli::option_names(const std::string& command) const {
  return long_options(*app_.get_subcommand(command));
}

std::string Cli::command_summary(const std::string& command) const {
  return app_.get_subcommand(command)->get_description();
}

int Cli::unknown_command(const std::string& word, Env& env) const {
  const std::string near = nearest_name(word, command_names());
  const std::string meant = near.empty() ? "" : fmt::format("; did you mean `{}`?", near);
  usage_error(env, fmt::format("unknown command `{}`{}", word, meant));
  fmt::print(env.err, "Try `policyc --help`.\n");
  return kUsage;
}

int Cli::explain_parse_error(const CLI::ParseError& error, Env& env) {
  const CLI::App* command = &app_;
  if (const auto chosen = app_.get_subcommands(); !chosen.empty()) command = chosen.front();
  const bool top = command == &app_;
  const std::vector<std::string> unknown = app_.remaining(true);
  std::string message = error.what();
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError) && !unknown.empty()) {
    std::string word = unknown.front();
    const bool option = word.size() > 1 && word[0] == '-';
    if (option) word = word.substr(0, word.find('='));
    const std::string near = nearest_name(word, option ? long_options(*command) : command_names());
    message = fmt::format("unknown {} `{}`",
                          option ? "option"
                          : top  ? "command"
                                 : "argument",
                          word);
    if (!near.empty()) message += fmt::format("; did you mean `{}`?", near);
  }
  usage_error(env, message);
  fmt::print(env.err, "Try `policyc {}--help`.\n", top ? "" : command->get_name() + " ");
  return kUsage;
}

int Cli::run(std::vector<std::string> arguments, Env& env) {
  if (arguments.empty()) {
    env.err << app_.help();
    return kUsage;
  }
  // `policyc help [COMMAND]`, as other tools have it.
  if (arguments.front() == "help") {
    arguments.erase(arguments.begin());
    if (!arguments.empty() && arguments.front().rfind('-', 0) != 0) {
      const std::vector<std::string> names = command_names();
      if (std::find(names.begin(), names.end(), arguments.front()) == names.end()) {
        return unknown_command(arguments.front(), env);
      }
    }
    arguments.push_back("--help");
  } else if (arguments.front() == "--version") {
    arguments.front() = "version";
  }
  // The parser takes no arguments of a subcommand behind `--`; they are paths, whatever they begin
  // with.
  if (const auto dashes = std::find(arguments.begin(), arguments.end(), "--");
      dashes != arguments.end()) {
    for (auto path = arguments.erase(dashes); path != arguments.end(); ++path) {
      after_dashes_.push_back(*path);
      if (path->size() > 1 && path->front() == '-') path->insert(0, "./");
    }
  }
  try {
    std::reverse(arguments.begin(), arguments.end());
    app_.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    const auto chosen = app_.get_subcommands();
    env.out << (chosen.empty() ? app_.help() : chosen.front()->help("policyc"));
    return kOk;
  } catch (const CLI::ParseError& error) {
    return explain_parse_error(error, env);
  }
  const auto chosen = app_.get_subcommands();
  if (chosen.empty()) {
    env.err << app_.help();
    return kUsage;
  }
  return runs_.at(chosen.front())(env);
}

int usage_error(Env& env, const std::string& message) {
  fmt::print(env.err, "policyc: {}\n", message);
  return kUsage;
}

int failure(Env& env, const Error& error) {
  usage_error(env, error.message);
  return error.kind == Error::Kind::Machine ? kImpossible : kUsage;
}

void add_all_commands(Cli& cli) {
#define POLICYC_COMMAND(name) add_##name(cli);
#include "cli/commands.def"
#undef POLICYC_COMMAND
}

namespace {

// The command of this name alone; false where there is none, or where it looks at the others.
bool add_command(Cli& cli, const std::string& name) {
#define POLICYC_COMMAND(command) \
  if (name == #command && name != "completion") return add_##command(cli), true;
#include "cli/commands.def"
#undef POLICYC_COMMAND
  return false;
}

}  // namespace

int run_policyc(const std::vector<std::string>& arguments, Env& env) {
  Cli cli;
  // Declaring the options of all commands takes longer than `lint` takes for a file.
  if (arguments.empty() || !add_command(cli, arguments.front())) add_all_commands(cli);
  return cli.run(arguments, env);
}

}  // namespace policyc::cli
