// policyc monitor: what loaded programs tell of their verdicts, as it happens.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <ctime>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "backend-bpf/artefact.h"
#include "backend-bpf/event.h"
#include "backend-bpf/http_stream.h"
#include "backend-bpf/image.h"
#include "backend-bpf/judge.h"
#include "backend-bpf/kernel.h"
#include "backend-bpf/kernel_attach.h"
#include "backend-bpf/kernel_events.h"
#include "backend-bpf/loader.h"
#include "cli/command.h"
#include "cli/engine.h"
#include "cli/hubble.h"
#include "cli/render.h"
#include "cli/verification.h"
#include "ir/base/file.h"
#include "ir/base/sha256.h"
#include "ir/resolve.h"

namespace policyc::cli {
namespace {

using nlohmann::ordered_json;

struct MonitorCommand : EngineOptions {
  std::vector<std::string> arguments;  // DIR, then PATHs
  std::string pins = bpf::kDefaultPins;
  std::string format = "text";
  std::size_t count = 0;  // 0: until it is stopped
  double timeout = 0;     // seconds; 0: none
};

volatile std::sig_atomic_t g_stop = 0;

// SIGINT and SIGTERM end the command in order, while it lives.
class StopOnSignal {
 public:
  StopOnSignal() {
    g_stop = 0;
    struct sigaction action {};
    action.sa_handler = [](int) { g_stop = 1; };
    for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &before_[i]);
  }
  ~StopOnSignal() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      sigaction(kSignals[i], &before_[i], nullptr);
    }
  }
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

 private:
  static constexpr std::array<int, 2> kSignals = {SIGINT, SIGTERM};
  std::array<struct sigaction, 2> before_{};
};

