// policyc verify: compiled programs and images proved to do what the policies say.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "backend-bpf/artefact.h"
#include "backend-bpf/capture.h"
#include "backend-bpf/image.h"
#include "backend-bpf/program.h"
#include "cli/command.h"
#include "cli/engine.h"
#include "cli/render.h"
#include "ir/base/sha256.h"
#include "ir/bpf/object.h"
#include "ir/resolve.h"
#include "verifier/image_check.h"
#include "verifier/program_proof.h"

namespace policyc::cli {
namespace {

using nlohmann::ordered_json;

struct VerifyCommand : EngineOptions {
  std::vector<std::string> arguments;  // DIR, then PATHs
  std::string format = "text";
  std::string vlan = "drop";
  std::string witness;  // where a packet that refutes goes
};

enum class Answer { Proved, Refuted, NotProved };

struct Line {
  std::string what;  // "obj/policy-HASH.o policyc_ingress", "shop/frontend ingress and egress"
  Answer answer = Answer::NotProved;
  std::string detail;
};

constexpr std::string_view word(Answer a) {
  return a == Answer::Proved ? "proved" : a == Answer::Refuted ? "refuted" : "not proved";
}

verify::DatapathShape shape_of(const bpf::SizeClass& s, bool vlan) {
  verify::DatapathShape out;
  out.trie4_blocks = s.trie4_blocks;
  out.hash4_bits = s.hash4_bits;
  out.hash6_bits = s.hash6_bits;
  out.hosts6 = s.hosts6;
  out.trie6_blocks = s.trie6_blocks;
  out.classes = s.classes;
  out.identity_shift = s.identity_shift;
  out.pages = s.pages;
  out.cells = s.cells;
  out.records = s.records;
  out.intervals = s.intervals;
  out.interval_steps = s.interval_steps;
  out.vlan = vlan;
  return out;
}

std::string fate_text(const verify::PacketFate& f) {
  return fmt::format("returns {}, mark {:#x}, cb {}", f.action, f.mark, fmt::join(f.cb, " "));
}

class Verification {
 public:
  Verification(const VerifyCommand& options, const Engine& engine, bpf::Manifest manifest)
      : options_(options),
        engine_(engine),
        manifest_(std::move(manifest)),
        resolved_(ir::resolve(engine.world)) {}

  // Empty, or what could not be read.
  std::string run();

  std::vector<Line> lines;
  std::vector<std::vector<std::uint8_t>> witnesses;

 private:
  Expected<std::string> read(const std::string& path) {
    auto bytes = bpf::read_artefact(options_.arguments.front() + "/" + path);
    if (!bytes) return bytes;
    const auto recorded = manifest_.sha256.find(path);
    if ((recorded == manifest_.sha256.end() || recorded->second != sha256_hex(*bytes)) &&
        changed_.insert(path).second) {
      lines.push_back({path, Answer::Refuted, "the file is not what the manifest records"});
    }
    return bytes;
  }
  std::string object(const bpf::ManifestEndpoint& endpoint);
  std::string image(const bpf::ManifestEndpoint& endpoint);

