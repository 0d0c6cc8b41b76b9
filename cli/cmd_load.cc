// policyc load, status, unload: compiled policies at the devices of this machine.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "backend-bpf/kernel.h"
#include "backend-bpf/loader.h"
#include "cli/command.h"
#include "cli/options.h"

namespace policyc::cli {
namespace {

struct PinOptions {
  std::string pins = bpf::kDefaultPins;
  std::string format = "text";
};

void add_pin_option(CLI::App& command, PinOptions& options) {
  command.add_option("--pin", options.pins, "folder of the pins, in a BPF file system")
      ->type_name("DIR")
      ->capture_default_str();
}

// 3 where bpf() is not permitted, after a message.
int cannot(const char* command, Env& env) {
  const auto why = bpf::kernel_unavailable();
  if (!why) return kOk;
  fmt::print(env.err, "policyc: {} puts programs into the kernel, and {}\n", command, *why);
  return kImpossible;
}

std::string_view change_word(bpf::LoadChange change) {
  switch (change) {
    case bpf::LoadChange::None:
      return "unchanged";
    case bpf::LoadChange::Loaded:
      return "loaded";
    case bpf::LoadChange::Switched:
      return "switched to new tables";
    case bpf::LoadChange::Replaced:
      return "replaced by a new program";
    case bpf::LoadChange::Gone:
    case bpf::LoadChange::Failed:
      break;  // the problem is told instead
  }
  return "";
}

struct LoadCommand : PinOptions {
  bpf::LoadRequest request;
  std::string side = "host";
  bool quiet = false;
};

int load(LoadCommand& options, Env& env) {
  if (const int code = cannot("load", env); code != kOk) return code;
  if (options.request.endpoint.empty() && !options.request.device.empty()) {
    return usage_error(env, "--dev needs --endpoint");
  }
  options.request.pins = options.pins;
  options.request.pod_side = options.side == "pod";
  const auto done = bpf::load(options.request);
  if (!done) return failure(env, done.failure());
  int code = kOk;
  for (const bpf::LoadedNow& e : *done) {
    if (e.problem) {
      fmt::print(env.err, "policyc: {} on {}: {}\n", e.endpoint, e.device, e.problem->message);
      const bool gone = e.change == bpf::LoadChange::Gone;
      const bool machine = e.problem->kind == Error::Kind::Machine;
      code = std::max<int>(code, gone ? kFindings : machine ? kImpossible : kUsage);
    } else if (!options.quiet) {
      fmt::print(env.out, "{} on {}: {}\n", e.endpoint, e.device, change_word(e.change));
    }
  }
  return code;
}

int status(const PinOptions& options, Env& env) {
  if (const int code = cannot("status", env); code != kOk) return code;
  const auto all = bpf::loaded(options.pins);
  if (!all) return failure(env, all.failure());
  int code = kOk;
  for (const bpf::LoadedStatus& s : *all) {
    code = std::max<int>(code, s.undecided ? kImpossible : s.attached ? kOk : kFindings);
  }
  if (options.format == "json") {
    nlohmann::ordered_json out = {{"version", 1}, {"endpoints", nlohmann::ordered_json::array()}};
    for (const bpf::LoadedStatus& s : *all) {
      const nlohmann::json attached = s.undecided ? nlohmann::json() : nlohmann::json(s.attached);
      out["endpoints"].push_back({{"node", s.node},
                                  {"endpoint", s.endpoint},
                                  {"device", s.device},
                                  {"ifindex", s.ifindex},
                                  {"netns", s.netns},
                                  {"side", s.pod_side ? "pod" : "host"},
                                  {"attach", s.attach},
                                  {"attached", attached},
                                  {"generation", s.generation},
                                  {"object", s.object},
                                  {"image", s.image},
                                  {"problem", s.problem}});
    }
    env.out << out.dump(1) << "\n";
    return code;
  }
  if (all->empty()) fmt::print(env.out, "nothing is loaded\n");
  for (const bpf::LoadedStatus& s : *all) {
    fmt::print(env.out, "{}\n", s.endpoint);
    if (!s.device.empty()) {
      fmt::print(env.out, "  device      {}{} by {}\n", s.device,
                 s.netns.empty() ? "" : " in " + s.netns, s.attach);
      fmt::print(env.out, "  program     {}\n  policy      {}\n", s.object, s.image);
      fmt::print(env.out, "  generation  {}\n", s.generation);
    }
    if (!s.problem.empty()) fmt::print(env.out, "  problem     {}\n", s.problem);
  }
  return code;
}

struct UnloadCommand : PinOptions {
  std::string endpoint;
  bool all = false;
  bool quiet = false;
};

int unload(const UnloadCommand& options, Env& env) {
  if (options.endpoint.empty() == !options.all) {
    return usage_error(env, "unload needs --endpoint NAME or --all");
  }
  if (const int code = cannot("unload", env); code != kOk) return code;
  const auto done = bpf::unload(options.pins, options.endpoint);
  if (!done) return failure(env, done.failure());
  if (done->empty() && !options.all) {
    return usage_error(env,
                       fmt::format("{} is not loaded below {}", options.endpoint, options.pins));
  }
  int code = kOk;
  for (const bpf::Unloaded& e : *done) {
    if (e.problem) {
      code = std::max(code, failure(env, e.problem->at(e.endpoint)));
    } else if (!options.quiet) {
      fmt::print(env.out, "{}: unloaded\n", e.endpoint);
    }
  }
  return code;
}

}  // namespace

void add_load(Cli& cli) {
  auto options = std::make_shared<LoadCommand>();
  bpf::LoadRequest& request = options->request;
  CLI::App* command =
      cli.add("load", "attach compiled policies to devices, or update those that are attached",
              "  policyc load out/ --endpoint shop/db --dev veth42\n"
              "  policyc load out/    # after another compile: all that is loaded changes at once");
  command->add_option("directory", request.directory, "what `compile` wrote")
      ->required()
      ->type_name("DIR");
  command->add_option("--endpoint", request.endpoint, "the pod or workload to load")
      ->type_name("NAME");
  command->add_option("--dev", request.device, "its device")->type_name("IFACE");
  command->add_option("--netns", request.netns, "the device's network namespace: a name or a path")
      ->type_name("NETNS");
  command
      ->add_option("--side", options->side, "host: the host's end of a veth pair; pod: the pod's")
      ->check(one_of({"host", "pod"}))
      ->type_name("host|pod");
  command->add_option("--node", request.node, "where several nodes have that endpoint")
      ->type_name("NODE");
  command->add_option("--attach", request.attach, "the kind of hook; auto: tcx where there is one")
      ->check(one_of({"auto", "tcx", "tc"}))
      ->type_name("auto|tcx|tc");
  command
      ->add_option("--proxy-port", request.proxy_port,
                   "where the proxy listens; 0: none, what is for it is dropped")
      ->type_name("PORT");
  command->add_flag("-q,--quiet", options->quiet, "print nothing but errors");
  add_pin_option(*command, *options);
  cli.on_run(command, [options](Env& env) { return load(*options, env); });
}

void add_status(Cli& cli) {
  auto options = std::make_shared<PinOptions>();
  CLI::App* command = cli.add("status", "what is loaded on this machine",
                              "  policyc status\n  policyc status --format json");
  add_pin_option(*command, *options);
  command->add_option("--format", options->format, "text or json")
      ->check(one_of({"text", "json"}))
      ->type_name("text|json");
  cli.on_run(command, [options](Env& env) { return status(*options, env); });
}

void add_unload(Cli& cli) {
  auto options = std::make_shared<UnloadCommand>();
  CLI::App* command =
      cli.add("unload", "take compiled policies off their devices and remove their pins",
              "  policyc unload --endpoint shop/db\n  policyc unload --all");
  command->add_option("--endpoint", options->endpoint, "the pod or workload")->type_name("NAME");
  command->add_flag("--all", options->all, "everything that is loaded");
  command->add_flag("-q,--quiet", options->quiet, "print nothing but errors");
  add_pin_option(*command, *options);
  cli.on_run(command, [options](Env& env) { return unload(*options, env); });
}

}  // namespace policyc::cli