// Nanoseconds of the wall clock less those since the machine started.
std::int64_t wall_clock_offset() {
  const auto now = [](clockid_t clock) {
    timespec t{};
    clock_gettime(clock, &t);
    return t.tv_sec * std::int64_t{1'000'000'000} + t.tv_nsec;
  };
  return now(CLOCK_REALTIME) - now(CLOCK_MONOTONIC);
}

std::string time_of_day(std::uint64_t nanoseconds) {
  const auto seconds = static_cast<std::time_t>(nanoseconds / 1'000'000'000U);
  std::tm tm{};
  gmtime_r(&seconds, &tm);
  return fmt::format("{:02}:{:02}:{:02}.{:06}", tm.tm_hour, tm.tm_min, tm.tm_sec,
                     nanoseconds % 1'000'000'000U / 1000);
}

// What the words of an event mean: the images that were in force.
struct Tables {
  std::vector<std::uint32_t> numbers;  // of identities
  std::optional<bpf::PolicyImage> policy;
  // The endpoint of the given policies that they mean the same as; nullptr: there is none, and no
  // rule is theirs.
  const ir::NodeView* view = nullptr;
  const ir::ResolvedEndpoint* endpoint = nullptr;
};

// Without the policies' world only the packet, the endpoint and the peer's number are known.
struct Stranger {
  ir::World world;
  ir::Resolved resolved;
  std::optional<HubbleWriter> writer;
  explicit Stranger(const std::string& node) {
    resolved.identities.push_back({0, {}});
    ir::NodeView view;
    view.node = node;
    view.ipcache.emplace_back(*ir::parse_prefix("0.0.0.0/0"), 0);
    view.ipcache.emplace_back(*ir::parse_prefix("::/0"), 0);
    ir::ResolvedEndpoint endpoint;
    endpoint.ingress = endpoint.egress = std::make_shared<ir::PolicyTable>();
    view.endpoints.push_back(std::move(endpoint));
    resolved.views.push_back(std::move(view));
    writer.emplace(world, resolved);
  }
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;
};

constexpr std::size_t kMostEvents = 4096;   // of one reading
constexpr std::size_t kMostJudged = 65536;  // questions whose answers are kept

class Monitor {
 public:
  Monitor(const MonitorCommand& options, std::string directory, Env& env)
      : options_(options), directory_(std::move(directory)), env_(env) {}

  // With policies, lines name the rules.
  void know(const Engine& engine) {
    engine_ = &engine;
    resolved_ = ir::resolve(engine.world);
    judge_ = std::make_unique<bpf::Judge>(engine.world, resolved_);
    writer_.emplace(engine.world, resolved_);
  }
  // False after a message: nothing to read.
  bool open(int& code);
  int run();

 private:
  // An event with what is known of it.
  struct Seen {
    const bpf::LoadedStatus& at;
    bpf::Event event;
    std::optional<bpf::Packet> packet;
    bpf::ReplayPacket frame;
    bpf::PacketResult result;  // one program
    bool in_world = false;     // its program is one of the policies'
    std::string request;       // first line of one that was read
  };

  void refresh();
  const Tables* tables(const bpf::LoadedStatus& at, std::uint32_t generation);
  void compare(const bpf::LoadedStatus& at, std::string_view policy, Tables& tables);
  Seen explain(const bpf::LoadedStatus& at, bpf::Event event);
  void show(const Seen& seen);
  void show_json(const Seen& seen);

  const MonitorCommand& options_;
  std::string directory_;
  Env& env_;
  const Engine* engine_ = nullptr;
  ir::Resolved resolved_;
  std::unique_ptr<bpf::Judge> judge_;
  std::optional<HubbleWriter> writer_;
  std::map<std::string, Stranger> strangers_;                       // by node
  std::vector<bpf::LoadedStatus> rings_;                            // those with events
  std::map<std::pair<std::string, std::uint32_t>, Tables> tables_;  // ring, generation
  bool refreshed_ = false;                                          // since the last reading
  std::map<std::string, std::uint64_t> lost_;                       // by ring
  std::optional<bpf::RingReader> reader_;
  std::int64_t offset_ = wall_clock_offset();
};

bool Monitor::open(int& code) {
  const auto all = bpf::loaded(options_.pins);
  if (!all) {
    code = failure(env_, all.failure());
    return false;
  }
  std::vector<bpf::Descriptor> maps;
  std::vector<int> descriptors;
  for (const bpf::LoadedStatus& s : *all) {
    if (s.events.empty()) continue;
    auto map = bpf::open_pin(s.events);
    if (!map) {
      code = failure(env_, map.failure());
      return false;
    }
    descriptors.push_back(map->get());
    maps.push_back(std::move(*map));
    rings_.push_back(s);
  }
  if (rings_.empty()) {
    code = usage_error(
        env_, fmt::format("nothing loaded below {} tells of its verdicts: `policyc compile "
                          "--events`, then `policyc load`",
                          options_.pins));
    return false;
  }
  auto reader = bpf::RingReader::open(descriptors);
  if (!reader) {
    code = failure(env_, reader.failure());
    return false;
  }
  reader_ = std::move(*reader);
  return true;
}

// After `load` the same rings tell of other tables.
void Monitor::refresh() {
  const auto all = bpf::loaded(options_.pins);
  if (!all) return;
  for (bpf::LoadedStatus& ring : rings_) {
    for (const bpf::LoadedStatus& s : *all) {
      if (s.events == ring.events) ring = s;
    }
  }
}

// nullptr where the directory does not hold them.
const Tables* Monitor::tables(const bpf::LoadedStatus& at, std::uint32_t generation) {
  if (directory_.empty()) return nullptr;
  if (at.generation != generation) {
    const auto old = tables_.find({at.events, generation});
    if (old != tables_.end()) return &old->second;
    // Generations are counted up: one that has passed is not to be found any more.
    if (generation < at.generation || std::exchange(refreshed_, true)) return nullptr;
    refresh();
    if (at.generation != generation) return nullptr;
  }
  const auto [it, fresh] = tables_.try_emplace({at.events, generation});
  if (fresh) {
    if (const auto bytes = bpf::read_artefact(directory_ + "/" + at.identities)) {
      if (const auto image = bpf::read_identity_image(*bytes)) it->second.numbers = image->numbers;
    }
    if (const auto bytes = bpf::read_artefact(directory_ + "/" + at.image)) {
      if (auto image = bpf::read_policy_image(*bytes)) it->second.policy = std::move(*image);
      if (engine_ != nullptr) compare(at, *bytes, it->second);
    }
  }
  return &it->second;
}

// The policies may have changed since, or be read in another namespace or for other settings: then
// their rules are not those that decided.
void Monitor::compare(const bpf::LoadedStatus& at, std::string_view policy, Tables& tables) {
  const auto manifest = bpf::read_manifest(directory_);
  if (!manifest) return;
  for (const bpf::ManifestEndpoint& e : manifest->endpoints) {
    if (e.view != at.node || e.image != at.image || e.identities != at.identities ||
        std::find(e.names.begin(), e.names.end(), at.endpoint) == e.names.end()) {
      continue;
    }
    const auto identities = bpf::read_artefact(directory_ + "/" + e.identities);
    const auto classes = bpf::read_artefact(directory_ + "/" + e.classes);
    if (!identities || !classes) return;
    NodeTables node = read_node_tables(*identities, *classes);
    for (const ir::NodeView& view : resolved_.views) {
      if (view.node != e.view) continue;
      for (const ir::ResolvedEndpoint& endpoint : view.endpoints) {
        if (endpoint.ingress == nullptr || endpoint.egress == nullptr || !endpoint.error.empty() ||
            !endpoint.depends_on.empty() ||
            bpf::endpoint_names(engine_->world, view, endpoint) != e.names ||
            check_tables(node, policy, e.slot, e.sizes, view, endpoint).answer !=
                ProofAnswer::Proved) {
          continue;
        }
        tables.view = &view;
        tables.endpoint = &endpoint;
      }
    }
  }
  if (tables.endpoint == nullptr) {
    fmt::print(env_.err,
               "policyc: {}: the policies given do not say what its tables say: rules are not "
               "named\n",
               at.endpoint);
  }
}

Monitor::Seen Monitor::explain(const bpf::LoadedStatus& at, bpf::Event event) {
  Seen out{at, std::move(event), {}, {}, {}, false, {}};
  const bpf::Event& e = out.event;
  out.frame.frame = e.packet;
  out.frame.time = static_cast<std::uint64_t>(static_cast<std::int64_t>(e.time) + offset_);
  if (const auto parsed = bpf::parse_frame(e.packet); parsed && *parsed) out.packet = **parsed;
  bpf::ProgramRun run;
  run.endpoint = at.endpoint;
  run.direction = e.ingress ? ir::Direction::Ingress : ir::Direction::Egress;
  run.result.outcome = e.verdict < 0 ? bpf::Outcome::Drop : static_cast<bpf::Outcome>(e.outcome);
  if (e.kind == bpf::EventKind::Note) run.result.outcome = bpf::Outcome::Pass;
  run.result.drop_reason = e.verdict < 0 ? static_cast<std::uint32_t>(-e.verdict) : 0;
  if (e.verdict < 0) out.result.fate = bpf::Fate::Drop;
  // Notes tell of no tables.
  const Tables* t = e.kind == bpf::EventKind::Verdict ? tables(at, e.generation) : nullptr;
  if (t != nullptr) {
    if (e.identity != 0 && e.identity <= t->numbers.size()) {
      run.result.identity_number = t->numbers[e.identity - 1];
    }
    if (t->policy && e.record != 0 && e.record <= t->policy->records.size()) {
      run.result.said = bpf::decode_record(*t->policy, e.record);
    }
  }
  if (!out.packet) {
    out.result.programs.push_back(std::move(run));
    return out;
  }
  const bpf::Judge::Place* place =
      judge_ ? judge_->place(e.ingress ? out.packet->to : out.packet->from) : nullptr;
  if (place != nullptr) {
    out.in_world = true;
    run.view = place->view;
    run.index = place->endpoint;
    if (t != nullptr && run.result.said && !out.packet->later_fragment &&
        t->view == &resolved_.views[place->view] &&
        t->endpoint == &t->view->endpoints[place->endpoint]) {
      const ir::PolicyTable& table = e.ingress ? *t->endpoint->ingress : *t->endpoint->egress;
      const ir::IdentityIndex peer =
          t->view->identity_of(e.ingress ? out.packet->from : out.packet->to);
      if (table.lookup(peer, out.packet->protocol, out.packet->policy_port()) == *run.result.said) {
        run.rules = judge_->judge(*out.packet).rules(run.direction);
      }
    }
  }
  // A request that the program read.
  const bool redirected = run.result.said && run.result.said->verdict == ir::VerdictKind::Redirect;
  if (e.kind == bpf::EventKind::Note || redirected) {
    const std::string head(out.packet->payload.begin(), out.packet->payload.end());
    const std::string line = bpf::first_line(*out.packet);
    if (const auto request = bpf::parse_http_head(head.substr(0, head.find("\r\n\r\n")))) {
      out.request = line;
      if (redirected) {
        out.result.flow.emplace();
        out.result.flow->l7 = *request;
        if (e.verdict < 0) out.result.fate = bpf::Fate::Refused;
      }
    }
  }
  out.result.programs.push_back(std::move(run));
  return out;
}

void Monitor::show(const Seen& seen) {
  const bpf::Event& e = seen.event;
  const bpf::RunResult& r = seen.result.programs.front().result;
  const std::string what = e.kind == bpf::EventKind::Note ? fmt::format("note {}", e.note)
                           : e.verdict < 0                ? "drop"
                           : e.verdict > 0                ? "redirect"
                                                          : "pass";
  std::string why;
  if (e.verdict < 0 && !seen.request.empty()) {
    why = "no rule allows the request";
  } else if (e.verdict < 0) {
    why = bpf::drop_reason_name(r.drop_reason);
  } else if (e.verdict > 0) {
    why = fmt::format("to the proxy at port {}", e.verdict);
  }
  fmt::print(env_.out, "{}  {} {}  {:<8}  {}{}{}\n", time_of_day(*seen.frame.time),
             seen.at.endpoint, e.ingress ? "ingress" : "egress", what,
             seen.packet ? seen.packet->str() : fmt::format("{} bytes", e.length),
             seen.request.empty() ? "" : "  " + printable(seen.request),
             why.empty() ? "" : "  (" + why + ")");
  if (options_.common.quiet || engine_ == nullptr) return;
  for (const ir::Origin& o : seen.result.programs.front().rules) {
    fmt::print(env_.out, "    {}  {}  {}\n", engine_->sources().place(o.range),
               engine_->world.policies.policies[o.policy].ref.str(), o.path);
  }
}

void Monitor::show_json(const Seen& seen) {
  const auto print = [&](std::vector<ordered_json> lines) {
    // Of a request that was read the proxy's line alone.
    if (seen.result.flow && lines.size() > 1) lines.erase(lines.begin(), lines.end() - 1);
    for (ordered_json& line : lines) {
      ordered_json& flow = line["flow"];
      const bpf::ProgramRun& run = seen.result.programs.front();
      if (!seen.in_world) {
        ordered_json& mine = flow[seen.event.ingress ? "destination" : "source"];
        ordered_json& peer = flow[seen.event.ingress ? "source" : "destination"];
        const std::size_t slash = seen.at.endpoint.find('/');
        if (slash != std::string::npos) {
          mine["namespace"] = seen.at.endpoint.substr(0, slash);
          mine["pod_name"] = seen.at.endpoint.substr(seen.at.endpoint.rfind('/') + 1);
        }
        if (run.result.identity_number) peer["identity"] = *run.result.identity_number;
      }
      if (seen.event.kind == bpf::EventKind::Note) {
        flow["Summary"] = fmt::format("note {}{}{}", seen.event.note,
                                      seen.request.empty() ? "" : ": ", seen.request);
      }
      env_.out << line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) << "\n";
    }
  };
  if (seen.in_world) {
    print(writer_->lines(seen.frame, seen.result));
  } else {
    const Stranger& stranger = strangers_.try_emplace(seen.at.node, seen.at.node).first->second;
    print(stranger.writer->lines(seen.frame, seen.result));
  }
}

int Monitor::run() {
  using Clock = std::chrono::steady_clock;
  const StopOnSignal stop;
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(options_.timeout));
  std::size_t shown = 0;
  while (g_stop == 0) {
    int wait = 1000;  // a signal between the test above and the wait costs as much
    if (options_.timeout > 0) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
      if (left <= 0) break;
      wait = static_cast<int>(std::min<long>(wait, left));
    }
    const std::size_t wanted = options_.count == 0 ? SIZE_MAX : options_.count - shown;
    const auto entries = reader_->read(wait, std::min(wanted, kMostEvents));
    if (!entries) return usage_error(env_, entries.error());
    refreshed_ = false;
    if (judge_) judge_->forget_beyond(kMostJudged);
    std::vector<std::pair<std::size_t, bpf::Event>> events;
    for (const bpf::RingReader::Entry& entry : *entries) {
      if (auto event = bpf::read_event(entry.bytes)) {
        events.emplace_back(entry.ring, std::move(*event));
      }
    }
    std::stable_sort(events.begin(), events.end(),
                     [](const auto& a, const auto& b) { return a.second.time < b.second.time; });
    for (auto& [ring, event] : events) {
      std::uint64_t& lost = lost_[rings_[ring].events];
      if (event.lost > lost) {
        fmt::print(env_.err, "policyc: {}: {} events were lost, nobody read them in time\n",
                   rings_[ring].endpoint, event.lost - lost);
      }
      lost = event.lost;
      const Seen seen = explain(rings_[ring], std::move(event));
      if (options_.format == "hubble-json") {
        show_json(seen);
      } else {
        show(seen);
      }
      ++shown;
    }
    env_.out.flush();
    if (options_.count != 0 && shown >= options_.count) break;
  }
  return kOk;
}

