// policyc lint: what the API server, Cilium's agent and a careful colleague would say.
#include <chrono>
#include <memory>

#include "cli/command.h"
#include "cli/fix.h"
#include "cli/input.h"
#include "cli/options.h"
#include "cli/proof_log.h"
#include "cli/render.h"
#include "cli/silence.h"
#include "frontend/kustomization.h"
#include "frontend/lower.h"
#include "frontend/upgrade.h"
#include "ir/base/diag_code.h"
#include "ir/base/file.h"
#include "verifier/checks.h"

namespace policyc::cli {
namespace {

struct LintOptions : CommonOptions {
  std::string format = "text";
  std::string baseline;
  std::string write_baseline;
  std::string upgrade_to;
  std::string proof_log;
  bool deny_warnings = false;
  bool fix = false;
  bool cross_check = false;
};

// Findings that need more than one object. They go to `input.sink` like all others; levels,
// comments, baseline and output are applied afterwards.
void check_meaning(const LintOptions& o, Input& input, ProofLog* proofs) {
  if (input.loaded.policies.empty()) return;
  ir::World world;
  world.settings = input.settings;
  world.policies = frontend::lower(input.loaded, input.settings);
  if (!o.upgrade_to.empty()) {
    frontend::check_upgrade(o.load, input.loaded, input.settings, o.upgrade_to, input.sink);
  }
  const auto plugins = input.levels.find(DiagCode::PluginsDiffer);
  if (plugins != input.levels.end() && plugins->second != Severity::Off) {
    frontend::check_semantics(input.loaded, input.settings, input.sink);
  }
  world.inventory = std::move(input.loaded.inventory);
  CheckOptions options;
  options.roots = frontend::kustomization_roots(input.loaded);
  if (proofs != nullptr) {
    options.proofs = [&](const ProofStep& step) { proofs->hear(step); };
    if (o.cross_check) options.decider = [&](const Question& q) { return proofs->decide(q); };
  }
  run_checks(world, *input.loaded.sources, input.sink, options);
}

// Says what came of the questions. False, with the exit code, after a contradiction or where they
// could not be written.
bool report_proofs(const LintOptions& o, Env& env, ProofLog& proofs, int& exit_code) {
  if (o.cross_check) env.err << "policyc: cross-check: " << proofs.summary() << "\n";
  for (const std::string& c : proofs.contradictions()) {
    env.err << "policyc: the two engines disagree, which is a bug in policyc: " << c << "\n";
    exit_code = kInternal;
  }
  const auto failure = proofs.finish();
  if (failure) {
    usage_error(env, *failure);
    exit_code = kUsage;
  }
  return !failure && proofs.contradictions().empty();
}

// Reads the input and fills the sink with what is to be shown: judged, levels set, silenced
// findings taken out. False, with the exit code, when there is nothing to show.
bool judge(LintOptions& o, Env& env, Input& input, Summary& summary, int& exit_code) {
  if (!read_inputs(o, env, input, exit_code)) return false;
  frontend::Loaded& loaded = input.loaded;
  const SourceMap& sources = *loaded.sources;
  const auto start = std::chrono::steady_clock::now();
  if (loaded.policies.empty() && loaded.unreadable_files == 0 && !input.sink.has_errors()) {
    input.sink.report(DiagCode::NoPolicies, {}, "no policies found").help =
        "-v lists what was skipped and why";
  }
  std::optional<ProofLog> proofs;
  if (o.cross_check || !o.proof_log.empty()) proofs.emplace(o.proof_log, o.cross_check);
  check_meaning(o, input, proofs ? &*proofs : nullptr);
  if (proofs && !report_proofs(o, env, *proofs, exit_code)) return false;
  // Comments before levels: one for a finding that is switched off would otherwise count as
  // useless.
  summary.hidden = apply_allow_comments(sources, input.sink);
  apply_levels(input.levels, input.sink);
  input.sink.sort();
  exit_code = kUsage;
  if (!o.write_baseline.empty()) {
    const auto error =
        write_file_atomic(o.write_baseline, write_baseline(sources, input.sink.all()));
    if (error) {
      usage_error(env, "cannot write `" + o.write_baseline + "`: " + error->message);
      return false;
    }
  }
  const std::string baseline = !o.baseline.empty()         ? o.baseline
                               : !o.write_baseline.empty() ? o.write_baseline
                                                           : input.config.baseline;
  if (!baseline.empty()) {
    const auto text = read_file(baseline);
    if (!text) {
      usage_error(env, "cannot read `" + baseline + "`: " + text.error());
      return false;
    }
    const auto taken = apply_baseline(*text, sources, input.sink);
    if (!taken) {
      usage_error(env, "`" + baseline + "`: " + taken.error());
      return false;
    }
    summary.hidden += *taken;
  }
  summary.files = loaded.files;
  summary.documents = loaded.documents;
  summary.policies = loaded.policies.size();
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  loaded.timings.push_back({"lint", spent.count()});
  return true;
}

int print(const LintOptions& o, Env& env, Input& input, const Summary& summary) {
  const auto start = std::chrono::steady_clock::now();
  frontend::Loaded& loaded = input.loaded;
  if (o.quiet) {
    std::erase_if(input.sink.all(),
                  [](const Diagnostic& d) { return d.severity == Severity::Note; });
  }
  const Format format = *parse_format(o.format);
  const Report report{*loaded.sources, input.sink.all(), summary};
  render(report, format, {use_color(o, env.out_terminal)}, env.out);
  if (format == Format::Text && !o.quiet) render_summary(report, env.out);
  print_skipped(o, loaded, env);
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  loaded.timings.push_back({"print", spent.count()});
  print_timing(o, loaded, env);

  if (loaded.unopened > 0 || loaded.bad_settings > 0) return kUsage;
  const bool warnings_count = o.deny_warnings || input.config.deny_warnings;
  const bool bad = count(input.sink.all(), Severity::Error) > 0 ||
                   (warnings_count && count(input.sink.all(), Severity::Warning) > 0);
  return bad ? kFindings : kOk;
}

int lint(LintOptions& o, Env& env) {
  if (o.cross_check && !Solver::available()) {
    env.err << "policyc: --cross-check needs Z3, which this build is without\n";
    return kImpossible;
  }
  std::size_t fixed = 0;
  // A repair may bring to light what it hid (a policy under a misspelt kind), and of overlapping
  // repairs one is made at a time: look again until nothing changes.
  for (int round = 0;; ++round) {
    Input input;
    Summary summary;
    int exit_code = kOk;
    if (!judge(o, env, input, summary, exit_code)) return exit_code;
    FixResult result;
    if (o.fix && round < 10) result = apply_fixes(*input.loaded.sources, input.sink);
    fixed += result.fixed;
    if (result.fixed > 0 && result.problems.empty()) continue;
    for (const std::string& problem : result.problems) usage_error(env, problem);
    summary.fixed = fixed;
    const int code = print(o, env, input, summary);
    return result.problems.empty() ? code : kUsage;
  }
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
                              "  policyc lint --cross-check --proof-log proofs/ .\n"
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
  command->add_flag("--cross-check", o->cross_check,
                    "put every question of a proof to Z3, too; a difference is a bug (exit 70)");
  command
      ->add_option("--proof-log", o->proof_log,
                   "write every question of a proof to DIR in SMT-LIB 2, with an index.json")
      ->type_name("DIR");
  cli.on_run(command, [o](Env& env) { return lint(*o, env); });
}

}  // namespace policyc::cli
