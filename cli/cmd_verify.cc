// policyc verify: compiled programs and images proved to do what the policies say.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "backend-bpf/artefact.h"
#include "backend-bpf/capture.h"
#include "cli/command.h"
#include "cli/engine.h"
#include "cli/render.h"
#include "cli/verification.h"
#include "ir/resolve.h"
#include "verifier/terms_solver.h"

namespace policyc::cli {
namespace {

using nlohmann::ordered_json;

struct VerifyCommand : EngineOptions {
  std::vector<std::string> arguments;  // DIR, then PATHs
  std::string format = "text";
  std::string vlan = "drop";
  bool thorough = false;
  std::string witness;    // where a packet that refutes goes
  std::string proof_log;  // where the solver's questions go
};

int verify_artefacts(VerifyCommand& options, Env& env) {
  if (!verify::TermSolver::available()) {
    fmt::print(env.err,
               "policyc: this build has no solver; build it with libz3-dev and -DPOLICYC_Z3=ON\n");
    return kImpossible;
  }
  const std::string directory = options.arguments.front();
  options.common.load.paths.assign(options.arguments.begin() + 1, options.arguments.end());
  Engine engine;
  int code = kOk;
  if (!load_engine(options, env, engine, code)) return code;
  auto manifest = bpf::read_manifest(directory);
  if (!manifest) return usage_error(env, manifest.error());
  VerifyRequest request;
  request.directory = directory;
  request.vlan = options.vlan == "allow";
  request.complete = true;
  request.thorough = options.thorough;
  ProofFolder proofs(options.proof_log);
  if (!options.proof_log.empty()) request.proofs = &proofs;
  const auto verified =
      verify_directory(request, engine.world, ir::resolve(engine.world), *manifest);
  if (!verified) return usage_error(env, verified.error());
  if (const auto failure = proofs.finish()) return usage_error(env, *failure);
  const std::size_t proved = verified->count(ProofAnswer::Proved);
  const std::size_t refuted = verified->count(ProofAnswer::Refuted);
  const std::size_t not_proved = verified->count(ProofAnswer::NotProved);
  if (!options.witness.empty() && !verified->witnesses.empty()) {
    const auto written = bpf::write_capture(options.witness, verified->witnesses);
    if (!written) return usage_error(env, written.error());
  }
  if (options.format == "json") {
    ordered_json out;
    out["version"] = 1;
    out["items"] = ordered_json::array();
    for (const ProofLine& l : verified->lines) {
      out["items"].push_back(
          {{"what", l.what}, {"answer", proof_word(l.answer)}, {"detail", l.detail}});
    }
    out["summary"] = {{"proved", proved}, {"refuted", refuted}, {"not_proved", not_proved}};
    env.out << out.dump(1, ' ', false, ordered_json::error_handler_t::replace) << "\n";
  } else {
    for (const ProofLine& l : verified->lines) {
      fmt::print(env.out, "{:<10}  {}{}\n", proof_word(l.answer), printable(l.what),
                 l.detail.empty() ? "" : "  (" + printable(l.detail) + ")");
    }
    fmt::print(env.out, "{} proved, {} refuted, {} not proved\n", proved, refuted, not_proved);
  }
  if (refuted != 0) return kFindings;
  return account_for_refused(options, engine, not_proved != 0 ? kUndecided : kOk, env);
}

}  // namespace

void add_verify(Cli& cli) {
  auto options = std::make_shared<VerifyCommand>();
  CLI::App* command =
      cli.add("verify", "prove that compiled programs and tables do what the policies say",
              "  policyc verify out/ manifests/\n"
              "  policyc verify out/ --format json --witness wrong.pcap manifests/\n"
              "  policyc verify out/ --proof-log proofs/ manifests/");
  add_engine_options(*command, *options, PathArgument::None);
  command->add_option("arguments", options->arguments, "what `compile` wrote, then PATHs")
      ->required()
      ->type_name("DIR PATH…");
  command->add_option("--format", options->format, "text or json")
      ->check(one_of({"text", "json"}))
      ->type_name("text|json");
  command->add_option("--vlan", options->vlan, "frames with VLAN tags, as given to compile")
      ->check(one_of({"drop", "allow"}))
      ->type_name("drop|allow");
  command->add_flag("--thorough", options->thorough,
                    "with connection tracking: IPv6 packets with more than one extension header, "
                    "too (some five minutes)");
  command
      ->add_option("--witness", options->witness,
                   "write packets for which a program is wrong to FILE")
      ->type_name("FILE.pcap");
  command
      ->add_option("--proof-log", options->proof_log,
                   "write every question to the solver to DIR in SMT-LIB 2, with an index.json")
      ->type_name("DIR");
  cli.on_run(command, [options](Env& env) { return verify_artefacts(*options, env); });
}

}  // namespace policyc::cli
