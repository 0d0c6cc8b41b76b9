// policyc dump: what the compiler sees, one stage of the road at a time.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "backend-bpf/cilium_image.h"
#include "backend-bpf/image_text.h"
#include "backend-bpf/layout.h"
#include "backend-bpf/output_directory.h"
#include "cli/command.h"
#include "cli/engine.h"
#include "cli/input.h"
#include "cli/mapstate.h"
#include "cli/options.h"
#include "frontend/print_ast.h"
#include "ir/print.h"
#include "ir/resolve.h"

namespace policyc::cli {
namespace {

struct DumpOptions : EngineOptions {
  std::string what;
  std::string format = "text";
};

bool json(const DumpOptions& o) {
  return o.format == "json";
}

void dump_ir(const DumpOptions&, const Engine& engine, Env& env) {
  env.out << ir::print(engine.world.policies, engine.sources());
}

void dump_identities(const DumpOptions& o, const Engine& engine, Env& env) {
  const ir::Resolved resolved = ir::resolve(engine.world);
  env.out << (json(o) ? identities_json(resolved) : ir::print_identities(resolved));
}

void dump_mapstate(const DumpOptions& o, const Engine& engine, Env& env) {
  const ir::Resolved resolved = ir::resolve(engine.world);
  env.out << (json(o) ? mapstate_json(engine.world, resolved)
                      : mapstate_text(engine.world, resolved));
}

// A stage behind the front end is one row here and one function.
struct DumpKind {
  std::string name;
  void (*run)(const DumpOptions&, const Engine&, Env&);
};
const DumpKind kKinds[] = {
    {"ir", dump_ir}, {"identities", dump_identities}, {"mapstate", dump_mapstate}};

// Images as text: ours, and those of Cilium's maps.
int dump_images(const DumpOptions& o, Env& env) {
  if (o.common.load.paths.empty()) return usage_error(env, "dump image: which file?");
  for (const std::string& path : o.common.load.paths) {
    const auto bytes = bpf::read_artefact(path);
    if (!bytes) return usage_error(env, bytes.error());
    if (bytes->starts_with(std::string_view(bpf::kImageMagic, sizeof bpf::kImageMagic))) {
      const auto text = bpf::print_image_file(*bytes);
      if (!text) return usage_error(env, path + ": " + text.error());
      env.out << *text;
      continue;
    }
    const auto image = bpf::read_cilium_image(*bytes);
    if (!image) return usage_error(env, path + ": " + image.error());
    const auto text = bpf::print_image(*image);
    if (!text) return usage_error(env, path + ": " + text.error());
    env.out << *text;
  }
  return kOk;
}

int dump(DumpOptions& o, Env& env) {
  if (o.what == "image") return dump_images(o, env);
  int exit_code = kOk;
  if (json(o) && (o.what == "ast" || o.what == "ir")) {
    return usage_error(
        env, fmt::format("dump {} is text; --format json is for identities and mapstate", o.what));
  }
  if (o.what == "ast") {
    Input input;
    if (!load_inputs(o.common, env, input, exit_code)) return exit_code;
    env.out << frontend::print_ast(input.loaded);
    print_timing(o.common, input.loaded, env);
    return exit_code;
  }
  Engine engine;
  if (!load_engine(o, env, engine, exit_code)) return exit_code;
  for (const DumpKind& kind : kKinds) {
    if (kind.name == o.what) kind.run(o, engine, env);
  }
  print_timing(o.common, engine.input.loaded, env);
  return exit_code;
}

}  // namespace

void add_dump(Cli& cli) {
  auto o = std::make_shared<DumpOptions>();
  CLI::App* command = cli.add("dump", "print what the compiler sees, deterministically",
                              "  policyc dump ast policies/\n"
                              "  policyc dump ir policies/ cluster.yaml\n"
                              "  policyc dump mapstate --format json --world DIR\n"
                              "  policyc dump image out/maps/*.img   # of compile");
  std::vector<std::string> names = {"ast", "image"};
  for (const DumpKind& kind : kKinds) names.push_back(kind.name);
  command->add_option("WHAT", o->what, "the stage")
      ->required()
      ->check(one_of(names))
      ->type_name("");
  add_engine_options(*command, *o, PathArgument::Declare);
  command->add_option("--format", o->format, "where a stage has both")
      ->check(one_of({"text", "json"}))
      ->type_name("text|json");
  cli.on_run(command, [o](Env& env) { return dump(*o, env); });
}

}  // namespace policyc::cli
