// policyc completion: scripts for shells, written from the commands that exist.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <memory>

#include "cli/command.h"
#include "cli/options.h"

namespace policyc::cli {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

void bash(const Cli& cli, Env& env) {
  fmt::print(env.out,
             "# bash completion of policyc: source <(policyc completion bash)\n"
             "_policyc() {{\n"
             "  local word=\"${{COMP_WORDS[COMP_CWORD]}}\"\n"
             "  if [[ $COMP_CWORD -eq 1 ]]; then\n"
             "    COMPREPLY=($(compgen -W \"{}\" -- \"$word\"))\n"
             "    return\n"
             "  fi\n"
             "  [[ $word == -* ]] || return\n"
             "  case \"${{COMP_WORDS[1]}}\" in\n",
             joined(cli.command_names()));
  for (const std::string& name : cli.command_names()) {
    fmt::print(env.out, "    {}) COMPREPLY=($(compgen -W \"{}\" -- \"$word\")) ;;\n", name,
               joined(cli.option_names(name)));
  }
  env.out << "  esac\n}\ncomplete -o default -F _policyc policyc\n";
}

void zsh(const Cli& cli, Env& env) {
  env.out << "#compdef policyc\n"
             "# zsh completion of policyc: policyc completion zsh > \"${fpath[1]}/_policyc\"\n"
             "_policyc() {\n"
             "  if (( CURRENT == 2 )); then\n"
             "    local -a commands=(\n";
  for (const std::string& name : cli.command_names()) {
    fmt::print(env.out, "      '{}:{}'\n", name, cli.command_summary(name));
  }
  env.out << "    )\n"
             "    _describe command commands\n"
             "    return\n"
             "  fi\n"
             "  if [[ $PREFIX == -* ]]; then\n"
             "    case $words[2] in\n";
  for (const std::string& name : cli.command_names()) {
    fmt::print(env.out, "      {}) compadd -- {} ;;\n", name, joined(cli.option_names(name)));
  }
  env.out << "    esac\n"
             "  else\n"
             "    _files\n"
             "  fi\n"
             "}\n"
             "compdef _policyc policyc\n";
}

void fish(const Cli& cli, Env& env) {
  env.out << "# fish completion of policyc: policyc completion fish | source\n";
  for (const std::string& name : cli.command_names()) {
    fmt::print(env.out, "complete -c policyc -n __fish_use_subcommand -f -a {} -d '{}'\n", name,
               cli.command_summary(name));
    for (const std::string& option : cli.option_names(name)) {
      fmt::print(env.out, "complete -c policyc -n '__fish_seen_subcommand_from {}' -l {}\n", name,
                 option.substr(2));
    }
  }
}

}  // namespace

void add_completion(Cli& cli) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = cli.add("completion", "print a completion script for a shell",
                              "  source <(policyc completion bash)");
  command->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(one_of({"bash", "zsh", "fish"}))
      ->type_name("");
  cli.on_run(command, [shell, &cli](Env& env) {
    if (*shell == "bash") bash(cli, env);
    if (*shell == "zsh") zsh(cli, env);
    if (*shell == "fish") fish(cli, env);
    return static_cast<int>(kOk);
  });
}

}  // namespace policyc::cli
