// policyc compile: BPF programs and table images for the endpoints of the input.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <memory>

#include "backend-bpf/artefact.h"
#include "backend-bpf/cilium_artefact.h"
#include "cli/allocations.h"
#include "cli/command.h"
#include "cli/engine.h"
#include "cli/question.h"
#include "cli/render.h"
#include "cli/verification.h"
#include "ir/base/diag_code.h"
#include "ir/base/file.h"
#include "ir/base/sha256.h"
#include "ir/print.h"
#include "ir/resolve.h"
#include "verifier/terms_solver.h"

namespace policyc::cli {
namespace {

struct CompileCommand : EngineOptions {
  std::string directory;
  std::string target = "standalone";
  std::string l7 = "proxy";
  std::vector<std::string> agent_dumps;
  std::string vlan = "drop";
  bool stateful = false;
  bool events = false;
  std::string prelude;
  std::vector<std::string> endpoints;
  std::vector<std::string> emit;
  // Neither: what can be proved is, and what cannot is only said.
  bool verify = false, no_verify = false;
};

// The endpoints that `names` stand for. False after a message.
bool choose_endpoints(const CompileCommand& options, const ir::World& world,
                      const ir::Resolved& resolved,
                      std::vector<std::pair<std::size_t, std::size_t>>& out, Env& env) {
  for (const std::string& name : options.endpoints) {
    const auto side = resolve_side(world, name, options.common.load.default_namespace);
    if (!side) {
      usage_error(env, fmt::format("--endpoint: {}", side.error()));
      return false;
    }
    const std::vector<ir::Party> parties = side->pod_by_pod().parties;
    const std::size_t before = out.size();
    for (std::size_t v = 0; v < resolved.views.size(); ++v) {
      const auto& endpoints = resolved.views[v].endpoints;
      for (std::size_t e = 0; e < endpoints.size(); ++e) {
        const bool wanted =
            std::any_of(parties.begin(), parties.end(), [&](const ir::Party& party) {
              if (const auto* pod = std::get_if<ir::PodParty>(&party)) {
                return std::find(endpoints[e].pods.begin(), endpoints[e].pods.end(), pod->pod) !=
                       endpoints[e].pods.end();
              }
              const auto* node = std::get_if<ir::NodeParty>(&party);
              return node != nullptr && endpoints[e].host &&
                     world.inventory.nodes[node->node].name == resolved.views[v].node;
            });
        if (wanted) out.emplace_back(v, e);
      }
    }
    if (out.size() == before) {
      usage_error(env, fmt::format("--endpoint: `{}` is no endpoint of the input", name));
      return false;
    }
  }
  return true;
}

DiagCode refusal_code(bpf::Refusal refusal) {
  switch (refusal) {
    case bpf::Refusal::Error:
      return DiagCode::PolicyNotComputable;
    case bpf::Refusal::Depends:
      return DiagCode::PolicyDepends;
    case bpf::Refusal::TooLarge:
      return DiagCode::PolicyTooLarge;
    case bpf::Refusal::MapFull:
      return DiagCode::PolicyMapFull;
    case bpf::Refusal::NoLayout:
      return DiagCode::NotInMapLayout;
  }
  return DiagCode::PolicyNotComputable;
}

// Reads the dumps, each FILE or NODE=FILE. False after a message.
bool read_dumps(const CompileCommand& options, const ir::Resolved& resolved,
                bpf::CiliumTarget& target, Env& env) {
  const auto known = [&](const std::string& node) {
    return std::any_of(resolved.views.begin(), resolved.views.end(),
                       [&](const ir::NodeView& v) { return v.node == node; });
  };
  for (const std::string& argument : options.agent_dumps) {
    std::string node, file = argument;
    if (const std::size_t equals = argument.find('='); equals != std::string::npos) {
      node = argument.substr(0, equals);
      file = argument.substr(equals + 1);
    }
    const auto text = read_file(file);
    if (!text) {
      usage_error(env, fmt::format("--agent-dump: {}: {}", file, text.error()));
      return false;
    }
    bpf::AgentDump dump;
    std::string told;
    if (const auto read = bpf::read_agent_dump(*text, dump, told); !read) {
      usage_error(env, fmt::format("--agent-dump: {}: {}", file, read.error()));
      return false;
    }
    if (node.empty()) node = told;
    if (node.empty() && resolved.views.size() > 1) {
      usage_error(env, fmt::format("--agent-dump: whose dump is {}? The input has {} nodes: write "
                                   "--agent-dump NODE={}",
                                   file, resolved.views.size(), file));
      return false;
    }
    if (!node.empty() && !known(node)) {
      usage_error(env, fmt::format("--agent-dump: `{}` is no node of the input", node));
      return false;
    }
    // Again into what is known of the node already: several dumps make one.
    if (const auto read = bpf::read_agent_dump(*text, target.dumps[node], told); !read) {
      usage_error(env, fmt::format("--agent-dump: {}: {}", file, read.error()));
      return false;
    }
  }
  return true;
}

// Proves what was written; says what is not proved, and gives the exit code.
int verify_written(const CompileCommand& options, const Engine& engine,
                   const ir::Resolved& resolved, const bpf::CompileOptions& compile, Env& env) {
  if (!verify::TermSolver::available()) {
    fmt::print(env.err, "policyc: this build has no solver: nothing is proved\n");
    return options.verify ? kImpossible : kOk;
  }
  auto manifest = bpf::read_manifest(options.directory);
  if (!manifest) return usage_error(env, manifest.error());
  VerifyRequest request;
  request.directory = options.directory;
  request.vlan = compile.vlan;
  request.cache = proof_cache();
  request.quick = !options.verify;
  for (const auto& [view, endpoint] : compile.only) {
    const ir::NodeView& v = resolved.views[view];
    request.only.insert(bpf::endpoint_names(engine.world, v, v.endpoints[endpoint]));
  }
  const auto verified = verify_directory(request, engine.world, resolved, *manifest);
  if (!verified) return usage_error(env, verified.error());
  const std::size_t refuted = verified->count(ProofAnswer::Refuted);
  const std::size_t not_proved = verified->count(ProofAnswer::NotProved);
  for (const ProofLine& l : verified->lines) {
    if (l.answer == ProofAnswer::Proved) continue;
    if (l.answer == ProofAnswer::NotProved && options.common.quiet && !options.verify) continue;
    fmt::print(env.err, "policyc: {}: {}: {}\n", proof_word(l.answer), printable(l.what),
               printable(l.detail));
  }
  if (!options.common.quiet) {
    fmt::print(env.out, "{} proved, {} refuted, {} not proved\n",
               verified->count(ProofAnswer::Proved), refuted, not_proved);
  }
  return refuted != 0 ? kFindings : not_proved != 0 && options.verify ? kUndecided : kOk;
}

int compile(CompileCommand& options, Env& env) {
  const bool cilium = options.target == "cilium";
  if (cilium && options.l7 != "proxy") {
    return usage_error(env,
                       "--l7 kernel is for --target standalone: Cilium's maps hold no HTTP rules");
  }
  if (cilium &&
      (options.stateful || options.events || !options.prelude.empty() || options.vlan != "drop")) {
    return usage_error(env,
                       "--stateful, --events, --prelude and --vlan are about programs: --target "
                       "cilium writes none");
  }
  const bool provable = !cilium && options.emit.empty();
  if (options.verify && !provable) {
    return usage_error(env,
                       "--verify is about programs and tables: not with --target cilium, --emit");
  }
  if (!cilium && !options.agent_dumps.empty()) {
    return usage_error(env, "--agent-dump is for --target cilium");
  }
  Engine engine;
  int code = kOk;
  if (!load_engine(options, env, engine, code)) return code;
  if (engine.world.settings.kubernetes_semantics) {
    return usage_error(env,
                       "compile emits what Cilium does; --semantics kubernetes does not apply");
  }
  const ir::Resolved resolved = ir::resolve(engine.world);
  bpf::CompileOptions compile;
  compile.directory = options.directory;
  compile.tool = "policyc " POLICYC_VERSION;
  if (!choose_endpoints(options, engine.world, resolved, compile.only, env)) return kUsage;
  const bool any = std::any_of(resolved.views.begin(), resolved.views.end(),
                               [](const ir::NodeView& v) { return !v.endpoints.empty(); });
  if (!any) {
    return usage_error(env,
                       "no pods or workloads in the input: there is no endpoint to compile for");
  }
  const std::vector<std::string> names = ir::policy_names(engine.world.policies);
  if (!names.empty() && !engine.world.inventory.fqdn && !options.common.quiet) {
    fmt::print(env.err,
               "policyc: {} of toFQDNs ha{} no address here, so the tables let nothing through by "
               "{} (first: {}); --fqdn FILE gives addresses\n",
               names.size() == 1 ? "a name" : fmt::format("{} names", names.size()),
               names.size() == 1 ? "s" : "ve", names.size() == 1 ? "it" : "them", names.front());
  }
  for (FileId file = 0; file < engine.sources().size(); ++file) {
    compile.inputs.push_back(
        {engine.sources().path(file), sha256_hex(engine.sources().text(file))});
  }
  const auto emits = [&](const char* what) {
    return options.emit.empty() ||
           std::find(options.emit.begin(), options.emit.end(), what) != options.emit.end();
  };
  compile.http = options.l7 == "kernel";
  compile.vlan = options.vlan == "allow";
  compile.stateful = options.stateful;
  compile.events = options.events;
  if (!options.prelude.empty()) {
    auto text = bpf::read_artefact(options.prelude);
    if (!text) return usage_error(env, text.error());
    compile.prelude = std::move(*text);
    compile.prelude_file = options.prelude;
  }
  compile.emit_c = emits("c");
  compile.emit_objects = emits("obj");
  compile.emit_maps = emits("maps");
  compile.more["allocations.json"] = allocations_json(engine.world, resolved);
  if (emits("ir")) compile.more["ir.txt"] = ir::print(engine.world.policies, engine.sources());

  bpf::CiliumTarget target;
  if (cilium) {
    target.layout = bpf::find_cilium_layout(engine.world.settings.profile);
    if (target.layout == nullptr) {
      return usage_error(env,
                         fmt::format("the map layout of {} is not known; --profile cilium-1.17 "
                                     "and later are",
                                     engine.world.settings.profile));
    }
    if (!read_dumps(options, resolved, target, env)) return kUsage;
  } else {
    compile.more.merge(bpf::proxy_files(engine.world, resolved, compile).files);
  }
  const bpf::CompileReport report =
      cilium ? bpf::compile_cilium(engine.world, resolved, compile, target)
             : bpf::compile(engine.world, resolved, compile);
  switch (report.status) {
    case bpf::CompileReport::Status::Done:
      break;
    case bpf::CompileReport::Status::NoCompiler:
      fmt::print(env.err, "policyc: {}\n", report.message);
      return kImpossible;
    case bpf::CompileReport::Status::PreludeRejected:
    case bpf::CompileReport::Status::CannotWrite:
      return usage_error(env, report.message);
    case bpf::CompileReport::Status::Failed:
      fmt::print(env.err,
                 "policyc: internal error: {}\nThis is a bug in policyc. Please report it with the "
                 "input that shows it.\n",
                 report.message);
      return kInternal;
  }
  for (const bpf::RefusedEndpoint& r : report.refused) {
    const DiagCode diag = refusal_code(r.refusal);
    fmt::print(env.err, "policyc: error[{}]: no {} for {}: {}\n", diag_name(diag),
               cilium ? "policy map" : "program", r.name, r.why);
    // What is wrong outweighs what is not known.
    if (r.refusal != bpf::Refusal::Depends) {
      code = kFindings;
    } else if (code == kOk) {
      code = kUndecided;
    }
  }
  for (const auto& [name, why] : report.left_to_proxy) {
    fmt::print(env.err, "policyc: warning[{}]: HTTP rules of {} stay with the proxy: {}\n",
               diag_name(DiagCode::HttpLeftToProxy), name, why);
  }
  if (!options.common.quiet && cilium) {
    fmt::print(env.out, "{}: {} endpoint{}, {} image{}, {} file{} written\n", options.directory,
               report.endpoints, report.endpoints == 1 ? "" : "s", report.images,
               report.images == 1 ? "" : "s", report.written, report.written == 1 ? "" : "s");
  } else if (!options.common.quiet) {
    fmt::print(env.out,
               "{}: {} endpoint{}, {} program{} ({} compiled now), {} image{}, {} file{} written\n",
               options.directory, report.endpoints, report.endpoints == 1 ? "" : "s",
               report.programs, report.programs == 1 ? "" : "s", report.compiled, report.images,
               report.images == 1 ? "" : "s", report.written, report.written == 1 ? "" : "s");
  }
  if (provable && !options.no_verify) {
    const int proof = verify_written(options, engine, resolved, compile, env);
    if (proof == kFindings || code == kOk) code = proof;
  }
  print_timing(options.common, engine.input.loaded, env);
  return account_for_refused(options, engine, code, env);
}

}  // namespace

void add_compile(Cli& cli) {
  auto options = std::make_shared<CompileCommand>();
  CLI::App* command =
      cli.add("compile", "write BPF programs and table images for every endpoint",
              "  policyc compile -o out/ manifests/\n"
              "  policyc compile -o out/ --endpoint shop/db --emit c,maps .\n"
              "  policyc compile -o out/ --target cilium --agent-dump ipcache.json .");
  add_engine_options(*command, *options, PathArgument::Declare);
  command->add_option("-o,--output", options->directory, "directory for the output")
      ->required()
      ->type_name("DIR");
  add_repeated(*command, "--endpoint", options->endpoints,
               "only this pod, workload or node; default all");
  command->add_option("--emit", options->emit, "of c, obj, maps, ir; default all")
      ->delimiter(',')
      ->expected(1)
      ->allow_extra_args(false)
      ->check(one_of({"c", "obj", "maps", "ir"}))
      ->type_name("LIST");
  command->add_option("--target", options->target, "whose datapath")
      ->check(one_of({"standalone", "cilium"}))
      ->type_name("standalone|cilium");
  add_repeated(*command, "--agent-dump", options->agent_dumps,
               "with --target cilium: numbers that a running agent allocated, [NODE=]FILE");
  command->add_option("--vlan", options->vlan, "frames with VLAN tags")
      ->check(one_of({"drop", "allow"}))
      ->type_name("drop|allow");
  command->add_option("--l7", options->l7, "who reads HTTP requests")
      ->check(one_of({"proxy", "kernel"}))
      ->type_name("proxy|kernel");
  command->add_flag(
      "--stateful", options->stateful,
      "track connections: replies of allowed flows pass (proved in part, by --verify)");
  command->add_flag("--events", options->events,
                    "report verdicts through a ring buffer, for `policyc monitor` (not proved)");
  command
      ->add_option("--prelude", options->prelude,
                   "C with `int policyc_prelude(struct __sk_buff *skb)`, asked before the policy")
      ->type_name("FILE");
  CLI::Option* verify = command->add_flag("--verify", options->verify,
                                          "prove what is written (as is done anyway, but for "
                                          "connection tracking), and end with 4 where "
                                          "that cannot be done");
  command->add_flag("--no-verify", options->no_verify, "prove nothing")->excludes(verify);
  cli.on_run(command, [options](Env& env) { return compile(*options, env); });
}

}  // namespace policyc::cli
