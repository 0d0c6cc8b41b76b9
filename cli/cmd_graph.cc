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
  std::string from, to, focus;  // names
};

// The parties that --from, --to and --focus name. False after a message.
bool read_filter(const GraphOptions& options, const Engine& engine,
                 const std::vector<ir::GraphParty>& parties, GraphFilter& out, Env& env) {
  for (const auto& [name, ids] :
       {std::pair(&options.from, &out.from), std::pair(&options.to, &out.to),
        std::pair(&options.focus, &out.focus)}) {
    if (name->empty()) continue;
    auto meant = party_ids(engine.world, parties, *name, options.common.load.default_namespace);
    if (!meant) {
      usage_error(env, meant.error());
      return false;
    }
    *ids = std::move(*meant);
  }
  return true;
}

int show_exposure(GraphOptions& options, const Engine& engine, Env& env) {
  if (options.format != "text" && options.format != "json") {
    return usage_error(env, "--exposure prints text or json");
  }
  if (options.direction == "egress" || !options.from.empty()) {
    return usage_error(env, "--exposure is about the ingress of workloads, whoever the source is");
  }
  std::vector<Exposure> list = exposure(engine.world);
  GraphFilter filter;
  if (!read_filter(options, engine, ir::subject_parties(engine.world), filter, env)) return kUsage;
  std::erase_if(list, [&](const Exposure& e) {
    const std::string& id = e.party.id;
    return !GraphFilter::takes(filter.to, id) || !GraphFilter::takes(filter.focus, id);
  });
  env.out << (options.format == "json" ? exposure_json(list) : exposure_text(list));
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
  const ir::Resolved resolved =
      ir::resolve(engine.world, {.names = ir::policy_names(engine.world.policies)});
  const auto parties = ir::graph_parties(engine.world, resolved);
  GraphFilter filter;
  if (!read_filter(options, engine, parties, filter, env)) return kUsage;
  if (options.direction == "ingress") filter.direction = ir::Direction::Ingress;
  if (options.direction == "egress") filter.direction = ir::Direction::Egress;
  const Graph g = build_graph(engine.world, resolved, filter);
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
    env.out << graph_svg(g, filter.any());
  } else if (options.format == "html") {
    env.out << graph_html(engine.world, g, filter.any());
  } else {
    env.out << graph_text(g, filter.any());
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
  command->add_option("--from", options->from, "only connections from this party");
  command->add_option("--to", options->to, "only connections to this party");
  command->add_option("--focus", options->focus, "only connections that touch this party");
  command->add_option("--direction", options->direction, "judge only this half: ingress or egress")
      ->check(CLI::IsMember({"ingress", "egress"}));
  command->add_flag("--exposure", options->exposure,
                    "who may reach each workload, from any pod that could exist");
  cli.on_run(command, [options](Env& env) { return graph(*options, env); });
}

}  // namespace policyc::cli
