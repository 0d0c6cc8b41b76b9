// Programs that read requests (`--l7 kernel`): the emitted ones are proved, what is proved is what
// the kernel does, and what the kernel shows to differ is not proved. 16 mutants, drawn with a
// fixed seed; POLICYC_MUTANTS=N tries N of them, `all` every one.
#include "verifier/request_proof.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>

#include "backend-bpf/http_code.h"
#include "cli/request_trials.h"
#include "ir/automata/http_head.h"
#include "ir/base/file.h"
#include "tests/backend-bpf/bpf_support.h"
#include "tests/backend-bpf/http_program.h"
#include "tests/ir/http_gen.h"
#include "tests/verifier/datapath_shape.h"
#include "tests/verifier/mutants.h"
#include "verifier/program_proof.h"

namespace policyc::verify {
namespace {

using ebpf::Instruction;

ir::Dfa files_automaton() {
  ir::HttpRule rule;
  rule.method = "GET";
  rule.path = "/files/.*";
  auto automaton = ir::http_head_automaton({rule});
  EXPECT_TRUE(automaton);
  return *automaton;
}

Expected<std::string> compiled(const std::string& http) {
  const auto module = bpf::find_clang_module();
  if (!module) return Error{module.error()};
  auto objects = bpf::compile_c(*module, {bpf::program_text({.sizes = {}, .http = http})});
  if (!objects) return Error{objects.error()};
  return objects->front();
}

// The object for one filter: GET /files/.*
const std::string& files_object() {
  static const std::string elf = [] {
    const auto text = bpf::http_text({files_automaton()});
    EXPECT_TRUE(text) << text.error();
    auto out = compiled(*text);
    EXPECT_TRUE(out) << out.error();
    return *out;
  }();
  return elf;
}

DatapathShape files_shape() {
  DatapathShape shape = testing::datapath_shape({});
  shape.http = true;
  return shape;
}

// Why it is not proved that the ingress program, and what it asks, are as they should be.
std::string unproved(const ebpf::Object& object, TermSolver& solver,
                     std::optional<ProgramWitness>* witness = nullptr) {
  const ebpf::Program* program = object.program(bpf::kIngressProgram);
  const auto functions = request_functions(object, *program);
  if (!functions) return functions.error();
  const auto node = static_cast<std::size_t>(object.map(bpf::kNodeMap) - object.maps.data());
  const RequestReport ask = prove_ask(object, *program, *functions, node, solver);
  if (!ask.proved) return "ask: " + ask.reason;
  const RequestReport head = prove_head(object, *program, *functions, solver);
  if (!head.proved) return "head: " + head.reason;
  const ProofReport r = prove_program(object, bpf::kIngressProgram, 0, files_shape(), solver);
  if (witness != nullptr) *witness = r.witness;
  if (r.answer == ProofReport::Answer::Proved) return {};
  return r.witness ? "program: refuted" : "program: " + r.reason;
}

// Tables by which every TCP packet is left to the proxy, and a filter asked: that of `filter`.
std::vector<bpf::MapValue> tables_for(std::uint16_t filter, bool proxy) {
  const DatapathShape shape = files_shape();
  std::string node(shape.node_size(), '\0'), policy(shape.policy_size(), '\0');
  node[4] = 1;  // report
  if (proxy) node[8] = 0x3A;
  for (const auto& [protocol, kind] : {std::pair(6, 1), {17, 2}, {132, 3}, {1, 4}, {58, 5}}) {
    node[static_cast<std::size_t>(64 + protocol)] = static_cast<char>(kind);
  }
  // One identity everywhere, one record, one cell.
  for (std::size_t at = 320; at < node.size(); at += 4) node[at] = 1;
  policy[12] = 2;
  policy[20] = static_cast<char>(filter & 255U);
  policy[21] = static_cast<char>(filter >> 8U);
  for (std::uint64_t at = 0; at < shape.cells; ++at) {
    policy[shape.cells_at() + 2 * at] = 1;
    policy[shape.cells_at() + 2 * at + 1] = static_cast<char>(0x80);
  }
  return {{bpf::kNodeMap, node}, {bpf::kPolicyMap, policy}};
}

// Heads at the borders of what is asked: long ones and cut ones, bytes beside the sets that are
// passed over, some that are denied early.
std::string some_head(std::mt19937& random) {
  const auto below = [&](std::size_t n) { return random() % n; };
  static const std::vector<std::string> starts = {"GET /files/", "GET /files/", "GET /other/",
                                                  "POST /files/", "GEX /"};
  std::string head = starts[below(starts.size())];
  const auto letters = [&](std::size_t n) {
    for (; n != 0; --n) head += "abcdefghijklmnopqrstuvwxyz-/.0123456789"[below(39)];
  };
  letters(below(3) == 0 ? below(1500) : below(40));
  head += " HTTP/1.1\r\nHost: b\r\nX-Long: ";
  letters(below(4) == 0 ? 1430 + below(40) : below(40));
  head += "\r\n\r\n";
  if (below(4) == 0) head.resize(below(head.size()) + 1);
  if (below(3) == 0) head[below(head.size())] = static_cast<char>(random());
  // Around the longest head that is decided.
  if (below(6) == 0) {
    head = "GET /files/ HTTP/1.1\r\nHost: b\r\nX-Long: \r\n\r\n";
    const std::size_t size = 1536 + below(12);
    head.insert(head.size() - 4, size - head.size(), 'z');
  }
  return head;
}

// Frames around what is shown to a filter.
std::vector<std::uint8_t> request_frame(std::mt19937& random) {
  const auto below = [&](std::size_t n) { return random() % n; };
  const bool v6 = below(2) == 0;
  std::vector<std::uint8_t> f(14);
  f[12] = v6 ? 0x86 : 0x08;
  f[13] = v6 ? 0xDD : 0x00;
  std::size_t l4 = 54;
  const auto protocol = static_cast<std::uint8_t>(below(12) == 0 ? 17 : 6);
  if (v6) {
    f.resize(54);
    f[14] = 0x60;
    f[20] = protocol;
    if (below(4) == 0) {  // a hop-by-hop header, some so long that the payload is too far
      f[20] = 0;
      const std::size_t size = (below(3) == 0 ? 51 + below(8) : below(3)) + 1;
      f.resize(54 + size * 8);
      f[54] = protocol;
      f[55] = static_cast<std::uint8_t>(size - 1);
      l4 = f.size();
    }
  } else {
    const std::size_t words = 5 + (below(4) == 0 ? below(11) : 0);
    f.resize(14 + words * 4);
    f[14] = static_cast<std::uint8_t>(0x40 + words);
    f[23] = protocol;
    if (below(10) == 0) f[21] = static_cast<std::uint8_t>(below(3));  // a later fragment
    l4 = f.size();
  }
  const std::size_t words = below(5) == 0 ? below(16) : 5;
  f.resize(l4 + std::max<std::size_t>(words * 4, 20 - below(20) / 19));
  f[l4 + 3] = 80;
  if (f.size() > l4 + 12) f[l4 + 12] = static_cast<std::uint8_t>(words << 4U);
  if (below(8) != 0) {
    const std::string head = some_head(random);
    f.insert(f.end(), head.begin(), head.end());
  }
  // As long as the IP header says; a little more, or less.
  std::size_t total = f.size() - (v6 ? 54 : 14);
  if (below(8) == 0) total += below(3) - 1;
  f[v6 ? 18 : 16] = static_cast<std::uint8_t>(total >> 8U);
  f[v6 ? 19 : 17] = static_cast<std::uint8_t>(total);
  return f;
}

struct Seen {
  std::uint32_t code, mark;
  std::array<std::uint32_t, 5> cb;
  bool operator==(const Seen&) const = default;
};
Seen seen(const bpf::KernelRun& r) {
  return {r.return_code, r.mark, r.cb};
}

// Tables and frames, and what the program does: as the meaning says.
class Trials {
 public:
  explicit Trials(std::size_t frames) {
    const auto object = ebpf::read_object(files_object());
    const auto http = HttpTables::read(*object);
    EXPECT_TRUE(http) << http.error();
    tables_ = {tables_for(1, false), tables_for(1, true), tables_for(0, false)};
    std::mt19937 random(20260801);
    for (std::size_t i = 0; i < frames; ++i) frames_.push_back(request_frame(random));
    for (const auto& tables : tables_) {
      const auto kernel = bpf::LoadedObject::load(files_object(), tables);
      EXPECT_TRUE(kernel) << kernel.error();
      std::vector<Seen>& all = original_.emplace_back();
      for (const auto& f : frames_) {
        const auto run = kernel->run(bpf::kIngressProgram, f);
        EXPECT_TRUE(run) << run.error();
        all.push_back(seen(*run));
        const PacketFate fate =
            fate_of(f, 0, 0, files_shape(), tables[0].bytes, tables[1].bytes, &*http);
        EXPECT_EQ((Seen{fate.action, fate.mark, fate.cb}), all.back());
        ++fates_[fate.cb[0]];
      }
    }
  }
  // How many frames had each outcome.
  const std::map<std::uint32_t, std::size_t>& fates() const { return fates_; }
  // Whether the kernel loads the program, and does something else.
  std::pair<bool, bool> try_out(const std::string& elf) const {
    for (std::size_t t = 0; t < tables_.size(); ++t) {
      const auto kernel = bpf::LoadedObject::load(elf, tables_[t]);
      if (!kernel) return {false, false};
      for (std::size_t k = 0; k < frames_.size(); ++k) {
        const auto run = kernel->run(bpf::kIngressProgram, frames_[k]);
        if (run && !(seen(*run) == original_[t][k])) return {true, true};
      }
    }
    return {true, false};
  }

