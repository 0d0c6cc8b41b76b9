// policyc replay: packets through the compiled programs, beside what the policies say.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>

#include "backend-bpf/artefact.h"
#include "backend-bpf/capture.h"
#include "backend-bpf/kernel_runner.h"
#include "backend-bpf/replay.h"
#include "cli/command.h"
#include "cli/engine.h"
#include "cli/fixtures.h"
#include "cli/flows.h"
#include "cli/hubble.h"
#include "cli/render.h"
#include "ir/base/diag_code.h"
#include "ir/resolve.h"

namespace policyc::cli {
namespace {

using nlohmann::ordered_json;

struct ReplayCommand : EngineOptions {
  std::vector<std::string> arguments;  // DIR, then PATHs
  std::vector<std::string> packets;
  std::string format = "text";
  unsigned repeat = 1;
  bool interpreter = false;
  std::string save_mismatches;  // where packets go on which program and policies disagree
};

// Captures begin with one of five magic numbers: pcap in both byte orders, with micro- or
// nanoseconds, and pcapng.
bool is_capture(const std::string& bytes) {
  for (const char* magic : {"\xd4\xc3\xb2\xa1", "\xa1\xb2\xc3\xd4", "\x4d\x3c\xb2\xa1",
                            "\xa1\xb2\x3c\x4d", "\x0a\x0d\x0d\x0a"}) {
    if (bytes.compare(0, 4, magic, 4) == 0) return true;
  }
  return false;
}

Expected<std::vector<bpf::Fixture>> read_packets(const ReplayCommand& options,
                                                 const ir::World& world) {
  std::vector<bpf::Fixture> out;
  for (const std::string& path : options.packets) {
    const auto text = bpf::read_artefact(path);
    if (!text) return Error{text.error()};
    if (is_capture(*text)) {
      auto capture = read_capture_fixture(path);
      if (!capture) return Error{capture.error()};
      out.push_back(std::move(*capture));
      continue;
    }
    auto fixtures = read_fixtures(path, *text, world, options.common.load.default_namespace);
    if (!fixtures) return Error{fixtures.error()};
    out.insert(out.end(), std::make_move_iterator(fixtures->begin()),
               std::make_move_iterator(fixtures->end()));
  }
  return out;
}

std::string rule_text(const Engine& engine, const ir::Origin& origin) {
  return fmt::format("{}  {}  {}", engine.sources().place(origin.range),
                     engine.world.policies.policies[origin.policy].ref.str(), origin.path);
}

std::string_view outcome_name(bpf::Outcome outcome) {
  switch (outcome) {
    case bpf::Outcome::NotSubject:
      return "not-subject";
    case bpf::Outcome::Pass:
      return "pass";
    case bpf::Outcome::Drop:
      return "drop";
    case bpf::Outcome::Redirect:
      return "redirect";
    case bpf::Outcome::Prelude:
      return "prelude";
  }
  return "";
}

// What a prelude said of a packet: "note 1: GET /items HTTP/1.1".
std::string note_text(const bpf::Event& event) {
  const auto packet = bpf::parse_frame(event.packet);
  const std::string line = packet && *packet ? bpf::first_line(**packet) : "";
  return fmt::format("note {}{}{}", event.note, line.empty() ? "" : ": ", line);
}

std::string_view verdict_word(const bpf::PacketResult& r) {
  return r.undecided.empty() ? bpf::fate_name(r.fate) : "undecided";
}

void print_text(const ReplayCommand& options, const Engine& engine,
                const std::vector<bpf::PacketResult>& results, Env& env) {
  std::string fixture;
  for (const bpf::PacketResult& r : results) {
    if (r.fixture != fixture || r.number == 1) fmt::print(env.out, "{}\n", r.fixture);
    fixture = r.fixture;
    const std::string& why = r.undecided.empty() ? r.reason : r.undecided;
    fmt::print(env.out, "  {:>3}  {:<8}  {}{}\n", r.number, verdict_word(r), r.summary,
               why.empty() ? "" : "  (" + printable(why) + ")");
    for (const bpf::ProgramRun& run : r.programs) {
      fmt::print(
          env.out, "         {} of {}: {}, returns {}{}{}\n", ir::direction_name(run.direction),
          run.endpoint, outcome_name(run.result.outcome), run.result.return_code,
          run.result.drop_reason == 0 ? ""
                                      : fmt::format(", drop reason -{}", run.result.drop_reason),
          options.repeat > 1 ? fmt::format(", {} ns", run.result.nanoseconds) : "");
      for (const bpf::Event& e : run.result.events) {
        if (e.kind == bpf::EventKind::Note) fmt::print(env.out, "           {}\n", note_text(e));
      }
    }
    for (const ir::Origin& o : r.rules) fmt::print(env.out, "         {}\n", rule_text(engine, o));
    for (const bpf::Mismatch& m : r.mismatches) {
      fmt::print(env.out, "         error[{}]: {}\n           {}\n",
                 diag_name(DiagCode::ReplayMismatch), m.what, printable(m.took));
      for (const ir::Origin& o : m.took_rules) {
        fmt::print(env.out, "           program:  {}\n", rule_text(engine, o));
      }
      for (const ir::Origin& o : r.programs[m.run].rules) {
        fmt::print(env.out, "           policies: {}\n", rule_text(engine, o));
      }
    }
    if (!r.unmet.empty()) {
      fmt::print(env.out, "         error[{}]: {}\n", diag_name(DiagCode::ReplayUnmet), r.unmet);
    }
  }
}

// For formats without a place for them.
void print_findings(const std::vector<bpf::PacketResult>& results, Env& env) {
  for (const bpf::PacketResult& r : results) {
    const auto tell = [&](DiagCode code, const std::string& what) {
      if (what.empty()) return;
      fmt::print(env.err, "policyc: error[{}]: {} packet {}: {}\n", diag_name(code), r.fixture,
                 r.number, what);
    };
    tell(DiagCode::ReplayMismatch, r.mismatch);
    tell(DiagCode::ReplayUnmet, r.unmet);
  }
}

ordered_json rules_json(const Engine& engine, const std::vector<ir::Origin>& rules) {
  ordered_json out = ordered_json::array();
  for (const ir::Origin& o : rules) {
    out.push_back({{"policy", engine.world.policies.policies[o.policy].ref.str()},
                   {"rule", o.path},
                   {"place", engine.sources().place(o.range)}});
  }
  return out;
}

ordered_json packet_json(const Engine& engine, const bpf::PacketResult& r) {
  ordered_json out;
  out["fixture"] = r.fixture;
  out["number"] = r.number;
  out["packet"] = r.summary;
  out["verdict"] = verdict_word(r);
  out["reason"] = r.undecided.empty() ? r.reason : r.undecided;
  out["programs"] = ordered_json::array();
  for (const bpf::ProgramRun& run : r.programs) {
    ordered_json p = {{"program", fmt::format("policyc_{}", ir::direction_name(run.direction))},
                      {"endpoint", run.endpoint},
                      {"return_code", run.result.return_code},
                      {"verdict", outcome_name(run.result.outcome)},
                      {"drop_reason", -static_cast<int>(run.result.drop_reason)}};
    if (run.result.nanoseconds != 0) p["ns"] = run.result.nanoseconds;
    for (const bpf::Event& e : run.result.events) {
      if (e.kind == bpf::EventKind::Note) p["notes"].push_back(note_text(e));
    }
    out["programs"].push_back(std::move(p));
  }
  out["rules"] = rules_json(engine, r.rules);
  if (r.flow) out["flow"] = flow_json(engine.world, *r.flow);
  if (r.reply) out["is_reply"] = true;
  if (!r.mismatch.empty()) out["mismatch"] = r.mismatch;
  for (const bpf::Mismatch& m : r.mismatches) {
    const bpf::ProgramRun& run = r.programs[m.run];
    out["mismatches"].push_back(
        {{"direction", ir::direction_name(run.direction)},
         {"endpoint", run.endpoint},
         {"what", m.what},
         {"program", {{"took", m.took}, {"rules", rules_json(engine, m.took_rules)}}},
         {"policies", {{"rules", rules_json(engine, run.rules)}}}});
  }
  if (!r.unmet.empty()) out["unmet"] = r.unmet;
  return out;
}

// A line that is overwritten, on terminals only, where the run is long enough to be watched.
std::function<void(std::size_t)> progress_line(const ReplayCommand& options, std::size_t packets,
                                               Env& env) {
  constexpr std::size_t kStep = 1000;
  if (!env.err_terminal || options.common.quiet || packets <= kStep) return nullptr;
  return [&env, packets](std::size_t done) {
    if (done == packets) {
      fmt::print(env.err, "\r{:40}\r", "");
    } else if (done % kStep == 0) {
      fmt::print(env.err, "\r{} of {} packets", done, packets);
      env.err.flush();
    }
  };
}

std::vector<const bpf::ReplayPacket*> in_order(const std::vector<bpf::Fixture>& fixtures) {
  std::vector<const bpf::ReplayPacket*> out;
  for (const bpf::Fixture& f : fixtures) {
    for (const bpf::ReplayPacket& p : f.packets) out.push_back(&p);
  }
  return out;
}

int replay(ReplayCommand& options, Env& env) {
  if (const auto why = options.interpreter ? std::nullopt : bpf::kernel_unavailable()) {
    fmt::print(
        env.err,
        "policyc: replay runs programs in the kernel, and {}\n"
        "  --interpreter runs them in this process instead: the same objects and tables, but "
        "no word of whether a kernel accepts them\n",
        *why);
    return kImpossible;
  }
  const std::string directory = options.arguments.front();
  options.common.load.paths.assign(options.arguments.begin() + 1, options.arguments.end());
  Engine engine;
  int code = kOk;
  if (!load_engine(options, env, engine, code)) return code;
  const ir::Resolved resolved = ir::resolve(engine.world);
  const auto fixtures = read_packets(options, engine.world);
  if (!fixtures) return usage_error(env, fixtures.error());
  auto runner =
      bpf::KernelRunner::open(directory, engine.world, resolved,
                              options.interpreter ? bpf::Engine::Interpreter : bpf::Engine::Kernel);
  if (!runner) return usage_error(env, runner.error());
  const std::vector<const bpf::ReplayPacket*> packets = in_order(*fixtures);
  if (packets.empty()) {
    fmt::print(
        env.err, "policyc: warning[{}]: {} no packets: nothing was compared\n",
        diag_name(DiagCode::NothingReplayed),
        options.packets.size() == 1 ? options.packets.front() + " holds" : "the files given hold");
  }
  const auto results = bpf::replay(engine.world, resolved, **runner, *fixtures,
                                   {options.repeat, progress_line(options, packets.size(), env)});
  if (!results) return failure(env, results.failure());

  std::size_t mismatches = 0;
  std::size_t unmet = 0;
  std::size_t undecided = 0;
  std::vector<std::vector<std::uint8_t>> mismatched;
  for (std::size_t i = 0; i < results->size(); ++i) {
    const bpf::PacketResult& r = (*results)[i];
    if (!r.mismatch.empty()) mismatched.push_back(packets[i]->frame);
    unmet += r.unmet.empty() ? 0U : 1U;
    undecided += r.undecided.empty() ? 0U : 1U;
  }
  mismatches = mismatched.size();
  if (!options.save_mismatches.empty() && mismatches > 0) {
    const auto written = bpf::write_capture(options.save_mismatches, mismatched);
    if (!written) return usage_error(env, written.error());
    fmt::print(env.err, "{} packet{} on which program and policies disagree: {}\n", mismatches,
               mismatches == 1 ? "" : "s", options.save_mismatches);
  }
  const auto& changed = (*runner)->changed_files();
  for (const std::string& path : changed) {
    fmt::print(env.err, "policyc: error[{}]: {}/{} is not what the manifest records\n",
               diag_name(DiagCode::ArtefactChanged), directory, path);
  }
  if (options.format == "json") {
    ordered_json out;
    out["version"] = 1;
    out["packets"] = ordered_json::array();
    for (const bpf::PacketResult& r : *results) out["packets"].push_back(packet_json(engine, r));
    out["changed_files"] = changed;
    out["summary"] = {{"packets", results->size()},
                      {"mismatches", mismatches},
                      {"unmet", unmet},
                      {"undecided", undecided}};
    env.out << out.dump(1, ' ', false, ordered_json::error_handler_t::replace) << "\n";
  } else if (options.format == "hubble-json") {
    print_findings(*results, env);
    const HubbleWriter writer(engine.world, resolved);
    for (std::size_t i = 0; i < results->size(); ++i) {
      for (const ordered_json& line : writer.lines(*packets[i], (*results)[i])) {
        env.out << line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) << "\n";
      }
    }
  } else {
    if (!options.common.quiet) print_text(options, engine, *results, env);
    fmt::print(env.out, "{} packet{}: {} mismatch{}, {} unlike expected\n", results->size(),
               results->size() == 1 ? "" : "s", mismatches, mismatches == 1 ? "" : "es", unmet);
  }
  print_timing(options.common, engine.input.loaded, env);
  if (mismatches + unmet + changed.size() > 0) return kFindings;
  const bool open = undecided > 0 || packets.empty();
  return account_for_refused(options, engine, open ? kUndecided : kOk, env);
}

}  // namespace

