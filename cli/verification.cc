#include "cli/verification.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <tuple>

#include "backend-bpf/image.h"
#include "backend-bpf/kernel.h"
#include "backend-bpf/program.h"
#include "cli/request_trials.h"
#include "ir/automata/http_head.h"
#include "ir/base/sha256.h"
#include "ir/bpf/object.h"
#include "verifier/head_rules.h"
#include "verifier/http_tables.h"
#include "verifier/image_check.h"
#include "verifier/program_proof.h"
#include "verifier/request_proof.h"

namespace policyc::cli {
namespace {

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
  std::string out =
      fmt::format("returns {}, mark {:#x}, cb {}", f.action, f.mark, fmt::join(f.cb, " "));
  if (!f.kept.empty()) out += fmt::format(", keeps {}", fmt::join(f.kept, ", "));
  return out;
}

// Bytes as a C string would hold them.
std::string escaped(const std::string& bytes) {
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\r' || c == '\n') {
      out += c == '\r' ? "\\r" : "\\n";
    } else if (byte < ' ' || byte >= 127) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

// What this machine's kernel does with the packet that refutes; empty where it cannot be asked.
std::string in_kernel(const std::string& elf, const char* program,
                      const verify::ProgramWitness& w) {
  if (bpf::kernel_unavailable() || w.frame.size() < 14 || w.vlan_present != 0) return {};
  const auto loaded =
      bpf::LoadedObject::load(elf, {{bpf::kNodeMap, w.node}, {bpf::kPolicyMap, w.policy}});
  if (!loaded) {
    return loaded.failure().kind == Error::Kind::Machine
               ? "; this kernel refuses the program"
               : "; this kernel was not asked: " + loaded.error();
  }
  const auto run = loaded->run(program, w.frame);
  if (!run) return {};
  const verify::PacketFate fate{run->return_code, run->mark, run->cb};
  return fate == w.program ? "; this kernel confirms it"
                           : fmt::format("; in this kernel it {}", fate_text(fate));
}

// What refutes a program, for a reader.
std::string refutation(const std::string& elf, const char* program, const verify::ProgramWitness& w,
                       bool stateful) {
  std::string out =
      w.outside.empty()
          ? fmt::format(
                "a packet of {} bytes and some contents of the tables: the program {}; it should: "
                "{}",
                w.frame.size(), fate_text(w.program), fate_text(w.meaning))
          : fmt::format("a packet of {} bytes: {} is outside", w.frame.size(), w.outside);
  if (stateful) return out + "; not run in this kernel: it depends on earlier packets";
  return w.whole ? out + in_kernel(elf, program, w) : out;
}

class Verification {
 public:
  Verification(const VerifyRequest& request, const ir::World& world, const ir::Resolved& resolved,
               const bpf::Manifest& manifest)
      : request_(request), world_(world), resolved_(resolved), manifest_(manifest) {}

  // Empty, or what could not be read.
  std::string run();

  Verified out;

 private:
  Expected<std::string> read(const std::string& path) {
    auto bytes = bpf::read_artefact(request_.directory + "/" + path);
    if (!bytes) return bytes;
    const auto recorded = manifest_.sha256.find(path);
    if ((recorded == manifest_.sha256.end() || recorded->second != sha256_hex(*bytes)) &&
        changed_.insert(path).second) {
      out.lines.push_back(
          {path, ProofAnswer::Refuted, "the file is not what the manifest records"});
    }
    return bytes;
  }
  void write_down(const std::string& what, const verify::TermQuestion& question);
  std::string object(const bpf::ManifestEndpoint& endpoint);
  void requests(const bpf::ManifestEndpoint& endpoint, const std::string& elf,
                const ebpf::Object& object);
  void try_out(ProofLine& line, const std::string& elf, const char* program, unsigned direction,
               const verify::DatapathShape& shape);
  std::string image(const bpf::ManifestEndpoint& endpoint);
  std::string http_filter(const bpf::ManifestEndpoint& endpoint, std::uint16_t number,
                          const ir::ProxyFilter* filter);
  // Where it is remembered that `what` is proved of the object; empty: nowhere.
  std::string cache_file(const std::string& elf, const std::string& what) const {
    if (request_.cache.empty() || request_.proofs != nullptr) return {};
    const std::string asked = fmt::format("policyc " POLICYC_VERSION " proof {} {} {}\n",
                                          verify::kProofVersion, what, elf.size());
    return request_.cache + "/" + sha256_hex(asked + elf);
  }
  std::string cache_file(const std::string& elf, unsigned direction,
                         const verify::DatapathShape& s) const {
    return cache_file(
        elf, fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {}", direction,
                         s.trie4_blocks, s.hash4_bits, s.hash6_bits, s.hosts6, s.trie6_blocks,
                         s.classes, s.identity_shift, s.pages, s.cells, s.records, s.intervals,
                         s.interval_steps, s.vlan, s.http, s.stateful, s.extension_headers));
  }
  void remember(const std::string& file, const std::string& what) {
    if (file.empty()) return;
    std::error_code error;
    std::filesystem::create_directories(request_.cache, error);
    std::ofstream(file) << what << "\n";
  }
  // Of questions asked from now on.
  void write_down_as(const std::string& what) {
    if (request_.proofs == nullptr) return;
    solver_.listen([this, what](const verify::TermQuestion& q) { write_down(what, q); });
  }