  const VerifyCommand& options_;
  const Engine& engine_;
  bpf::Manifest manifest_;
  ir::Resolved resolved_;
  verify::TermSolver solver_;
  std::set<std::string> proved_, changed_;
};

std::string Verification::object(const bpf::ManifestEndpoint& e) {
  if (!proved_.insert(e.object).second) return {};
  const auto bytes = read(e.object);
  if (!bytes) return bytes.error();
  if (manifest_.stateful || manifest_.prelude || manifest_.events) {
    lines.push_back({e.object, Answer::NotProved,
                     manifest_.stateful  ? "connection tracking is not modelled"
                     : manifest_.prelude ? "a filter of the user's own stands in front of it"
                                         : "events are not modelled"});
    return {};
  }
  if (manifest_.vlan != (options_.vlan == "allow")) {
    lines.push_back({e.object, Answer::NotProved,
                     fmt::format("it was compiled with --vlan {}, and is asked about as --vlan {}",
                                 manifest_.vlan ? "allow" : "drop", options_.vlan)});
    return {};
  }
  const auto object = ebpf::read_object(*bytes);
  if (!object) {
    lines.push_back({e.object, Answer::NotProved, object.error()});
    return {};
  }
  for (const unsigned direction : {0U, 1U}) {
    const char* program = direction == 0 ? bpf::kIngressProgram : bpf::kEgressProgram;
    Line line{e.object + " " + program, Answer::NotProved, {}};
    const auto shape = shape_of(e.sizes, options_.vlan == "allow");
    const verify::ProofReport r =
        verify::prove_program(*object, program, direction, shape, solver_);
    if (r.answer == verify::ProofReport::Answer::Proved) {
      line.answer = Answer::Proved;
      line.detail =
          fmt::format("{} instructions, {} questions to the solver", r.instructions, r.questions);
    } else if (r.answer == verify::ProofReport::Answer::Refuted) {
      line.answer = Answer::Refuted;
      const verify::ProgramWitness& w = *r.witness;
      line.detail =
          w.outside.empty()
              ? fmt::format(
                    "a packet of {} bytes and some contents of the tables: the "
                    "program {}; it should: {}",
                    w.frame.size(), fate_text(w.program), fate_text(w.meaning))
              : fmt::format("a packet of {} bytes: {} is outside", w.frame.size(), w.outside);
      witnesses.push_back(w.frame);
    } else {
      line.detail = r.reason;
    }
    lines.push_back(std::move(line));
  }
  return {};
}

std::string Verification::image(const bpf::ManifestEndpoint& e) {
  const std::string name = e.names.empty() ? e.view : e.names.front();
  Line line{fmt::format("tables of {}", name), Answer::NotProved, {}};
  const ir::NodeView* view = nullptr;
  const ir::ResolvedEndpoint* endpoint = nullptr;
  for (const ir::NodeView& v : resolved_.views) {
    if (v.node != e.view) continue;
    for (const ir::ResolvedEndpoint& x : v.endpoints) {
      if (bpf::endpoint_names(engine_.world, v, x) != e.names) continue;
      view = &v;
      endpoint = &x;
    }
  }
  if (endpoint == nullptr || endpoint->ingress == nullptr || endpoint->egress == nullptr ||
      !endpoint->error.empty() || !endpoint->depends_on.empty()) {
    line.detail = endpoint == nullptr ? "the input has no such endpoint"
                                      : "what its policy says is not known";
    lines.push_back(std::move(line));
    return {};
  }
  const auto identity_bytes = read(e.identities);
  if (!identity_bytes) return identity_bytes.error();
  const auto class_bytes = read(e.classes);
  if (!class_bytes) return class_bytes.error();
  const auto policy_bytes = read(e.image);
  if (!policy_bytes) return policy_bytes.error();
  const auto identities = bpf::read_identity_image(*identity_bytes);
  const auto classes = bpf::read_class_image(*class_bytes);
  const auto policy = bpf::read_policy_image(*policy_bytes);
  if (!identities || !classes || !policy || !bpf::fits(*identities, *classes, *policy, e.sizes) ||
      !bpf::belong_together(*policy, *classes, e.slot)) {
    line.answer = Answer::Refuted;
    line.detail = "the images contradict themselves or one another";
    lines.push_back(std::move(line));
    return {};
  }
  const auto shape = shape_of(e.sizes, false);
  const verify::ImageReport r =
      verify::check_image(shape, bpf::node_value(*identities, *classes, e.sizes),
                          bpf::policy_value(*policy, *classes, e.slot, e.sizes), *view,
                          *endpoint->ingress, *endpoint->egress);
  line.answer = Answer::Proved;
  line.detail = fmt::format("{} stretches of addresses, {} of ports", r.addresses, r.decisions);
  if (r.difference) {
    const verify::ImageDifference& d = *r.difference;
    line.answer = Answer::Refuted;
    line.detail = fmt::format("{} {} protocol {} port {}: the tables say {}, the policies {}",
                              ir::direction_name(d.direction), d.peer ? d.peer->str() : "any peer",
                              d.protocol, d.port, d.tables, d.policy);
  } else {
    for (const verify::RecordUse& use : r.records) {
      if (bpf::decode_record(*policy, use.record) == use.said) continue;
      line.answer = Answer::Refuted;
      line.detail = fmt::format("record {} says something else than the policies", use.record);
    }
  }
  lines.push_back(std::move(line));
  return {};
}

std::string Verification::run() {
  for (const bpf::ManifestEndpoint& e : manifest_.endpoints) {
    for (const std::string& wrong : {image(e), object(e)}) {
      if (!wrong.empty()) return wrong;
    }
  }
  return {};
}

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
  Verification verification(options, engine, std::move(*manifest));
  const std::string wrong = verification.run();
  if (!wrong.empty()) return usage_error(env, wrong);
  std::map<Answer, std::size_t> count;
  for (const Line& l : verification.lines) ++count[l.answer];
  if (!options.witness.empty() && !verification.witnesses.empty()) {
    const auto written = bpf::write_capture(options.witness, verification.witnesses);
    if (!written) return usage_error(env, written.error());
  }
  if (options.format == "json") {
    ordered_json out;
    out["version"] = 1;
    out["items"] = ordered_json::array();
    for (const Line& l : verification.lines) {
      out["items"].push_back({{"what", l.what}, {"answer", word(l.answer)}, {"detail", l.detail}});
    }
    out["summary"] = {{"proved", count[Answer::Proved]},
                      {"refuted", count[Answer::Refuted]},
                      {"not_proved", count[Answer::NotProved]}};
    env.out << out.dump(1, ' ', false, ordered_json::error_handler_t::replace) << "\n";
  } else {
    for (const Line& l : verification.lines) {
      fmt::print(env.out, "{:<10}  {}{}\n", word(l.answer), printable(l.what),
                 l.detail.empty() ? "" : "  (" + printable(l.detail) + ")");
    }
    fmt::print(env.out, "{} proved, {} refuted, {} not proved\n", count[Answer::Proved],
               count[Answer::Refuted], count[Answer::NotProved]);
  }
  if (count[Answer::Refuted] != 0) return kFindings;
  return count[Answer::NotProved] != 0 ? kUndecided : kOk;
}

}  // namespace

void add_verify(Cli& cli) {
  auto options = std::make_shared<VerifyCommand>();
  CLI::App* command =
      cli.add("verify", "prove that compiled programs and tables do what the policies say",
              "  policyc verify out/ manifests/\n"
              "  policyc verify out/ --format json --witness wrong.pcap manifests/");
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
  command
      ->add_option("--witness", options->witness,
                   "write packets for which a program is wrong to FILE")
      ->type_name("FILE.pcap");
  cli.on_run(command, [options](Env& env) { return verify_artefacts(*options, env); });
}

}  // namespace policyc::cli
