// policyc dump: what the compiler sees, one stage of the road at a time.
#include <algorithm>
#include <memory>

#include "cli/command.h"
#include "cli/input.h"
#include "cli/options.h"
#include "frontend/print_ast.h"

namespace policyc::cli {
namespace {

struct DumpOptions : CommonOptions {
  std::string what;
  std::string format = "text";
};

int dump_ast(const DumpOptions&, Input& input, Env& env) {
  env.out << frontend::print_ast(input.loaded);
  return kOk;
}

// A stage is one row here and one function.
struct DumpKind {
  std::string name;
  int (*run)(const DumpOptions&, Input&, Env&);
};
const DumpKind kKinds[] = {{"ast", dump_ast}};

int dump(DumpOptions& o, Env& env) {
  Input input;
  int exit_code = kOk;
  if (!load_inputs(o, env, input, exit_code)) return exit_code;
  for (const DumpKind& kind : kKinds) {
    if (kind.name == o.what) exit_code = kind.run(o, input, env);
  }
  print_timing(o, input.loaded, env);
  return exit_code;
}

}  // namespace

void add_dump(Cli& cli) {
  auto o = std::make_shared<DumpOptions>();
  CLI::App* command = cli.add("dump", "print what the compiler sees, deterministically",
                              "  policyc dump ast policies/");
  std::vector<std::string> names;
  for (const DumpKind& kind : kKinds) names.push_back(kind.name);
  command->add_option("WHAT", o->what, "the stage")
      ->required()
      ->check(one_of(names))
      ->type_name("");
  add_common_options(*command, *o);
  command->add_option("--format", o->format, "where a stage has both")
      ->check(one_of({"text", "json"}))
      ->type_name("text|json");
  cli.on_run(command, [o](Env& env) { return dump(*o, env); });
}

}  // namespace policyc::cli