  const VerifyRequest& request_;
  const ir::World& world_;
  const ir::Resolved& resolved_;
  const bpf::Manifest& manifest_;
  // By the files and the sizes that are asked about.
  std::map<std::tuple<std::string, std::string, std::string, bpf::SizeClass>, NodeTables> nodes_;
  std::map<std::pair<std::string, std::vector<std::string>>,
           std::pair<const ir::NodeView*, const ir::ResolvedEndpoint*>>
      endpoints_;
  verify::TermSolver solver_;
  std::map<std::string, bpf::SizeClass> proved_;  // by object
  std::set<std::string> changed_;
  std::set<std::tuple<std::string, std::uint16_t, std::string>> filters_;  // looked at
};

void Verification::write_down(const std::string& what, const verify::TermQuestion& q) {
  const char* answer = q.answer->kind == verify::TermAnswer::Kind::Never      ? "unsat"
                       : q.answer->kind == verify::TermAnswer::Kind::Possible ? "sat"
                                                                              : "unknown";
  const std::string title = fmt::format("{}: {}", what, q.about);
  request_.proofs->add({title, answer, "z3", 0, q.answer->resources}, [&] {
    return fmt::format(
        "; {}\n; unsat: never, whatever the packet and the tables hold; sat: a candidate, because "
        "reads are free numbers\n{}",
        title, q.smtlib);
  });
}

std::string Verification::object(const bpf::ManifestEndpoint& e) {
  const auto [at, fresh] = proved_.try_emplace(e.object, e.sizes);
  if (!fresh) {
    if (at->second != e.sizes) {
      out.lines.push_back({e.object, ProofAnswer::Refuted,
                           "the manifest gives one object tables of different sizes"});
    }
    return {};
  }
  const auto bytes = read(e.object);
  if (!bytes) return bytes.error();
  if (manifest_.prelude || manifest_.events || (manifest_.stateful && manifest_.vlan)) {
    out.lines.push_back({e.object, ProofAnswer::NotProved,
                         manifest_.prelude ? "a filter of the user's own stands in front of it"
                         : manifest_.events
                             ? "events are not modelled"
                             : "connection tracking behind VLAN tags is not modelled"});
    return {};
  }
  if (manifest_.vlan != request_.vlan) {
    const auto name = [](bool vlan) { return vlan ? "allow" : "drop"; };
    out.lines.push_back(
        {e.object, ProofAnswer::NotProved,
         fmt::format("it was compiled with --vlan {}, and is asked about as --vlan {}",
                     name(manifest_.vlan), name(request_.vlan))});
    return {};
  }
  const auto object = ebpf::read_object(*bytes);
  if (!object) {
    out.lines.push_back({e.object, ProofAnswer::NotProved, object.error()});
    return {};
  }
  if (manifest_.stateful && object->variable("http_starts") != nullptr) {
    out.lines.push_back({e.object, ProofAnswer::NotProved,
                         "connection tracking around the reading of requests is not modelled"});
    return {};
  }
  if (manifest_.stateful && request_.quick) {
    out.lines.push_back({e.object, ProofAnswer::NotProved,
                         "with connection tracking that takes some 20 seconds: --verify does it"});
    return {};
  }
  for (const unsigned direction : {0U, 1U}) {
    const char* program = direction == 0 ? bpf::kIngressProgram : bpf::kEgressProgram;
    ProofLine line{e.object + " " + program, ProofAnswer::NotProved, {}};
    auto shape = shape_of(e.sizes, request_.vlan);
    shape.http = object->variable("http_starts") != nullptr;
    shape.stateful = manifest_.stateful;
    // The effort grows with every one.
    if (!request_.thorough) shape.extension_headers = 1;
    const std::string remembered = cache_file(*bytes, direction, shape);
    std::error_code error;
    if (!remembered.empty() && std::filesystem::exists(remembered, error)) {
      line.answer = shape.stateful ? ProofAnswer::NotProved : ProofAnswer::Proved;
      line.detail = shape.stateful ? verify::left_out(shape) : "by an earlier run";
      out.lines.push_back(std::move(line));
      continue;
    }
    write_down_as(line.what);
    const verify::ProofReport r =
        verify::prove_program(*object, program, direction, shape, solver_);
    if (r.answer == verify::ProofReport::Answer::Proved) {
      remember(remembered, line.what + " is proved");
      line.answer = ProofAnswer::Proved;
      line.detail =
          fmt::format("{} instructions, {} questions to the solver", r.instructions, r.questions);
    } else if (r.answer == verify::ProofReport::Answer::Refuted) {
      line.answer = ProofAnswer::Refuted;
      line.detail = refutation(*bytes, program, *r.witness, shape.stateful);
      out.witnesses.push_back(r.witness->frame);
    } else {
      if (r.left_out) remember(remembered, line.what + ": " + r.reason);
      line.detail = r.reason + (r.left_out ? "; verify --thorough takes them, too" : "");
      if (shape.http) try_out(line, *bytes, program, direction, shape);
    }
    out.lines.push_back(std::move(line));
  }
  requests(e, *bytes, *object);
  return {};
}

