// policyc graph: who may talk to whom.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <memory>

#include "cli/command.h"
#include "cli/engine.h"
#include "cli/graph_output.h"
#include "cli/graph_picture.h"
#include "ir/resolve.h"

namespace policyc::cli {
namespace {

struct GraphOptions : EngineOptions {
  std::string format = "text";
  std::string direction;
  bool exposure = false;
  GraphFilter filter;
};

int show_exposure(GraphOptions& options, const Engine& engine, Env& env) {
  if (options.format != "text" && options.format != "json") {
    return usage_error(env, "--exposure prints text or json");
  }
  if (options.direction == "egress" || !options.filter.from.empty()) {
    return usage_error(env, "--exposure is about the ingress of workloads, whoever the source is");
  }
  std::vector<Exposure> list = exposure(engine.world);
  const auto unwanted = [&](const Exposure& e) {
    const ir::Pod& pod = engine.world.inventory.pods[e.pod];
    ir::GraphParty party;
    party.id = fmt::format("{}/{}/{}", pod.ns, pod.kind, pod.name);
    party.kind = "workload";
    return !is_named(party, options.filter.to) || !is_named(party, options.filter.focus);
  };
  const std::size_t all = list.size();
  list.erase(std::remove_if(list.begin(), list.end(), unwanted), list.end());
  if (list.empty() && all > 0) return usage_error(env, "no workload has the name that was given");
  env.out << (options.format == "json" ? exposure_json(engine.world, list)
                                       : exposure_text(engine.world, list));
  if (list.empty()) fmt::print(env.err, "policyc: no pods or workloads in the input\n");
  const bool open =
      std::any_of(list.begin(), list.end(), [](const Exposure& e) { return !e.unknown.empty(); });
  return account_for_refused(options, engine, open ? kUndecided : kOk, env);
}

int graph(GraphOptions& options, Env& env) {
  Engine engine;
  int code = kOk;
  if (!load_engine(options, env, engine, code)) return code;
  if (engine.world.policies.policies.empty() && engine.world.inventory.pods.empty()) {
    return usage_error(env, "neither policies nor pods or workloads in the input: nothing to draw");
  }
  if (options.exposure) return show_exposure(options, engine, env);
  if (options.direction == "ingress") options.filter.direction = ir::Direction::Ingress;
  if (options.direction == "egress") options.filter.direction = ir::Direction::Egress;
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
  const bool picture = options.format == "svg" || options.format == "html";
  if (picture && group_parties(g).size() > kMostParties) {
    return usage_error(env, fmt::format("{} parties that differ are more than a picture of {} can "
                                        "show; use json or csv",
                                        group_parties(g).size(), kMostParties));
  }
  if (options.format == "json") {
    env.out << graph_json(g);
  } else if (options.format == "csv") {
    env.out << graph_csv(g);
  } else if (options.format == "dot") {
    env.out << graph_dot(g);
  } else if (options.format == "mermaid") {
    env.out << graph_mermaid(g);
  } else if (options.format == "svg") {
    env.out << graph_svg(g, options.filter.any());
  } else if (options.format == "html") {
    env.out << graph_html(engine.world, g, options.filter.any());
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
  return account_for_refused(options, engine, g.unknown.empty() ? kOk : kUndecided, env);
}

}  // namespace

void add_graph(Cli& cli) {
  auto options = std::make_shared<GraphOptions>();
  CLI::App* command =
      cli.add("graph", "show who may talk to whom, end to end",
              "  policyc graph manifests/\n"
              "  policyc graph --focus shop/db --format dot . | dot -Tsvg > db.svg\n"
              "  policyc graph --format html . > connections.html\n"
              "  policyc graph --format json cluster-dump.yaml policies/");
  add_engine_options(*command, *options, PathArgument::Declare);
  command->add_option("--format", options->format, "text, json, csv, dot, mermaid, svg or html")
      ->check(CLI::IsMember({"text", "json", "csv", "dot", "mermaid", "svg", "html"}));
  command->add_option("--from", options->filter.from, "only connections from this party");
  command->add_option("--to", options->filter.to, "only connections to this party");
  command->add_option("--focus", options->filter.focus, "only connections that touch this party");
  command->add_option("--direction", options->direction, "judge only this half: ingress or egress")
      ->check(CLI::IsMember({"ingress", "egress"}));
  command->add_flag("--exposure", options->exposure,
                    "who may reach each workload, from any pod that could exist");
  cli.on_run(command, [options](Env& env) { return graph(*options, env); });
}

}  // namespace policyc::cli
