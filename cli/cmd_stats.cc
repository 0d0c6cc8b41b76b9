// policyc stats: sizes before a rollout.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/command.h"
#include "cli/engine.h"
#include "ir/entry_cost.h"
#include "ir/map_entries.h"
#include "ir/resolve.h"

namespace policyc::cli {
namespace {

struct StatsOptions : EngineOptions {
  std::string format = "text";
  std::size_t top = 10;
};

struct EndpointSize {
  const ir::NodeView* view;
  const ir::ResolvedEndpoint* endpoint;
  std::string name;
  std::size_t entries = 0;
};

struct Sizes {
  std::size_t policies = 0, refused = 0, rules = 0, selectors = 0, pods = 0, identities = 0;
  std::size_t tables = 0, classes = 0;  // distinct tables; identity classes of the finest
  std::vector<EndpointSize> endpoints;  // largest first
  std::size_t without_policy_map = 0;  // endpoints whose policy cannot be computed, or is not known
};

std::string name_of(const ir::World& world, const ir::NodeView& view,
                    const ir::ResolvedEndpoint& ep) {
  return ep.host ? "node/" + view.node : world.inventory.pods[ep.pods.front()].full_name();
}

Sizes measure(const ir::World& world, const ir::Resolved& resolved) {
  Sizes out;
  out.policies = world.policies.policies.size();
  for (const ir::Policy& p : world.policies.policies) out.refused += p.accepted ? 0 : 1;
  out.rules = world.policies.rules.size();
  out.pods = world.inventory.pods.size();
  std::set<std::string> selectors;
  for (const ir::Rule& rule : world.policies.rules) {
    selectors.insert(rule.subject.text());
    for (const ir::RuleItem& item : rule.items) {
      for (const ir::Peer& p : item.peers) selectors.insert(p.selector.text());
    }
  }
  out.selectors = selectors.size();
  out.identities = resolved.identities.size();
  std::set<const ir::PolicyTable*> tables;
  for (const ir::NodeView& view : resolved.views) {
    const std::vector<ir::IdentityIndex> identities = ir::agent_identities(resolved, view);
    for (const ir::ResolvedEndpoint& ep : view.endpoints) {
      if (!ep.error.empty() || !ep.depends_on.empty()) {
        ++out.without_policy_map;
        continue;
      }
      tables.insert({ep.ingress.get(), ep.egress.get()});
      out.endpoints.push_back(
          {&view, &ep, name_of(world, view, ep), ir::agent_entries(ep, identities)});
    }
  }
  out.tables = tables.size();
  for (const ir::PolicyTable* t : tables)
    out.classes = std::max<std::size_t>(out.classes, t->classes);
  std::stable_sort(
      out.endpoints.begin(), out.endpoints.end(),
      [](const EndpointSize& a, const EndpointSize& b) { return a.entries > b.entries; });
  return out;
}

void print_text(const StatsOptions& o, const Engine& engine, const ir::Resolved& resolved,
                const Sizes& s, Env& env) {
  const std::size_t limit = engine.world.settings.policy_map_max;
  fmt::print(env.out,
             "policies    {}{}\nrules       {}\nselectors   {}\npods        {}\nidentities  {}\n"
             "classes     {} at most\nendpoints   {}, with {} different tables\n",
             s.policies, s.refused > 0 ? fmt::format(" ({} refused)", s.refused) : "", s.rules,
             s.selectors, s.pods, s.identities, s.classes, s.endpoints.size(), s.tables);
  if (s.without_policy_map > 0) {
    fmt::print(env.out, "            {} more whose policy cannot be computed or is not known\n",
               s.without_policy_map);
  }
  std::size_t sum = 0;
  for (const EndpointSize& e : s.endpoints) sum += e.entries;
  fmt::print(env.out, "entries     {} in all policy maps; each holds {}\n", sum, limit);
  if (s.endpoints.empty()) return;
  fmt::print(env.out, "\nlargest policy maps\n");
  for (std::size_t i = 0; i < std::min(o.top, s.endpoints.size()); ++i) {
    const EndpointSize& e = s.endpoints[i];
    fmt::print(
        env.out, "{:>8}  {:>3} %  {}{}  on {}\n", e.entries, 100 * e.entries / limit, e.name,
        e.endpoint->pods.size() > 1 ? fmt::format(" and {} more", e.endpoint->pods.size() - 1) : "",
        e.view->node);
  }
  const EndpointSize& first = s.endpoints.front();
  fmt::print(env.out, "\ncostliest rules of {}\n", first.name);
  const auto costs = ir::entry_costs(engine.world, resolved, *first.view, *first.endpoint);
  for (std::size_t i = 0; i < std::min(o.top, costs.size()); ++i) {
    const ir::Policy& p = engine.world.policies.policies[costs[i].origin.policy];
    fmt::print(env.out, "{:>8}  {} {} ({})\n", costs[i].entries, p.ref.name, costs[i].origin.path,
               p.file);
  }
}

void print_json(const StatsOptions& o, const Engine& engine, const ir::Resolved& resolved,
                const Sizes& s, Env& env) {
  using Json = nlohmann::ordered_json;
  const std::size_t limit = engine.world.settings.policy_map_max;
  Json endpoints = Json::array();
  for (std::size_t i = 0; i < s.endpoints.size(); ++i) {
    const EndpointSize& e = s.endpoints[i];
    Json pods = Json::array();
    for (const std::size_t p : e.endpoint->pods) {
      pods.push_back(engine.world.inventory.pods[p].full_name());
    }
    Json entry = {{"name", e.name},
                  {"view", e.view->node},
                  {"pods", pods},
                  {"entries", e.entries},
                  {"ingress_classes", e.endpoint->ingress->classes},
                  {"egress_classes", e.endpoint->egress->classes}};
    if (i < o.top) {
      Json rules = Json::array();
      const auto costs = ir::entry_costs(engine.world, resolved, *e.view, *e.endpoint);
      for (std::size_t k = 0; k < std::min(o.top, costs.size()); ++k) {
        const ir::Policy& p = engine.world.policies.policies[costs[k].origin.policy];
        rules.push_back(
            {{"policy", {{"kind", p.ref.kind}, {"namespace", p.ref.ns}, {"name", p.ref.name}}},
             {"file", p.file},
             {"rule", costs[k].origin.path},
             {"entries", costs[k].entries}});
      }
      entry["rules"] = rules;
    }
    endpoints.push_back(std::move(entry));
  }
  const Json out = {{"version", 1},
                    {"policies", s.policies},
                    {"refused_policies", s.refused},
                    {"rules", s.rules},
                    {"selectors", s.selectors},
                    {"pods", s.pods},
                    {"identities", s.identities},
                    {"tables", s.tables},
                    {"classes", s.classes},
                    {"limit", limit},
                    {"not_computable", s.without_policy_map},
                    {"endpoints", endpoints}};
  env.out << out.dump(1, ' ', false, Json::error_handler_t::replace) << '\n';
}

int stats(StatsOptions& o, Env& env) {
  Engine engine;
  int code = kOk;
  if (!load_engine(o, env, engine, code)) return code;
  const ir::Resolved resolved = ir::resolve(engine.world);
  const Sizes sizes = measure(engine.world, resolved);
  (o.format == "json" ? print_json : print_text)(o, engine, resolved, sizes, env);
  print_timing(o.common, engine.input.loaded, env);
  const bool over = !sizes.endpoints.empty() &&
                    sizes.endpoints.front().entries > engine.world.settings.policy_map_max;
  return over ? kFindings : code;
}

}  // namespace

void add_stats(Cli& cli) {
  auto o = std::make_shared<StatsOptions>();
  CLI::App* command =
      cli.add("stats", "sizes before a rollout: policy map entries against the map's limit",
              "  policyc stats policies/ cluster.yaml\n"
              "  policyc stats --format json --top 3 .");
  add_engine_options(*command, *o, PathArgument::Declare);
  command->add_option("--format", o->format, "how to print")
      ->check(one_of({"text", "json"}))
      ->type_name("text|json");
  command->add_option("--top", o->top, "how many endpoints and rules are shown in detail")
      ->type_name("N");
  cli.on_run(command, [o](Env& env) { return stats(*o, env); });
}

}  // namespace policyc::cli
