// Replays the flows of conformance worlds as packets through the compiled programs and compares
// what the programs do with the verdicts of Cilium's own engine.
//
//   bpf_conformance [-v] [--interpreter] DIR…
//
// DIR holds worlds (folders with cluster.yaml, policies/, flows.json, expected.json). Each
// direction of a flow that has a policy subject is one packet to that endpoint's program; a flow
// whose request is HTTP or DNS also goes through the proxy model. Prints one line a DIR, and why
// flows cannot be packets. Exit 1 where anything differs, 77 where nothing could be compared.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "backend-bpf/artefact.h"
#include "backend-bpf/compiler.h"
#include "backend-bpf/kernel.h"
#include "backend-bpf/kernel_runner.h"
#include "backend-bpf/packet.h"
#include "backend-bpf/replay.h"
#include "cli/flows.h"
#include "frontend/load.h"
#include "frontend/lower.h"
#include "ir/base/file.h"
#include "ir/resolve.h"

namespace fs = std::filesystem;
using nlohmann::json;
using namespace policyc;

namespace {

bool verbose = false;
bpf::Engine engine = bpf::Engine::Kernel;

struct Count {
  int flows = 0, flows_as_packets = 0;
  int agree = 0, differ = 0;        // directions
  int requests = 0;                 // of flows, through the proxy model
  std::map<std::string, int> left;  // directions that cannot be packets, by reason
};

json read_json(const fs::path& path) {
  const auto text = read_file(path.string());
  return text ? json::parse(*text) : json();
}

struct Subject {
  std::size_t view = 0, endpoint = 0;
};

// Where a party's program runs; nullopt for parties that are no policy subjects.
std::optional<Subject> subject_of(const ir::Resolved& resolved, const ir::World& world,
                                  const ir::Party& party) {
  for (std::size_t v = 0; v < resolved.views.size(); ++v) {
    const ir::NodeView& view = resolved.views[v];
    for (std::size_t e = 0; e < view.endpoints.size(); ++e) {
      const ir::ResolvedEndpoint& endpoint = view.endpoints[e];
      if (const auto* pod = std::get_if<ir::PodParty>(&party)) {
        if (std::find(endpoint.pods.begin(), endpoint.pods.end(), pod->pod) != endpoint.pods.end())
          return Subject{v, e};
      } else if (const auto* node = std::get_if<ir::NodeParty>(&party)) {
        if (endpoint.host && world.inventory.nodes[node->node].name == view.node)
          return Subject{v, e};
      }
    }
  }
  return std::nullopt;
}

// Addresses under which the endpoints of a node meet this party.
std::vector<ir::IpAddress> addresses(const ir::World& world, const ir::Resolved& resolved,
                                     const ir::NodeView& view, const ir::Party& party) {
  if (const auto* pod = std::get_if<ir::PodParty>(&party))
    return world.inventory.pods[pod->pod].ips;
  if (const auto* a = std::get_if<ir::AddressParty>(&party)) return {a->ip};
  if (const auto* node = std::get_if<ir::NodeParty>(&party)) {
    const auto& all = world.inventory.nodes[node->node].addresses;
    if (all.empty()) return {};
    return {all.front()};
  }
  const auto* entity = std::get_if<ir::EntityParty>(&party);
  if (entity == nullptr) return {};
  std::vector<ir::IpAddress> out;
  for (const auto& [prefix, identity] : view.ipcache) {
    const auto& labels = resolved.identities[identity].labels.labels();
    const bool is =
        labels.size() == 1 && labels[0].source == "reserved" && labels[0].key == entity->entity;
    const bool host = entity->entity == "host" && identity == view.host;
    // A default route: an address that no longer prefix of the documentation ranges takes away.
    ir::IpAddress ip = prefix.address;
    if (prefix.length == 0) {
      ip = *ir::parse_ip(ip.family == ir::Family::V4 ? "233.252.0.77" : "2001:db8:ffff:ffff::77");
    }
    if ((is || host) && view.identity_of(ip) == identity) out.push_back(ip);
  }
  return out;
}

// "deny default-deny", "redirect rule http", … as expected.json has it.
std::string wanted(const json& d) {
  std::string out = d.value("verdict", "") + " " + d.value("reason", "");
  if (d.contains("parser")) out += " " + d["parser"].get<std::string>();
  if (d.contains("auth")) out += " auth " + d["auth"].value("type", "");
  return out;
}

// The same from what the program did and which record it named; both must tell one story.
std::string said(const bpf::RunResult& r) {
  if (!r.said) return fmt::format("dropped before policy ({})", r.drop_reason);
  const ir::VerdictRecord& v = *r.said;
  std::string out = fmt::format("{} {}", ir::verdict_name(v.verdict), ir::reason_name(v.reason));
  if (!v.parser.empty()) out += " " + v.parser;
  if (v.auth) out += fmt::format(" auth {}", ir::auth_name(v.auth->type));
  const bool authenticate = v.auth && v.auth->type != ir::AuthType::Disabled;
  const bpf::Outcome outcome = v.verdict == ir::VerdictKind::Deny || authenticate
                                   ? bpf::Outcome::Drop
                               : v.verdict == ir::VerdictKind::Redirect ? bpf::Outcome::Redirect
                                                                        : bpf::Outcome::Pass;
  const std::uint32_t drop = authenticate                         ? 189
                             : v.verdict != ir::VerdictKind::Deny ? 0
                             : v.reason == ir::Reason::PolicyDeny ? 181
                                                                  : 133;
  if (r.outcome != outcome || r.drop_reason != drop) {
    out += fmt::format(", but the program ends with outcome {} and drop reason {}",
                       static_cast<int>(r.outcome), r.drop_reason);
  }
  return out;
}

// Empty where the flow and the address family of the packet go together.
std::string no_packet(const ir::Flow& flow, ir::Family family) {
  if (flow.protocol == ir::kProtoIcmp && family == ir::Family::V6) return "ICMP over IPv6";
  if (flow.protocol == ir::kProtoIcmp6 && family == ir::Family::V4) return "ICMPv6 over IPv4";
  return "";
}

void run_direction(const std::string& place, const ir::World& world, const ir::Resolved& resolved,
                   bpf::Runner& runner, const ir::Flow& flow, ir::Direction direction,
                   const json& want, Count& count, bool& as_packet) {
  const bool ingress = direction == ir::Direction::Ingress;
  const auto leave = [&](const std::string& why) { ++count.left[why]; };
  const auto subject = subject_of(resolved, world, ingress ? flow.to : flow.from);
  const std::string expected = wanted(want);
  const auto differs = [&](const std::string& got) {
    ++count.differ;
    if (verbose) {
      fmt::print("  {} {}\n    program {}\n    theirs  {}\n", place, ir::direction_name(direction),
                 got, expected);
    }
  };
  if (!subject) return differs("no endpoint");
  const ir::NodeView& view = resolved.views[subject->view];
  const ir::ResolvedEndpoint& endpoint = view.endpoints[subject->endpoint];
  if (!endpoint.error.empty()) {
    if (want.value("verdict", "") != "error") return differs("error: " + endpoint.error);
    return leave("the endpoint's policy cannot be computed: no program");
  }
  const auto froms = addresses(world, resolved, view, flow.from);
  const auto tos = addresses(world, resolved, view, flow.to);
  if (froms.empty() || tos.empty()) {
    const ir::Party& peer = ingress ? flow.from : flow.to;
    const auto* entity = std::get_if<ir::EntityParty>(&peer);
    return leave(
        entity != nullptr
            ? fmt::format("nothing of the world has the address of entity {}", entity->entity)
            : "a party without an address");
  }
  std::string why = "no common address family";
  for (const ir::IpAddress& from : froms) {
    for (const ir::IpAddress& to : tos) {
      if (from.family != to.family) continue;
      if (const std::string no = no_packet(flow, from.family); !no.empty()) {
        why = no;
        continue;
      }
      bpf::Packet p;
      p.from = from;
      p.to = to;
      p.protocol = flow.protocol;
      p.source_port = 40000;
      p.destination_port = flow.port;
      p.icmp_type = static_cast<std::uint8_t>(flow.port);
      p.tcp_flags = bpf::kSyn;
      const auto run =
          runner.run(subject->view, subject->endpoint, direction, bpf::build_frame(p), 1);
      if (!run) return differs(run.error());
      as_packet = true;
      const std::string got = said(*run);
      if (got != expected) return differs(got + " for " + p.str());
      ++count.agree;
      return;
    }
  }
  leave(why);
}

// A request that a proxy reads: the packet that opens the connection, then the request. Only
// between pods and addresses outside, where a packet says all that the flow says.
void run_request(const std::string& place, const ir::World& world, const ir::Resolved& resolved,
                 bpf::Runner& runner, const ir::Flow& flow, const json& want, Count& count) {
  std::vector<std::uint8_t> payload;
  const auto put = [&](const std::string& text) {
    payload.insert(payload.end(), text.begin(), text.end());
  };
  if (const auto* http = std::get_if<ir::HttpRequest>(&flow.l7)) {
    put(http->method + " " + http->path + " HTTP/1.1\r\nHost: " + http->host + "\r\n");
    for (const auto& [name, value] : http->headers) put(name + ": " + value + "\r\n");
    put("\r\n");
    if (http->method.empty() || http->path.empty()) return;
  } else {
    return;
  }
  for (const char* d : {"egress", "ingress"}) {
    const json& half = want[d];
    if (half.is_object() && half.contains("l7") && half["l7"].value("ambiguous", false)) return;
    // A program drops what must be authenticated first, and an endpoint in error has none.
    if (half.is_object() && half.contains("auth") && half["auth"].value("type", "") != "disabled") {
      return;
    }
    if (half.is_object() && half.value("verdict", "") == "error") return;
    if (half.is_object() && half.value("verdict", "") == "redirect" &&
        half.value("parser", "") != "http") {
      return;
    }
  }
  bpf::Packet p;
  for (const ir::Party* party : {&flow.from, &flow.to}) {
    ir::IpAddress& ip = party == &flow.from ? p.from : p.to;
    if (const auto* pod = std::get_if<ir::PodParty>(party)) {
      if (world.inventory.pods[pod->pod].ips.empty()) return;
      ip = world.inventory.pods[pod->pod].ips.front();
    } else if (const auto* a = std::get_if<ir::AddressParty>(party)) {
      for (const ir::Pod& other : world.inventory.pods) {
        if (std::find(other.ips.begin(), other.ips.end(), a->ip) != other.ips.end()) return;
      }
      ip = a->ip;
    } else {
      return;
    }
  }
  if (p.from.family != p.to.family || flow.protocol != ir::kProtoTcp) return;
  p.source_port = 40000;
  p.destination_port = flow.port;
  p.tcp_flags = bpf::kSyn;
  p.sequence = 9;
  bpf::Packet request = p;
  request.tcp_flags = bpf::kPsh | bpf::kAck;
  request.sequence = 10;
  request.payload = payload;
  const auto results = bpf::replay(
      world, resolved, runner,
      {{"", {{bpf::build_frame(p), std::nullopt}, {bpf::build_frame(request), std::nullopt}}}});
  ++count.requests;
  const bpf::PacketResult* last = results ? &results->back() : nullptr;
  const std::string final = want["final"].value("verdict", "");
  const bool agrees =
      last != nullptr && last->mismatch.empty() &&
      (final == "allow"  ? last->fate == bpf::Fate::Pass
       : final == "deny" ? last->fate == bpf::Fate::Drop || last->fate == bpf::Fate::Refused
                         : last->fate == bpf::Fate::Redirect || !last->undecided.empty());
  if (agrees) return;
  ++count.differ;
  if (verbose) {
    fmt::print("  {} request: {}, theirs {}\n", place,
               last == nullptr ? results.error() : std::string(bpf::fate_name(last->fate)), final);
  }
}

void run_world(const fs::path& dir, const std::string& scratch, Count& count) {
  const json expected = read_json(dir / "expected.json");
  DiagnosticSink sink;
  frontend::LoadOptions options;
  options.world = dir.string();
  frontend::Loaded loaded = frontend::load(options, {}, sink);
  ir::World world;
  world.settings = loaded.settings.value_or(ir::Settings{});
  world.inventory = loaded.inventory;
  world.policies = frontend::lower(loaded, world.settings);
  const ir::Resolved resolved = ir::resolve(world);
  const auto fail = [&](const std::string& why) {
    ++count.differ;
    fmt::print("  {}: {}\n", dir.string(), why);
  };
  bpf::CompileOptions compile;
  compile.directory = scratch;
  compile.tool = "bpf_conformance";
  const bpf::CompileReport report = bpf::compile(world, resolved, compile);
  if (report.status != bpf::CompileReport::Status::Done) return fail(report.message);
  const auto runner = bpf::KernelRunner::open(scratch, world, resolved, engine);
  if (!runner) return fail(runner.error());
  const auto text = read_file((dir / "flows.json").string());
  if (!text) return fail(text.error());
  const auto flows = cli::read_flows(*text, world);
  if (!flows) return fail(flows.error());
  std::map<std::string, const json*> theirs;
  for (const json& f : expected["flows"]) theirs[f["id"].get<std::string>()] = &f;
  for (const ir::Flow& flow : *flows) {
    const json& want = *theirs.at(flow.id);
    bool as_packet = false;
    for (const ir::Direction d : {ir::Direction::Egress, ir::Direction::Ingress}) {
      const json& half = want[std::string(ir::direction_name(d))];
      if (!half.is_object()) continue;
      run_direction(dir.string() + "/" + flow.id, world, resolved, **runner, flow, d, half, count,
                    as_packet);
    }
    ++count.flows;
    count.flows_as_packets += as_packet ? 1 : 0;
    if (as_packet)
      run_request(dir.string() + "/" + flow.id, world, resolved, **runner, flow, want, count);
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (argv[i] == std::string("--interpreter")) engine = bpf::Engine::Interpreter;
  }
  std::optional<std::string> missing;
  if (engine == bpf::Engine::Kernel) missing = bpf::kernel_unavailable();
  if (const auto module = bpf::find_clang_module(); !module && !missing) missing = module.error();
  if (missing) {
    fmt::print("skipped: {}\n", *missing);
    const char* required = std::getenv("POLICYC_REQUIRE_BPF");
    return required != nullptr && std::string(required) == "1" ? 1 : 77;
  }
  std::string scratch = (fs::temp_directory_path() / "policyc-conformance-XXXXXX").string();
  if (mkdtemp(scratch.data()) == nullptr) return 2;
  bool failed = false;
  int compared = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "-v") {
      verbose = true;
      continue;
    }
    if (arg == "--interpreter") continue;
    std::vector<fs::path> dirs;
    if (fs::exists(fs::path(arg) / "expected.json") && fs::exists(fs::path(arg) / "flows.json")) {
      dirs.push_back(arg);
    } else if (fs::is_directory(arg)) {
      for (const auto& e : fs::directory_iterator(arg)) {
        // Where the engine's own result depends on the order of its maps, there is no verdict to
        // meet.
        if (fs::exists(e.path() / "unstable.json")) continue;
        if (fs::exists(e.path() / "flows.json")) dirs.push_back(e.path());
      }
    } else {
      fmt::print("{}: skipped, not present\n", arg);
      continue;
    }
    std::sort(dirs.begin(), dirs.end());
    Count count;
    for (const fs::path& d : dirs) run_world(d, scratch, count);
    fmt::print(
        "{}: {} worlds; {} of {} flows as packets; directions: {} agree, {} differ; {} "
        "requests read by the proxy model\n",
        arg, dirs.size(), count.flows_as_packets, count.flows, count.agree, count.differ,
        count.requests);
    for (const auto& [why, n] : count.left) fmt::print("  {:>5} not: {}\n", n, why);
    failed = failed || count.differ > 0;
    compared += count.agree + count.differ;
  }
  fs::remove_all(scratch);
  return failed ? 1 : compared == 0 ? 77 : 0;
}