void add_replay(Cli& cli) {
  auto options = std::make_shared<ReplayCommand>();
  CLI::App* command =
      cli.add("replay", "run packets through compiled programs and compare with the policies",
              "  policyc replay out/ --packets packets.yaml manifests/\n"
              "  policyc replay out/ --packets capture.pcapng --format json manifests/");
  add_engine_options(*command, *options, PathArgument::None);
  command->add_option("arguments", options->arguments, "what `compile` wrote, then PATHs")
      ->required()
      ->type_name("DIR PATH…");
  add_repeated(*command, "--packets", options->packets,
               "packets: a YAML fixture file, pcap or pcapng");
  command->add_option("--repeat", options->repeat, "run each packet N times and print its time")
      ->check(CLI::Range(1, 10000000))
      ->type_name("N");
  command
      ->add_option("--format", options->format, "text, json, or lines as `hubble observe` prints")
      ->check(one_of({"text", "json", "hubble-json"}))
      ->type_name("text|json|hubble-json");
  command->add_flag("--interpreter", options->interpreter,
                    "run the programs in this process, without bpf(); no kernel judges them");
  command
      ->add_option("--save-mismatches", options->save_mismatches,
                   "write packets on which program and policies disagree to FILE")
      ->type_name("FILE.pcap");
  cli.on_run(command, [options](Env& env) {
    if (options->packets.empty()) return usage_error(env, "replay needs --packets FILE");
    return replay(*options, env);
  });
}

}  // namespace policyc::cli
