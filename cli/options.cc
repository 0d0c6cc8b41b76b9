#include "cli/options.h"

#include <algorithm>
#include <cstdlib>

#include "cli/settings.h"

namespace policyc::cli {

CLI::Option* add_repeated(CLI::App& command, const std::string& name,
                          std::vector<std::string>& values, const std::string& help) {
  return command.add_option(name, values, help)->allow_extra_args(false);
}

void add_common_options(CLI::App& command, CommonOptions& o, PathArgument paths) {
  if (paths == PathArgument::Declare) {
    command
        .add_option("PATH", o.load.paths,
                    "files, folders (*.yaml, *.yml, *.json below them), or - for standard input")
        ->type_name("");
  }
  command.set_help_flag("-h,--help", "print this help and exit");

  const std::string input = "Input";
  command
      .add_option("--world", o.load.world,
                  "read DIR/cluster.yaml, policies/, fqdn.json, config.json")
      ->type_name("DIR")
      ->group(input);
  command
      .add_option("-n,--namespace", o.load.default_namespace, "namespace of objects that give none")
      ->type_name("NAME")
      ->group(input);
  add_repeated(command, "--exclude", o.load.exclude, "leave out paths that match")
      ->type_name("GLOB")
      ->group(input);
  command
      .add_option("--set", o.set,
                  "what is deployed together: kustomization roots, all, each folder")
      ->check(one_of({"auto", "all", "dir"}))
      ->type_name("auto|all|dir")
      ->group(input);
  command.add_option("--inventory", o.inventory, "whether the input names every pod")
      ->check(one_of({"auto", "complete", "partial"}))
      ->type_name("auto|complete|partial")
      ->group(input);
  command.add_option("--fqdn", o.load.fqdn_file, "DNS names and their addresses, a JSON object")
      ->type_name("FILE")
      ->group(input);
  command
      .add_option("--allocations", o.load.allocations_file,
                  "numbers and addresses of an earlier compile")
      ->type_name("FILE")
      ->group(input);
  command
      .add_option("--unknown-fields", o.unknown_fields,
                  "what the API server does with fields that it does not know")
      ->check(one_of({"prune", "reject"}))
      ->type_name("prune|reject")
      ->group(input);
  command
      .add_flag("--keep-going", o.keep_going,
                "go on when some input cannot be read, and when policies are refused")
      ->group(input);

  const std::string cluster = "Cluster";
  for (const SettingRow& row : setting_rows()) {
    const std::string name(row.name);
    std::string& value = o.settings[name];
    CLI::Option* option = row.flag ? command.add_flag("--" + name, value, std::string(row.help))
                                   : command.add_option("--" + name, value, std::string(row.help));
    if (!row.flag) option->type_name(std::string(row.values));
    option->group(cluster);
  }

  const std::string output = "General";
  command.add_option("--config", o.config_file, "settings file (.policyc.yaml here or above)")
      ->type_name("FILE")
      ->group(output);
  add_repeated(command, "--level", o.levels, "severity of a code: off, note, warning, error")
      ->type_name("CODE=LEVEL")
      ->group(output);
  command.add_option("-j,--jobs", o.load.jobs, "threads (one per core)")
      ->type_name("N")
      ->group(output);
  command.add_option("--color", o.color, "colours in text")
      ->check(one_of({"auto", "always", "never"}))
      ->type_name("auto|always|never")
      ->group(output);
  command.add_flag("-q,--quiet", o.quiet, "no notes, no summary")->group(output);
  command.add_flag("-v,--verbose", o.verbose, "list what was skipped, and why")->group(output);
  command.add_flag("--timing", o.timing, "say where the time went")->group(output);
}

CLI::Validator one_of(std::vector<std::string> words) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "" : ", ") + word;
  return CLI::Validator(
      [words = std::move(words), list](std::string& value) {
        const bool known = std::find(words.begin(), words.end(), value) != words.end();
        return known ? std::string() : "`" + value + "` is not one of " + list;
      },
      "");
}

bool use_color(const CommonOptions& options, bool terminal) {
  if (options.color != "auto") return options.color == "always";
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return terminal && (no_color == nullptr || *no_color == 0) &&
         !(term != nullptr && std::string(term) == "dumb");
}

}  // namespace policyc::cli
