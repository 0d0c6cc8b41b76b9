// policyc graph: who may talk to whom.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <memory>

#include "cli/command.h"
#include "cli/engine.h"
#include "cli/graph_output.h"
#include "ir/resolve.h"

namespace policyc::cli {
namespace {

struct GraphOptions : EngineOptions {
  std::string format = "text";
  GraphFilter filter;
};

int graph(GraphOptions& options, Env& env) {
  Engine engine;
  int code = kOk;
  if (!load_engine(options, env, engine, code)) return code;
  const ir::Resolved resolved =
      ir::resolve(engine.world, {.names = ir::policy_names(engine.world.policies)});
  const auto parties = ir::graph_parties(engine.world, resolved);
  for (const std::string* name :
       {&options.filter.from, &options.filter.to, &options.filter.focus}) {
    if (std::none_of(parties.begin(), parties.end(),
                     [&](const ir::GraphParty& p) { return is_named(p, *name); }) &&
        !name->empty()) {
      return usage_error(env,
                         fmt::format("`{}` is no party of this graph; without --from, --to and "
                                     "--focus all are listed",
                                     *name));
    }
  }
  const Graph g = build_graph(engine.world, resolved, options.filter);
  if (options.format == "json") {
    env.out << graph_json(engine.world, g);
  } else if (options.format == "csv") {
    env.out << graph_csv(engine.world, g);
  } else if (options.format == "dot") {
    env.out << graph_dot(g);
  } else {
    env.out << graph_text(g, options.filter.any());
    if (engine.world.inventory.pods.empty()) {
      fmt::print(env.err, "policyc: no pods or workloads in the input: nobody to draw\n");
    }
  }
  if (const std::string note = plugin_note(engine.world); !note.empty()) {
    fmt::print(env.err, "policyc: {}\n", note);
  }
  for (const std::string& unknown : g.unknown) {
    fmt::print(env.err, "policyc: left out, its policy cannot be told: {}\n", unknown);
  }
  print_timing(options.common, engine.input.loaded, env);
  return g.unknown.empty() ? kOk : kUndecided;
}

}  // namespace

void add_graph(Cli& cli) {
  auto options = std::make_shared<GraphOptions>();
  CLI::App* command =
      cli.add("graph", "show who may talk to whom, end to end",
              "  policyc graph manifests/\n"
              "  policyc graph --focus shop/db --format dot . | dot -Tsvg > db.svg\n"
              "  policyc graph --format json cluster-dump.yaml policies/");
  add_engine_options(*command, *options, PathArgument::Declare);
  command->add_option("--format", options->format, "text, json, csv or dot")
      ->check(CLI::IsMember({"text", "json", "csv", "dot"}));
  command->add_option("--from", options->filter.from, "only connections from this party");
  command->add_option("--to", options->filter.to, "only connections to this party");
  command->add_option("--focus", options->filter.focus, "only connections that touch this party");
  cli.on_run(command, [options](Env& env) { return graph(*options, env); });
}

}  // namespace policyc::cli