// The functions that read requests. The programs of an object have the same, one each.
void Verification::requests(const bpf::ManifestEndpoint& e, const std::string& elf,
                            const ebpf::Object& object) {
  if (object.variable("http_starts") == nullptr) return;
  auto shape = shape_of(e.sizes, request_.vlan);
  shape.http = true;
  std::vector<ebpf::Instruction> proved;
  for (const unsigned direction : {0U, 1U}) {
    const char* name = direction == 0 ? bpf::kIngressProgram : bpf::kEgressProgram;
    const ebpf::Program* program = object.program(name);
    const ebpf::Map* node = object.map(bpf::kNodeMap);
    if (program == nullptr || node == nullptr) continue;  // said of the program
    const auto functions = verify::request_functions(object, *program);
    if (!functions) continue;
    std::vector<ebpf::Instruction> code(
        program->code.begin() + static_cast<std::ptrdiff_t>(program->functions.at(1)),
        program->code.end());
    if (code == proved) continue;
    const auto line = [&](const char* part, const char* meaning, auto prove) {
      ProofLine out_line{
          fmt::format("{} {}, {}", e.object, name, part), ProofAnswer::NotProved, {}};
      const std::string remembered = cache_file(elf, out_line.what);
      std::error_code error;
      if (!remembered.empty() && std::filesystem::exists(remembered, error)) {
        out_line.answer = ProofAnswer::Proved;
        out_line.detail = "by an earlier run";
      } else {
        write_down_as(out_line.what);
        const verify::RequestReport r = prove();
        if (r.proved) {
          remember(remembered, out_line.what + " is proved");
          out_line.answer = ProofAnswer::Proved;
        }
        out_line.detail = r.proved
                              ? fmt::format("{}, {} questions to the solver", meaning, r.questions)
                              : r.reason;
        if (!r.proved) try_out(out_line, elf, name, direction, shape);
      }
      const bool fine = out_line.answer == ProofAnswer::Proved;
      out.lines.push_back(std::move(out_line));
      return fine;
    };
    const bool asked = line("requests", "a filter's verdict decides", [&] {
      return verify::prove_ask(object, *program, *functions,
                               static_cast<std::size_t>(node - object.maps.data()), solver_);
    });
    const bool read = line("loop over a request's bytes", "it walks the filter's table", [&] {
      return verify::prove_head(object, *program, *functions, solver_);
    });
    if (asked && read) proved = std::move(code);
  }
}

// A packet may show what is wrong where a proof fails.
void Verification::try_out(ProofLine& line, const std::string& elf, const char* program,
                           unsigned direction, const verify::DatapathShape& shape) {
  const auto trial = try_requests(elf, program, direction, shape);
  if (!trial) return;
  line.answer = ProofAnswer::Refuted;
  constexpr std::size_t kShown = 60;
  const std::string& payload = trial->payload;
  line.detail = fmt::format("payload \"{}\"{}: {}", escaped(payload.substr(0, kShown)),
                            payload.size() > kShown ? " and so on" : "",
                            refutation(elf, program, trial->witness, false));
  out.witnesses.push_back(trial->witness.frame);
}

