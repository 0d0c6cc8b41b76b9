// policyc lint: what the API server, Cilium's agent and a careful colleague would say.
#include <chrono>
#include <memory>

#include "cli/command.h"
#include "cli/fix.h"
#include "cli/input.h"
#include "cli/options.h"
#include "cli/render.h"
#include "cli/silence.h"
#include "frontend/lower.h"
#include "frontend/upgrade.h"
#include "ir/base/file.h"
#include "verifier/checks.h"

namespace policyc::cli {
namespace {

struct LintOptions : CommonOptions {
  std::string format = "text";
  std::string baseline;
  std::string write_baseline;
  std::string upgrade_to;
  bool deny_warnings = false;
  bool fix = false;
};

// Findings that need more than one object. They go to `input.sink` like all others; levels,
// comments, baseline and output are applied afterwards.
void check_meaning(const LintOptions& o, Input& input) {
  if (input.loaded.policies.empty()) return;
  ir::World world;
  world.settings = input.settings;
  world.policies = frontend::lower(input.loaded, input.settings, input.sink);
  if (!o.upgrade_to.empty()) {
    frontend::check_upgrade(o.load, input.loaded, input.settings, o.upgrade_to, input.sink);
  }
  const auto plugins = input.levels.find(DiagCode::PluginsDiffer);
  if (plugins != input.levels.end() && plugins->second != Severity::Off) {
    frontend::check_semantics(input.loaded, input.settings, input.sink);
  }
  world.inventory = std::move(input.loaded.inventory);
  run_checks(world, *input.loaded.sources, input.sink);
}

int lint(LintOptions& o, Env& env) {
  Input input;
  int exit_code = kOk;
  if (!read_inputs(o, env, input, exit_code)) return exit_code;
  frontend::Loaded& loaded = input.loaded;
  const SourceMap& sources = *loaded.sources;
  auto clock = std::chrono::steady_clock::now();
  auto phase = [&](std::string name) {
    const auto now = std::chrono::steady_clock::now();
    loaded.timings.push_back({std::move(name), std::chrono::duration<double>(now - clock).count()});
    clock = now;
  };

  if (loaded.policies.empty() && loaded.unreadable_files == 0) {
    input.sink.report(DiagCode::NoPolicies, {}, "no policies found").help =
        "-v lists what was skipped and why";
  }
  check_meaning(o, input);
  phase("lint");

  Summary summary;
  // Levels first: a comment for a finding that is switched off would otherwise count as useless.
  const std::size_t allowed = apply_allow_comments(sources, input.sink);
  apply_levels(input.levels, input.sink);
  input.sink.sort();
  summary.hidden = allowed;
  if (!o.write_baseline.empty()) {
    if (auto error =
            write_file_atomic(o.write_baseline, write_baseline(sources, input.sink.all()))) {
      return usage_error(env, "cannot write `" + o.write_baseline + "`: " + error->message);
    }
  }
  const std::string baseline = !o.baseline.empty()         ? o.baseline
                               : !o.write_baseline.empty() ? o.write_baseline
                                                           : input.config.baseline;
  if (!baseline.empty()) {
    const auto text = read_file(baseline);
    if (!text) return usage_error(env, "cannot read `" + baseline + "`: " + text.error());
    const auto taken = apply_baseline(*text, sources, input.sink);
    if (!taken) return usage_error(env, "`" + baseline + "`: " + taken.error());
    summary.hidden += *taken;
  }
  if (o.fix) {
    FixResult result = apply_fixes(sources, input.sink);
    summary.fixed = result.fixed;
    for (const std::string& problem : result.problems) exit_code = usage_error(env, problem);
  }
  if (o.quiet) {
    std::erase_if(input.sink.all(),
                  [](const Diagnostic& d) { return d.severity == Severity::Note; });
  }

  summary.files = loaded.files;
  summary.documents = loaded.documents;
  summary.policies = loaded.policies.size();
  const Format format = *parse_format(o.format);
  const Report report{sources, input.sink.all(), summary};
  render(report, format, {use_color(o, env.out_terminal)}, env.out);
  if (format == Format::Text && !o.quiet) render_summary(report, env.out);
  print_skipped(o, loaded, env);
  phase("print");
  print_timing(o, loaded, env);

  if (loaded.unopened > 0 || loaded.bad_settings > 0) return kUsage;
  if (exit_code != kOk) return exit_code;
  const bool warnings_count = o.deny_warnings || input.config.deny_warnings;
  const bool bad = count(input.sink.all(), Severity::Error) > 0 ||
                   (warnings_count && count(input.sink.all(), Severity::Warning) > 0);
  return bad ? kFindings : kOk;
}

}  // namespace

void add_lint(Cli& cli) {
  auto o = std::make_shared<LintOptions>();
  CLI::App* command = cli.add("lint", "check policies without a cluster",
                              "  policyc lint policies/\n"
                              "  policyc lint -n shop --profile cilium-1.17 netpol.yaml\n"
                              "  helm template ./chart | policyc lint -\n"
                              "  policyc lint --format sarif . > policyc.sarif\n"
                              "  policyc lint --level POL0165=off --deny-warnings .\n"
                              "  policyc lint --upgrade-to cilium-1.20 .\n"
                              "  policyc lint --write-baseline .policyc-baseline.json .");
  add_common_options(*command, *o);
  std::vector<std::string> releases;
  for (const ir::Profile& p : ir::all_profiles()) releases.emplace_back(p.name);
  command
      ->add_option("--upgrade-to", o->upgrade_to, "report what another release reads differently")
      ->check(one_of(releases))
      ->type_name("cilium-1.16|…|cilium-1.20");
  command->add_option("--format", o->format, "how to print findings")
      ->check(one_of(format_names()))
      ->type_name("text|json|sarif|github|gitlab|junit");
  command->add_flag("--deny-warnings", o->deny_warnings, "exit 1 on warnings too");
  command->add_flag("--fix", o->fix, "repair what can be repaired with certainty, in place");
  command->add_option("--baseline", o->baseline, "hide the findings recorded in FILE")
      ->type_name("FILE");
  command->add_option("--write-baseline", o->write_baseline, "record all findings in FILE")
      ->type_name("FILE");
  cli.on_run(command, [o](Env& env) { return lint(*o, env); });
}

}  // namespace policyc::cli