// The inputs that DIR was compiled from, where they are still the same. False after a message.
bool use_inputs(const bpf::Manifest& manifest, std::vector<std::string>& paths, Env& env) {
  for (const bpf::InputFile& input : manifest.inputs) {
    const auto text = read_file(input.path);
    if (!text || sha256_hex(*text) != input.sha256) {
      fmt::print(env.err,
                 "policyc: {} is not what was compiled any more: rules are not named; PATHs after "
                 "DIR say where the policies are\n",
                 input.path);
      paths.clear();
      return false;
    }
    paths.push_back(input.path);
  }
  return !paths.empty();
}

int monitor(MonitorCommand& options, Env& env) {
  if (const auto why = bpf::kernel_unavailable()) {
    fmt::print(env.err, "policyc: monitor reads the kernel's buffers, and {}\n", *why);
    return kImpossible;
  }
  const std::string directory = options.arguments.empty() ? "" : options.arguments.front();
  Monitor monitor(options, directory, env);
  int code = kOk;
  if (!monitor.open(code)) return code;
  Engine engine;
  if (!directory.empty()) {
    const auto manifest = bpf::read_manifest(directory);
    if (!manifest) return usage_error(env, manifest.error());
    std::vector<std::string>& paths = options.common.load.paths;
    paths.assign(options.arguments.begin() + 1, options.arguments.end());
    if (!paths.empty() || use_inputs(*manifest, paths, env)) {
      if (!load_engine(options, env, engine, code)) return code;
      monitor.know(engine);
    }
  }
  return monitor.run();
}

}  // namespace

void add_monitor(Cli& cli) {
  auto options = std::make_shared<MonitorCommand>();
  CLI::App* command = cli.add(
      "monitor", "print what loaded programs tell of their verdicts, as it happens",
      "  policyc monitor out/                      # of compile --events, loaded\n"
      "  policyc monitor out/ --format hubble-json -c 10\n"
      "  policyc monitor out/ manifests/           # where the policies are, to name the rules");
  add_engine_options(*command, *options, PathArgument::None);
  command->add_option("arguments", options->arguments, "what `compile` wrote, then PATHs")
      ->type_name("[DIR [PATH…]]");
  command->add_option("--pin", options->pins, "folder of the pins, in a BPF file system")
      ->type_name("DIR")
      ->capture_default_str();
  command->add_option("--format", options->format, "text, or lines as `hubble observe` prints")
      ->check(one_of({"text", "hubble-json"}))
      ->type_name("text|hubble-json");
  command->add_option("-c,--count", options->count, "end after N events")->type_name("N");
  command->add_option("--timeout", options->timeout, "end after so many seconds")
      ->check(CLI::NonNegativeNumber)
      ->type_name("SECONDS");
  cli.on_run(command, [options](Env& env) { return monitor(*options, env); });
}

}  // namespace policyc::cli
