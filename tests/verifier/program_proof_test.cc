// Translation validation has teeth: the emitted program is proved, mutants that the kernel shows to
// differ are not, and changed tables are found. POLICYC_MUTANTS=N tries N mutants (default 4).
#include "verifier/program_proof.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <random>

#include "ir/base/file.h"
#include "tests/backend-bpf/bpf_support.h"
#include "tests/verifier/datapath_shape.h"

namespace policyc::verify {
namespace {

TEST(ProgramProof, TheProgramIsProvedAndMutantsAreNot) {
  POLICYC_NEEDS_BPF();
  if (!TermSolver::available()) GTEST_SKIP() << "skipped: no solver in this build";
  const bpf::SizeClass sizes;
  const std::string& elf = testing::object_for(sizes);
  const DatapathShape shape = testing::datapath_shape(sizes);
  const auto object = ebpf::read_object(elf);
  ASSERT_TRUE(object) << object.error();
  TermSolver solver;
  const ProofReport original = prove_program(*object, "policyc_ingress", 0, shape, solver);
  ASSERT_EQ(original.answer, ProofReport::Answer::Proved) << original.reason;

  const char* wanted = std::getenv("POLICYC_MUTANTS");
  const int mutants = wanted == nullptr ? 4 : std::atoi(wanted);
  std::mt19937 random(20260801);
  // Tables in which many packets find something.
  std::string node(shape.node_size(), '\0'), policy(shape.policy_size(), '\0');
  for (char& c : policy) c = static_cast<char>(random() % 3 == 0 ? random() & 127U : 0U);
  for (std::size_t at = 320; at < node.size(); at += 4) {
    node[at] = static_cast<char>(random() & 255U);
    node[at + 3] = static_cast<char>(random() % 4 == 0 ? 0x80 : 0);
  }
  node[4] = 1;  // report
  for (const auto& [protocol, kind] : {std::pair(6, 1), {17, 2}, {132, 3}, {1, 4}, {58, 5}}) {
    node[static_cast<std::size_t>(64 + protocol)] = static_cast<char>(kind);
  }
  std::vector<std::vector<std::uint8_t>> frames;
  for (int i = 0; i < 300; ++i) {
    std::vector<std::uint8_t> f(60 + random() % 60);
    for (std::uint8_t& b : f) b = static_cast<std::uint8_t>(random() & 255U);
    const bool v6 = i % 2 == 0;
    f[12] = v6 ? 0x86 : 0x08;
    f[13] = v6 ? 0xDD : 0;
    const std::uint8_t protocols[] = {6, 17, 1, 58, 132, 47, 0, 43, 44, 51, 60};
    if (f.size() > 14) f[14] = v6 ? 0x60 : static_cast<std::uint8_t>(0x45 + random() % 2);
    if (f.size() > 23) {
      f[20] = v6 ? protocols[random() % 11] : 0;
      f[21] = v6 ? f[21] : 0;
      f[23] = v6 ? f[23] : protocols[random() % 6];
    }
    frames.push_back(std::move(f));
  }
  const std::vector<bpf::MapValue> values = {{bpf::kNodeMap, node}, {bpf::kPolicyMap, policy}};
  const auto kernel = bpf::LoadedObject::load(elf, values);
  ASSERT_TRUE(kernel) << kernel.error();
  // The meaning, run concretely, is what the kernel does.
  std::vector<bpf::KernelRun> runs;
  for (const auto& f : frames) {
    const auto run = kernel->run(bpf::kIngressProgram, f);
    ASSERT_TRUE(run) << run.error();
    const PacketFate fate = fate_of(f, 0, 0, shape, node, policy);
    EXPECT_EQ(fate.action, run->return_code);
    EXPECT_EQ(fate.mark, run->mark);
    EXPECT_EQ(fate.cb, run->cb);
    runs.push_back(*run);
  }

  const std::vector<ebpf::Instruction>& code = object->program("policyc_ingress")->code;
  const std::vector<bool> second = ebpf::second_slots(code);
  int made = 0, differ = 0, caught = 0;
  while (made < mutants) {
    const std::size_t at = random() % code.size();
    ebpf::Instruction i = code[at];
    const std::uint8_t cls = i.instruction_class();
    if (second[at] || i.opcode == ebpf::kLdImm64 || i.from_register() ||
        (cls != ebpf::kAlu && cls != ebpf::kAlu64 && cls != ebpf::kJmp && cls != ebpf::kJmp32) ||
        i.operation() == ebpf::kExit || i.operation() == ebpf::kJa) {
      continue;
    }
    i.imm += random() % 2 == 0 ? 1 : -1;
    ++made;
    ebpf::Object mutant = *object;
    for (ebpf::Program& p : mutant.programs) {
      if (p.name == "policyc_ingress") p.code[at] = i;
    }
    std::string changed = elf;
    // The instruction with its neighbours, which do not name maps, finds its place in the file.
    std::size_t from = at, to = at + 1;
    while (from > 0 && !second[from - 1] && at - from < 12) --from;
    while (to < code.size() && code[to].opcode != ebpf::kLdImm64 && to - at < 12) ++to;
    const auto slice = [&](const std::vector<ebpf::Instruction>& c) {
      return ebpf::encode({c.begin() + static_cast<std::ptrdiff_t>(from),
                           c.begin() + static_cast<std::ptrdiff_t>(to)});
    };
    const std::string old = slice(code);
    const std::size_t place = changed.find(old);
    if (place == std::string::npos || changed.find(old, place + 1) != std::string::npos) {
      --made;
      continue;
    }
    changed.replace(place, old.size(), slice(mutant.program("policyc_ingress")->code));
    const auto loaded = bpf::LoadedObject::load(changed, values);
    bool differs = false;
    for (std::size_t k = 0; loaded && k < frames.size() && !differs; ++k) {
      const auto run = loaded->run(bpf::kIngressProgram, frames[k]);
      differs = run && (run->return_code != runs[k].return_code || run->cb != runs[k].cb ||
                        run->mark != runs[k].mark);
    }
    if (!differs) continue;
    ++differ;
    const ProofReport r = prove_program(mutant, "policyc_ingress", 0, shape, solver);
    EXPECT_NE(r.answer, ProofReport::Answer::Proved)
        << "instruction " << at << ": " << ebpf::disassemble(i);
    caught += r.answer == ProofReport::Answer::Proved ? 0 : 1;
    if (r.witness) {
      EXPECT_TRUE(!r.witness->outside.empty() || !(r.witness->program == r.witness->meaning));
    }
  }
  std::printf("%d mutants, %d differ in the kernel, %d caught\n", made, differ, caught);
  EXPECT_GT(differ, 0);
}

TEST(ProgramProof, OtherSolversAgree) {
  if (!bpf::find_clang_module()) GTEST_SKIP() << "skipped: no clang module";
  if (!TermSolver::available()) GTEST_SKIP() << "skipped: no solver in this build";
  const bpf::SizeClass sizes;
  const auto object = ebpf::read_object(testing::object_for(sizes));
  ASSERT_TRUE(object) << object.error();
  TermSolver solver;
  std::vector<std::string> questions;
  std::vector<TermAnswer> answers;
  solver.listen([&](const TermQuestion& q) {
    EXPECT_FALSE(q.about.empty());
    questions.push_back(q.smtlib);
    answers.push_back(*q.answer);
  });
  const ProofReport r =
      prove_program(*object, "policyc_ingress", 0, testing::datapath_shape(sizes), solver);
  EXPECT_EQ(r.answer, ProofReport::Answer::Proved) << r.reason;
  ASSERT_GT(questions.size(), 5U);
  EXPECT_EQ(questions.size(), r.questions);
  std::uint64_t resources = 0;
  for (const TermAnswer& a : answers) resources += a.resources;
  EXPECT_EQ(resources, r.resources);
  if (std::system("command -v cvc5 >/dev/null") != 0) GTEST_SKIP() << "cvc5 is not installed";
  std::size_t unknown = 0;
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const std::string file = ::testing::TempDir() + "policyc-proof-" + std::to_string(i) + ".smt2";
    ASSERT_FALSE(write_file_atomic(file, questions[i]));
    ASSERT_EQ(std::system(("cvc5 --rlimit=100000 " + file + " >" + file + ".out 2>&1").c_str()), 0);
    const std::string answer = *read_file(file + ".out");
    const bool never = answers[i].kind == TermAnswer::Kind::Never;
    EXPECT_TRUE(answer == "unknown\n" || answer == (never ? "unsat\n" : "sat\n")) << answer;
    unknown += answer == "unknown\n" ? 1U : 0U;
    std::remove(file.c_str());
    std::remove((file + ".out").c_str());
  }
  std::printf("cvc5: %zu questions, %zu unknown\n", questions.size(), unknown);
  EXPECT_LT(unknown, questions.size() / 2);
}

}  // namespace
}  // namespace policyc::verify
