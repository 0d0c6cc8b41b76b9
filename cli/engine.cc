#include "cli/engine.h"

#include <fmt/format.h>
#include <fmt/ostream.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "cli/command.h"
#include "cli/suggest.h"
#include "frontend/lower.h"
#include "ir/base/text.h"

namespace policyc::cli {
namespace {

constexpr const char* kLeftOut = "left out by --without";

// How well the text names the policy: by kind (its short name too), namespace and name; all of it,
// or the name with or without one of the others. 0: not at all.
int names_policy(const PolicyRef& ref, const std::string& text) {
  static const std::map<std::string, std::vector<std::string>> kKinds = {
      {"CiliumNetworkPolicy", {"cnp", "ciliumnetworkpolicies"}},
      {"CiliumClusterwideNetworkPolicy", {"ccnp", "ciliumclusterwidenetworkpolicies"}},
      {"NetworkPolicy", {"netpol", "networkpolicies"}},
  };
  std::vector<std::string> kinds = {lower(ref.kind)};
  if (const auto it = kKinds.find(ref.kind); it != kKinds.end()) {
    kinds.insert(kinds.end(), it->second.begin(), it->second.end());
  }
  const std::size_t slash = text.find('/');
  const std::string head = lower(text.substr(0, slash));
  const std::string own = ref.ns.empty() ? ref.name : ref.ns + "/" + ref.name;
  if (slash != std::string::npos && std::find(kinds.begin(), kinds.end(), head) != kinds.end()) {
    const std::string rest = text.substr(slash + 1);
    if (rest == own) return 2;
    if (rest == ref.name) return 1;
  }
  return text == own || text == ref.name ? 1 : 0;
}

// Leaves the policies out that the name stands for. Empty, or what is wrong with the name.
std::string leave_out(frontend::Loaded& loaded, const std::string& name) {
  std::map<PolicyRef, std::vector<frontend::LoadedPolicy*>> found;
  std::set<PolicyRef> all;
  std::vector<std::string> names;
  int best = 1;
  for (frontend::LoadedPolicy& policy : loaded.policies) {
    const PolicyRef ref{frontend::policy_kind_name(policy.ast.kind), policy.ns,
                        policy.ast.name.text};
    all.insert(ref);
    names.push_back(ref.name);
    const int how = names_policy(ref, name);
    if (how < best) continue;
    if (how > best) found.clear();
    best = how;
    found[ref].push_back(&policy);
  }
  if (found.empty()) {
    const std::string near = nearest_name(name.substr(name.rfind('/') + 1), names);
    std::string meant;
    for (const PolicyRef& ref : all) {
      if (ref.name == near) meant += (meant.empty() ? "; there is " : ", ") + ref.str();
    }
    return fmt::format("no policy is called `{}`{}", name, meant);
  }
  if (found.size() > 1) {
    std::vector<std::string> candidates;
    for (const auto& [ref, list] : found) candidates.push_back(ref.str());
    return fmt::format("`{}` may be {}", name, fmt::join(candidates, " or "));
  }
  for (frontend::LoadedPolicy* policy : found.begin()->second) {
    policy->ast.accepted = false;
    policy->ast.error = kLeftOut;
    policy->alternatives.clear();
  }
  return "";
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
    if (const std::string wrong = leave_out(loaded, name); !wrong.empty()) {
      exit_code = usage_error(env, "--without: " + wrong);
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
