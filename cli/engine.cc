#include "cli/engine.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <set>

#include "cli/command.h"
#include "frontend/lower.h"

namespace policyc::cli {
namespace {

constexpr const char* kLeftOut = "left out by --without";

// "CiliumNetworkPolicy/ns/name" or with the kind's short name.
bool names_policy(const frontend::LoadedPolicy& policy, const std::string& text) {
  const PolicyRef ref{frontend::policy_kind_name(policy.ast.kind), policy.ns, policy.ast.name.text};
  PolicyRef brief = ref;
  if (ref.kind == "CiliumNetworkPolicy") brief.kind = "cnp";
  if (ref.kind == "CiliumClusterwideNetworkPolicy") brief.kind = "ccnp";
  if (ref.kind == "NetworkPolicy") brief.kind = "netpol";
  return text == ref.str() || text == brief.str();
}

// Alternatives (overlays, variants) never hold together: the user chooses.
bool choose_alternatives(const frontend::Loaded& loaded, Env& env) {
  for (const frontend::LoadedPolicy& policy : loaded.policies) {
    if (policy.alternatives.empty()) continue;
    const PolicyRef ref{frontend::policy_kind_name(policy.ast.kind), policy.ns,
                        policy.ast.name.text};
    fmt::print(env.err, "policyc: {} is there more than once; choose one of\n", ref.str());
    std::set<std::string> places = {loaded.sources->place(policy.ast.kind_range)};
    for (const std::size_t other : policy.alternatives) {
      places.insert(loaded.sources->place(loaded.policies[other].ast.kind_range));
    }
    for (const std::string& place : places) fmt::print(env.err, "  {}\n", place);
    fmt::print(env.err,
               "  by giving the path of one overlay, or with --exclude GLOB for the others\n");
    return false;
  }
  return true;
}

}  // namespace

void add_engine_options(CLI::App& command, EngineOptions& options, PathArgument paths) {
  add_common_options(command, options.common, paths);
  add_repeated(command, "--with", options.with, "add the objects of FILE for this question");
  add_repeated(command, "--without", options.without,
               "leave out a policy for this question: KIND/NS/NAME (cnp/default/a)");
}

bool load_engine(EngineOptions& options, Env& env, Engine& engine, int& exit_code) {
  auto& paths = options.common.load.paths;
  paths.insert(paths.end(), options.with.begin(), options.with.end());
  if (!load_inputs(options.common, env, engine.input, exit_code)) return false;
  frontend::Loaded& loaded = engine.input.loaded;
  for (const std::string& name : options.without) {
    bool found = false;
    for (frontend::LoadedPolicy& policy : loaded.policies) {
      if (!names_policy(policy, name)) continue;
      found = true;
      policy.ast.accepted = false;
      policy.ast.error = kLeftOut;
      policy.alternatives.clear();
    }
    if (!found) {
      exit_code = usage_error(env, fmt::format("--without: no policy is called `{}`", name));
      return false;
    }
  }
  if (!choose_alternatives(loaded, env)) {
    exit_code = kUsage;
    return false;
  }
  engine.world.settings = engine.input.settings;
  engine.world.policies = frontend::lower(loaded, engine.input.settings);
  engine.world.inventory = std::move(loaded.inventory);
  return true;
}

int account_for_refused(const EngineOptions& options, const Engine& engine, int code, Env& env) {
  return account_for_refused(options, {{"", &engine}}, code, env);
}

int account_for_refused(const EngineOptions& options,
                        const std::vector<std::pair<std::string, const Engine*>>& sides, int code,
                        Env& env) {
  const CommonOptions& o = options.common;
  if (code != kOk || o.keep_going || !o.load.world.empty()) return code;
  std::vector<std::string> lines;
  bool pruned = false;
  for (const auto& [side, engine] : sides) {
    for (const ir::Policy& p : engine->world.policies.policies) {
      if (p.accepted || p.error == kLeftOut) continue;
      const bool unknown_field = p.layer == Layer::UnknownField;
      if (unknown_field && o.unknown_fields == "reject") continue;
      pruned = pruned || unknown_field;
      lines.push_back(
          fmt::format("  {}{}{}: {}", side, side.empty() ? "" : ": ", p.ref.str(), p.error));
    }
  }
  if (lines.empty()) return code;
  fmt::print(env.err, "policyc: left out, because the cluster refuses {}:\n",
             lines.size() == 1 ? "it" : "them");
  for (const std::string& line : lines) fmt::print(env.err, "{}\n", line);
  if (pruned) {
    fmt::print(env.err,
               "  an API server that is not asked to be strict drops unknown fields and takes the "
               "rest: --unknown-fields prune|reject says which\n");
  }
  fmt::print(env.err, "  mend {}, or accept this with --keep-going\n",
             lines.size() == 1 ? "it" : "them");
  return kUndecided;
}

}  // namespace policyc::cli