std::string Verification::image(const bpf::ManifestEndpoint& e) {
  const std::string name = e.names.empty() ? e.view : e.names.front();
  ProofLine line{fmt::format("tables of {}", name), ProofAnswer::NotProved, {}};
  const ir::NodeView* view = nullptr;
  const ir::ResolvedEndpoint* endpoint = nullptr;
  if (const auto found = endpoints_.find({e.view, e.names}); found != endpoints_.end()) {
    std::tie(view, endpoint) = found->second;
  }
  if (endpoint == nullptr || endpoint->ingress == nullptr || endpoint->egress == nullptr ||
      !endpoint->error.empty() || !endpoint->depends_on.empty()) {
    line.detail = endpoint == nullptr ? "the input has no such endpoint"
                                      : "what its policy says is not known";
    out.lines.push_back(std::move(line));
    return {};
  }
  const auto [at, fresh] = nodes_.try_emplace({e.identities, e.classes, e.object, e.sizes});
  if (fresh) {
    const auto identities = read(e.identities);
    if (!identities) return identities.error();
    const auto classes = read(e.classes);
    if (!classes) return classes.error();
    at->second = read_node_tables(*identities, *classes);
  }
  const auto policy = read(e.image);
  if (!policy) return policy.error();
  const TablesProof found = check_tables(at->second, *policy, e.slot, e.sizes, *view, *endpoint);
  line.answer = found.answer;
  line.detail = found.detail;
  out.lines.push_back(std::move(line));
  for (const auto& [number, filter] : found.filters) {
    const std::string wrong = http_filter(e, number, filter);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

// The filter of the program against the rules, which are made an automaton anew.
std::string Verification::http_filter(const bpf::ManifestEndpoint& e, std::uint16_t number,
                                      const ir::ProxyFilter* filter) {
  const std::string rules_text = filter == nullptr ? std::string() : filter->text();
  if (!filters_.insert({e.object, number, rules_text}).second) return {};
  ProofLine line{fmt::format("{} HTTP filter {}", e.object, number), ProofAnswer::NotProved, {}};
  const bool decidable = filter != nullptr && filter->tls.empty() && filter->server_names.empty() &&
                         filter->kafka.empty() && filter->dns.empty() && filter->generic.empty();
  if (!decidable) {
    line.answer = ProofAnswer::Refuted;
    line.detail = "the policies leave this to the proxy";
    out.lines.push_back(std::move(line));
    return {};
  }
  const auto bytes = read(e.object);
  if (!bytes) return bytes.error();
  const auto object = ebpf::read_object(*bytes);
  const auto tables = object ? verify::HttpTables::read(*object) : Error{object.error()};
  std::vector<ir::HttpRule> rules = filter->http;
  if (filter->everything) rules = {ir::HttpRule{}};
  const auto automaton = ir::http_head_automaton(rules);
  if (!tables || !automaton) {
    line.detail = tables ? automaton.error() : tables.error();
    out.lines.push_back(std::move(line));
    return {};
  }
  const verify::HttpReport r = verify::check_http_tables(*tables, number, *automaton);
  using Answer = verify::HttpReport::Answer;
  if (r.answer == Answer::Proved) {
    const verify::HeadReport said = verify::check_head_automaton(*automaton, rules);
    if (said.answer == verify::HeadReport::Answer::Proved) {
      line.answer = ProofAnswer::Proved;
      line.detail = fmt::format(
          "its tables hold an automaton of {} states that says what {} rule{} say{}", r.states,
          rules.size(), rules.size() == 1 ? "" : "s", rules.size() == 1 ? "s" : "");
    } else if (said.answer == verify::HeadReport::Answer::Refuted) {
      line.answer = ProofAnswer::Refuted;
      line.detail =
          fmt::format("request \"{}\": the automaton in its tables does not say what the rules say",
                      escaped(said.head));
    } else {
      line.detail = fmt::format("the automaton in its tables and the rules: {}", said.reason);
    }
  } else if (r.answer == Answer::Refuted) {
    const auto word = [](std::uint32_t label) {
      return label == 0 ? "leave it open" : label == 1 ? "let it pass" : "deny it";
    };
    line.answer = ProofAnswer::Refuted;
    line.detail = fmt::format("request \"{}\": the tables {}, the rules {}", escaped(r.request),
                              word(r.tables), word(r.rules));
  } else {
    line.detail = r.reason;
  }
  out.lines.push_back(std::move(line));
  return {};
}

std::string Verification::run() {
  for (const ir::NodeView& v : resolved_.views) {
    for (const ir::ResolvedEndpoint& x : v.endpoints) {
      endpoints_[{v.node, bpf::endpoint_names(world_, v, x)}] = {&v, &x};
    }
  }
  for (const bpf::ManifestEndpoint& e : manifest_.endpoints) {
    if (!request_.only.empty() && request_.only.count(e.names) == 0) continue;
    for (const std::string& wrong : {image(e), object(e)}) {
      if (!wrong.empty()) return wrong;
    }
    endpoints_.erase({e.view, e.names});
  }
  for (const auto& [who, endpoint] : endpoints_) {
    const ir::ResolvedEndpoint& x = *endpoint.second;
    const bool subject = (x.ingress != nullptr && x.ingress->enforced) ||
                         (x.egress != nullptr && x.egress->enforced) || !x.error.empty();
    if (!request_.complete || !subject) continue;
    out.lines.push_back(
        {fmt::format("program of {}", who.second.empty() ? who.first : who.second.front()),
         ProofAnswer::NotProved, "there is none, and policies select it"});
  }
  return {};
}

}  // namespace

NodeTables read_node_tables(std::string_view identities, std::string_view classes) {
  NodeTables out;
  auto i = bpf::read_identity_image(identities);
  auto c = bpf::read_class_image(classes);
  if (!i || !c) return out;
  out.readable = true;
  out.identities = std::move(*i);
  out.classes = std::move(*c);
  return out;
}

TablesProof check_tables(NodeTables& node, std::string_view policy, std::size_t slot,
                         const bpf::SizeClass& sizes, const ir::NodeView& view,
                         const ir::ResolvedEndpoint& endpoint) {
  TablesProof line{{{}, ProofAnswer::Refuted, {}}};
  const auto image = bpf::read_policy_image(policy);
  if (!node.readable || !image || !bpf::fits(node.identities, node.classes, *image, sizes) ||
      !bpf::belong_together(*image, node.classes, slot)) {
    line.detail = "the images contradict themselves or one another";
    return line;
  }
  // Only images that fit can be laid out.
  if (node.value.empty()) node.value = bpf::node_value(node.identities, node.classes, sizes);
  const verify::ImageReport r = verify::check_image(
      shape_of(sizes, false), node.value, bpf::policy_value(*image, node.classes, slot, sizes),
      view, *endpoint.ingress, *endpoint.egress);
  if (r.difference) {
    const verify::ImageDifference& d = *r.difference;
    line.detail = fmt::format("{} {} protocol {} port {}: the tables say {}, the policies {}",
                              ir::direction_name(d.direction), d.peer ? d.peer->str() : "any peer",
                              d.protocol, d.port, d.tables, d.policy);
    return line;
  }
  for (const verify::RecordUse& use : r.records) {
    if (bpf::decode_record(*image, use.record) == use.said) continue;
    line.detail = fmt::format("record {} says something else than the policies", use.record);
    return line;
  }
  line.answer = ProofAnswer::Proved;
  line.detail = fmt::format("{} stretches of addresses, {} of ports", r.addresses, r.decisions);
  for (const verify::RecordUse& use : r.records) {
    const std::uint16_t number = use.record == 0 ? 0 : image->records[use.record - 1].filter;
    if (number != 0) line.filters.emplace_back(number, use.filter);
  }
  return line;
}

std::string_view proof_word(ProofAnswer a) {
  return a == ProofAnswer::Proved ? "proved" : a == ProofAnswer::Refuted ? "refuted" : "not proved";
}

std::size_t Verified::count(ProofAnswer answer) const {
  return static_cast<std::size_t>(std::count_if(
      lines.begin(), lines.end(), [&](const ProofLine& l) { return l.answer == answer; }));
}

Expected<Verified> verify_directory(const VerifyRequest& request, const ir::World& world,
                                    const ir::Resolved& resolved, const bpf::Manifest& manifest) {
  Verification verification(request, world, resolved, manifest);
  const std::string wrong = verification.run();
  if (!wrong.empty()) return Error{wrong};
  return std::move(verification.out);
}

std::string proof_cache() {
  const auto set = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (const std::string cache = set("XDG_CACHE_HOME"); !cache.empty()) {
    return cache + "/policyc/proofs";
  }
  const std::string home = set("HOME");
  return home.empty() ? home : home + "/.cache/policyc/proofs";
}

}  // namespace policyc::cli