 private:
  std::vector<std::vector<bpf::MapValue>> tables_;
  std::vector<std::vector<std::uint8_t>> frames_;
  std::vector<std::vector<Seen>> original_;
  std::map<std::uint32_t, std::size_t> fates_;
};

TEST(RequestProof, TheEmittedProgramIsProvedAndDoesWhatIsProved) {
  POLICYC_NEEDS_BPF();
  if (!TermSolver::available()) GTEST_SKIP() << "skipped: no solver in this build";
  const auto object = ebpf::read_object(files_object());
  ASSERT_TRUE(object) << object.error();
  TermSolver solver;
  EXPECT_EQ(unproved(*object, solver), "");
  const Trials trials(1500);
  // Passed, dropped, left to the proxy: all of them happen.
  for (const std::uint32_t outcome : {1U, 2U, 3U}) EXPECT_GT(trials.fates().at(outcome), 100U);
}

TEST(RequestProof, WideTablesAreProved) {
  if (!bpf::find_clang_module()) GTEST_SKIP() << "skipped: no clang module";
  if (!TermSolver::available()) GTEST_SKIP() << "skipped: no solver in this build";
  const auto automata = rc::gen::exec([] {
                          std::vector<ir::Dfa> out;
                          while (out.size() < 20) {
                            auto automaton = ir::http_head_automaton(ir::testing::some_rules());
                            if (automaton) out.push_back(std::move(*automaton));
                          }
                          return out;
                        })(rc::Random(20), 100)
                            .value();
  const auto text = bpf::http_text(automata);
  ASSERT_TRUE(text) << text.error();
  ASSERT_NE(text->find("#define HTTP_WIDE 1"), std::string::npos);
  const auto elf = compiled(*text);
  ASSERT_TRUE(elf) << elf.error();
  const auto object = ebpf::read_object(*elf);
  ASSERT_TRUE(object) << object.error();
  TermSolver solver;
  EXPECT_EQ(unproved(*object, solver), "");
}

TEST(RequestProof, OtherSolversAgreeAboutTheLoop) {
  if (!bpf::find_clang_module()) GTEST_SKIP() << "skipped: no clang module";
  if (!TermSolver::available()) GTEST_SKIP() << "skipped: no solver in this build";
  const auto object = ebpf::read_object(files_object());
  ASSERT_TRUE(object) << object.error();
  const ebpf::Program& program = *object->program(bpf::kIngressProgram);
  const auto functions = request_functions(*object, program);
  ASSERT_TRUE(functions) << functions.error();
  TermSolver solver;
  std::vector<std::pair<std::string, TermAnswer::Kind>> questions;
  solver.listen([&](const TermQuestion& q) { questions.emplace_back(q.smtlib, q.answer->kind); });
  const RequestReport r = prove_head(*object, program, *functions, solver);
  EXPECT_TRUE(r.proved) << r.reason;
  EXPECT_EQ(questions.size(), r.questions);
  ASSERT_GT(questions.size(), 5U);
  if (std::system("command -v cvc5 >/dev/null") != 0) GTEST_SKIP() << "cvc5 is not installed";
  const std::string file = ::testing::TempDir() + "policyc-request-proof.smt2";
  std::size_t unknown = 0;
  for (const auto& [text, kind] : questions) {
    ASSERT_FALSE(write_file_atomic(file, text));
    ASSERT_EQ(std::system(("cvc5 --rlimit=200000 " + file + " >" + file + ".out 2>&1").c_str()), 0);
    const std::string answer = *read_file(file + ".out");
    const bool never = kind == TermAnswer::Kind::Never;
    EXPECT_TRUE(answer == "unknown\n" || answer == (never ? "unsat\n" : "sat\n")) << answer;
    unknown += answer == "unknown\n" ? 1U : 0U;
  }
  std::remove(file.c_str());
  std::remove((file + ".out").c_str());
  EXPECT_LT(unknown, questions.size() / 2);
}

// Changes of the text that a compiler takes.
TEST(RequestProof, WrongTextsAreNotProved) {
  if (!bpf::find_clang_module()) GTEST_SKIP() << "skipped: no clang module";
  if (!TermSolver::available()) GTEST_SKIP() << "skipped: no solver in this build";
  const auto text = bpf::http_text({files_automaton()});
  ASSERT_TRUE(text) << text.error();
  const std::pair<const char*, const char*> changes[] = {
      {"#define HTTP_BLOCKS 192", "#define HTTP_BLOCKS 191"},
      {"#define HTTP_BLOCKS 192", "#define HTTP_BLOCKS 193"},
      {"if (bytes & HTTP_ALL(0x80)) return 0;", ""},
      {"(in & HTTP_ALL(0x80)) == HTTP_ALL(0x80)", "(in & HTTP_ALL(0x80)) != 0"},
      {"~(bytes + s->last[2])", "~(bytes + s->last[1])"},
      {"if (state == 0) return HTTP_UNDECIDED;", "if (state == 0) return HTTP_ALLOW;"},
      {"http_walk(filter, state, bytes)", "http_walk(filter, state, bytes >> 8)"},
      {"i < 8; i++) state", "i < 7; i++) state"},
      {"i < 7; i++) {", "i < 6; i++) {"},
      {"return p < end ? HTTP_UNDECIDED :", "return p > end ? HTTP_UNDECIDED :"},
      {"http_starts[filter & (HTTP_FILTERS - 1)]", "http_starts[0]"},
      {"if (payload >= end)", "if (payload > end)"},
      {"verdict == HTTP_DENY) return OUTCOME_DROP", "verdict == HTTP_DENY) return OUTCOME_PASS"},
      {"verdict == HTTP_ALLOW && node.proxy_port == 0", "verdict == HTTP_ALLOW"},
      // Something that only the first round sees.
      {"    if (p + 8 > end) break;\n    u64 bytes",
       "    if (p + 8 > end) break;\n    asm volatile(\"\" : \"+r\"(first));\n"
       "    if (first == ~0ull && *p == 68) return HTTP_ALLOW;\n"
       "    first = (u32)first + 1u;\n    u64 bytes"},
  };
  TermSolver solver;
  std::size_t shown = 0;
  for (const auto& [from, to] : changes) {
    std::string changed = *text;
    const std::size_t at = changed.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    changed.replace(at, std::string(from).size(), to);
    const std::string loop = "for (u32 block = 0;";
    ASSERT_NE(changed.find(loop), std::string::npos);
    changed.insert(changed.find(loop), "u64 first = ~0ull;\n  ");
    const auto elf = compiled(changed);
    ASSERT_TRUE(elf) << elf.error();
    const auto object = ebpf::read_object(*elf);
    ASSERT_TRUE(object) << object.error();
    const std::string why = unproved(*object, solver);
    EXPECT_NE(why, "") << from << " -> " << to;
    // And a packet shows most of them.
    const auto trial = cli::try_requests(*elf, bpf::kIngressProgram, 0, files_shape());
    shown += trial ? 1U : 0U;
    if (std::getenv("POLICYC_MUTANTS") != nullptr) {
      std::printf("%s -> %s: %s; %s\n", from, to, why.c_str(),
                  trial ? trial->payload.c_str() : "no packet");
    }
    if (!trial || bpf::kernel_unavailable() || !trial->witness.outside.empty()) continue;
    const verify::ProgramWitness& w = trial->witness;
    const auto kernel =
        bpf::LoadedObject::load(*elf, {{bpf::kNodeMap, w.node}, {bpf::kPolicyMap, w.policy}});
    if (!kernel) continue;  // its verifier refuses some
    const auto run = kernel->run(bpf::kIngressProgram, w.frame);
    ASSERT_TRUE(run) << run.error();
    EXPECT_EQ((Seen{w.program.action, w.program.mark, w.program.cb}), seen(*run)) << from;
  }
  EXPECT_GE(shown, 10U);  // the others take other tables, or no packet gets there
}

TEST(RequestProof, WhatTheKernelShowsToDifferIsNotProved) {
  POLICYC_NEEDS_BPF();
  if (!TermSolver::available()) GTEST_SKIP() << "skipped: no solver in this build";
  const std::string& elf = files_object();
  const auto object = ebpf::read_object(elf);
  ASSERT_TRUE(object) << object.error();
  const ebpf::Program& program = *object->program(bpf::kIngressProgram);
  const Trials trials(1500);
  // The functions, and of the program itself what is not in other programs: from the packet's
  // filling up, and around the call.
  struct Mutant {
    std::size_t place;
    Instruction i;
  };
  std::vector<Mutant> mutants;
  const auto add = [&](const std::string& section, std::size_t begin, std::size_t end) {
    const std::size_t from = testing::place_of(elf, section);
    ASSERT_NE(from, std::string::npos);
    const auto code = ebpf::decode(elf.substr(from, 8 * end));
    ASSERT_TRUE(code);
    const std::vector<bool> second = ebpf::second_slots(*code);
    for (std::size_t at = begin; at < end; ++at) {
      if (second[at]) continue;
      for (const Instruction& i : testing::neighbours((*code)[at])) {
        mutants.push_back({from + 8 * at, i});
      }
    }
  };
  add(".text", 0, program.code.size() - program.functions.at(1));
  const auto behind = behind_pull(program);
  ASSERT_TRUE(behind);
  add(program.section, 0, *behind);
  std::size_t call = program.functions[1];
  while (call > 0 && !(program.code[call].opcode == (ebpf::kJmp | ebpf::kCall) &&
                       program.code[call].src == ebpf::kCallIsLocal)) {
    --call;
  }
  add(program.section, call - 80, call + 8);
  const std::size_t all = mutants.size();
  std::mt19937 random(20260801);
  std::shuffle(mutants.begin(), mutants.end(), random);
  const char* wanted = std::getenv("POLICYC_MUTANTS");
  const std::size_t limit = wanted == nullptr                   ? 16
                            : std::string_view(wanted) == "all" ? all
                                                                : std::strtoul(wanted, nullptr, 10);
  mutants.resize(std::min(all, limit));
  TermSolver solver;
  std::size_t loaded = 0, differ = 0, refuted = 0, equivalent = 0, open = 0;
  for (const Mutant& m : mutants) {
    std::string changed = elf;
    changed.replace(m.place, 8, ebpf::encode({m.i}));
    const auto [loads, differs] = trials.try_out(changed);
    if (!loads) continue;
    ++loaded;
    const auto mutant = ebpf::read_object(changed);
    std::optional<ProgramWitness> witness;
    const std::string why =
        mutant ? unproved(*mutant, solver, &witness) : "unreadable: " + mutant.error();
    const std::string name = std::to_string(m.place) + ": " + ebpf::disassemble(m.i);
    if (differs) {
      ++differ;
      refuted += witness ? 1U : 0U;
      EXPECT_NE(why, "") << name;
    } else if (why.empty()) {
      ++equivalent;
    } else {
      ++open;
      std::printf("not shown to differ: %s: %s\n", name.c_str(), why.c_str());
    }
    // The witness is one: the kernel does what the refutation says.
    if (witness && witness->outside.empty() && witness->whole && witness->frame.size() >= 14 &&
        witness->vlan_present == 0) {
      const auto kernel = bpf::LoadedObject::load(
          changed, {{bpf::kNodeMap, witness->node}, {bpf::kPolicyMap, witness->policy}});
      ASSERT_TRUE(kernel) << name;
      const auto run = kernel->run(bpf::kIngressProgram, witness->frame);
      if (run) {
        EXPECT_EQ((Seen{witness->program.action, witness->program.mark, witness->program.cb}),
                  seen(*run))
            << name;
      }
    }
  }
  std::printf(
      "%zu of %zu mutants: the kernel loads %zu; %zu differ, none proved (%zu shown with a "
      "packet); "
      "of the others %zu are proved, %zu not\n",
      mutants.size(), all, loaded, differ, refuted, equivalent, open);
  EXPECT_GT(differ, 0U);
}

}  // namespace
}  // namespace policyc::verify
