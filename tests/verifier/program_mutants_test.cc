// Programs are proved, what they are proved equal to is what the kernel does, and others are not:
// mutation with the kernel as the judge. Changes of one instruction of a compiled program. A mutant
// that the kernel loads and that treats one of some 2,000 packets, aimed at the borders of what
// programs look at, differently must not be proved; of the others it is counted which are proved
// equivalent. A few mutants of each kind of program, drawn with a fixed seed from about 12,000;
// POLICYC_MUTANTS=N tries N of them, `all` every one, and POLICYC_PACKETS=N makes N packets.
#include <gtest/gtest.h>

#include <cstdlib>
#include <ostream>
#include <random>

#include "tests/backend-bpf/bpf_support.h"
#include "tests/verifier/datapath_shape.h"
#include "tests/verifier/mutants.h"
#include "verifier/program_proof.h"

namespace policyc::verify {
namespace {

using ebpf::Instruction;
using testing::neighbours;
using testing::place_of;

std::size_t number_from(const char* variable, std::size_t otherwise) {
  const char* wanted = std::getenv(variable);
  if (wanted == nullptr) return otherwise;
  return std::string_view(wanted) == "all" ? ~std::size_t{0} : std::strtoul(wanted, nullptr, 10);
}

// Frames at the borders of what the programs look at: every length around the ends of headers,
// every kind of header, and the values beside those that are asked for. `tags`: of VLANs, at most.
std::vector<std::vector<std::uint8_t>> border_frames(std::mt19937& random, std::size_t count,
                                                     std::size_t tags) {
  const auto pick = [&](const std::vector<unsigned>& of) { return of[random() % of.size()]; };
  std::vector<std::vector<std::uint8_t>> out;
  while (out.size() < count) {
    std::vector<std::uint8_t> f(54 + random() % 90);
    for (std::uint8_t& b : f) b = static_cast<std::uint8_t>(random() % 3 == 0 ? random() : 0);
    const unsigned type =
        pick({0x0800, 0x0800, 0x0800, 0x86DD, 0x86DD, 0x86DD, 0x8100, 0x88A8, 0x0806, 0x0801});
    f[12] = static_cast<std::uint8_t>(type >> 8U);
    f[13] = static_cast<std::uint8_t>(type);
    const std::vector<unsigned> protocols = {6, 17, 132, 1, 58, 47, 5, 7, 131};
    std::size_t end = 14;  // of what is looked at
    if (type == 0x86DD) {
      f[14] = static_cast<std::uint8_t>(pick({0x60, 0x60, 0x60, 0x60, 0x6F, 0x50, 0x70}));
      std::size_t next = 20;
      end = 54;
      for (unsigned n = static_cast<unsigned>(random() % 8); n != 0 && end + 8 <= f.size(); --n) {
        const unsigned kind = pick({0, 43, 44, 44, 51, 60, 59});
        f[next] = static_cast<std::uint8_t>(kind);
        f[end + 1] = static_cast<std::uint8_t>(pick({0, 0, 0, 1, 2}));
        if (random() % 2 == 0) f[end + 2] = f[end + 3] = 0;
        next = end;
        end += kind == 44 ? 8U : kind == 51 ? (f[end + 1] + 2U) * 4 : (f[end + 1] + 1U) * 8;
      }
      if (next < f.size()) f[next] = static_cast<std::uint8_t>(pick(protocols));
    } else if (type == 0x0800) {
      f[14] = static_cast<std::uint8_t>(pick({0x45, 0x45, 0x45, 0x46, 0x4F, 0x44, 0x55, 0x35}));
      if (random() % 4 != 0) f[20] = f[21] = 0;
      if (random() % 8 == 0) f[20] = static_cast<std::uint8_t>(pick({0x20, 0x40, 0x1F, 0x00}));
      f[23] = static_cast<std::uint8_t>(pick(protocols));
      end = 14 + (f[14] & 15U) * 4;
    }
    if (end + 4 <= f.size() && random() % 4 == 0) {
      f[end] = static_cast<std::uint8_t>(pick({3, 2, 8}));
      f[end + 1] = static_cast<std::uint8_t>(pick({4, 3, 5}));
    }
    // Cut around the ends of headers; the kernel's test run wants an Ethernet header at least.
    if (random() % 3 == 0)
      f.resize(std::min(f.size(), std::max<std::size_t>(14, end + random() % 6)));
    for (std::size_t n = tags == 0 ? 0 : random() % (tags + 1); n != 0; --n) {
      const std::uint8_t tag[] = {static_cast<std::uint8_t>(pick({0x81, 0x81, 0x88, 0x80})),
                                  static_cast<std::uint8_t>(pick({0x00, 0x00, 0xA8, 0x01})), 0, 7};
      f.insert(f.begin() + 12, std::begin(tag), std::end(tag));
    }
    out.push_back(std::move(f));
  }
  return out;
}

// What is mutated.
struct Kind {
  const char* name;
  unsigned direction;
  bool intervals = false, vlan = false;
};

void PrintTo(const Kind& kind, std::ostream* out) {
  *out << kind.name;
}

class ProgramMutants : public ::testing::TestWithParam<Kind> {};

TEST_P(ProgramMutants, WhatTheKernelShowsToDifferIsNotProved) {
  POLICYC_NEEDS_BPF();
  if (!TermSolver::available()) GTEST_SKIP() << "skipped: no solver in this build";
  const Kind kind = GetParam();
  const char* const name_of_program =
      kind.direction == 0 ? bpf::kIngressProgram : bpf::kEgressProgram;
  bpf::SizeClass sizes;
  if (kind.intervals) {
    sizes.intervals = 4096;
    sizes.interval_steps = 8;
  }
  const auto objects = bpf::compile_c(*bpf::find_clang_module(),
                                      {bpf::program_text({.sizes = sizes, .vlan = kind.vlan})});
  ASSERT_TRUE(objects) << objects.error();
  const std::string& elf = objects->front();
  DatapathShape shape = testing::datapath_shape(sizes);
  shape.vlan = kind.vlan;
  const auto object = ebpf::read_object(elf);
  ASSERT_TRUE(object) << object.error();
  {
    TermSolver solver;
    const ProofReport r = prove_program(*object, name_of_program, kind.direction, shape, solver);
    ASSERT_EQ(r.answer, ProofReport::Answer::Proved) << r.reason;
  }
  TermSolver solver(5'000'000);  // a tenth: what needs more counts as not proved

  std::mt19937 random(20260801);
  // Tables in which many packets find something: half of what is read leads on, or names a record.
  std::string node(shape.node_size(), '\0'), policy(shape.policy_size(), '\0');
  for (char& c : policy) c = static_cast<char>(random() % 3 == 0 ? random() & 255U : 0U);
  for (std::size_t at = 320; at + 4 <= node.size(); at += 4) {
    node[at] = static_cast<char>(random() & 255U);
    node[at + 3] = static_cast<char>(random() % 2 == 0 ? 0x80 : random() % 4 == 0 ? 0x40 : 0);
  }
  for (const auto& [protocol, number] : {std::pair(6, 1), {17, 2}, {132, 3}, {1, 4}, {58, 5}}) {
    node[static_cast<std::size_t>(64 + protocol)] = static_cast<char>(number);
  }
  node[4] = 1;  // report
  // Four sets of tables: both halves, with and without a proxy.
  std::vector<std::vector<bpf::MapValue>> tables;
  for (unsigned k = 0; k < 4; ++k) {
    std::string n = node;
    n[0] = static_cast<char>(k & 1U);
    n[8] = static_cast<char>(k & 2U ? 0x3A : 0);
    tables.push_back({{bpf::kNodeMap, n}, {bpf::kPolicyMap, policy}});
  }
  auto frames =
      border_frames(random, number_from("POLICYC_PACKETS", 3000), kind.vlan ? std::size_t{3} : 0);
  {
    // Not all that is cut short is run.
    const auto kernel = bpf::LoadedObject::load(elf, tables[0]);
    ASSERT_TRUE(kernel) << kernel.error();
    std::erase_if(frames, [&](const std::vector<std::uint8_t>& f) {
      return !kernel->run(name_of_program, f);
    });
    ASSERT_GT(frames.size(), 1500U);
  }
  struct Seen {
    std::uint32_t code, mark;
    std::array<std::uint32_t, 5> cb;
    bool operator==(const Seen&) const = default;
  };
  const auto seen = [](const bpf::KernelRun& r) { return Seen{r.return_code, r.mark, r.cb}; };
  // A program's tables are a part of its object once loaded, so each set is a load of its own.
  std::vector<std::vector<Seen>> original(tables.size());
  for (std::size_t t = 0; t < tables.size(); ++t) {
    const auto kernel = bpf::LoadedObject::load(elf, tables[t]);
    ASSERT_TRUE(kernel) << kernel.error();
    for (const auto& f : frames) {
      const auto run = kernel->run(name_of_program, f);
      ASSERT_TRUE(run) << run.error();
      const PacketFate fate = fate_of(f, 0, kind.direction, shape, tables[t][0].bytes, policy);
      ASSERT_EQ((Seen{fate.action, fate.mark, fate.cb}), seen(*run));
      original[t].push_back(seen(*run));
    }
  }

  const ebpf::Program& program = *object->program(name_of_program);
  const std::vector<bool> second = ebpf::second_slots(program.code);
  const std::size_t place = place_of(elf, program.section);
  ASSERT_NE(place, std::string::npos);
  struct Mutant {
    std::size_t at;
    Instruction i;
  };
  std::vector<Mutant> mutants;
  for (std::size_t at = 0; at < program.code.size(); ++at) {
    if (second[at]) continue;
    // As it stands in the file: what the linker fills in is not there yet.
    const auto code = ebpf::decode(elf.substr(place + 8 * at, 8));
    ASSERT_TRUE(code);
    for (const Instruction& i : neighbours(code->front())) mutants.push_back({at, i});
  }
  const std::size_t all = mutants.size();
  std::shuffle(mutants.begin(), mutants.end(), random);
  mutants.resize(std::min(all, number_from("POLICYC_MUTANTS", 10)));
  std::size_t loaded = 0, differ = 0, refuted = 0, refused = 0, equivalent = 0, open = 0;
  for (const Mutant& m : mutants) {
    std::string changed = elf;
    changed.replace(place + 8 * m.at, 8, ebpf::encode({m.i}));
    bool loads = true, differs = false;
    for (std::size_t t = 0; t < tables.size() && loads && !differs; ++t) {
      const auto kernel = bpf::LoadedObject::load(changed, tables[t]);
      loads = static_cast<bool>(kernel);
      for (std::size_t k = 0; loads && k < frames.size() && !differs; ++k) {
        const auto run = kernel->run(name_of_program, frames[k]);
        differs = run && !(seen(*run) == original[t][k]);
      }
    }
    if (!loads) continue;
    ++loaded;
    const auto mutant = ebpf::read_object(changed);
    const ProofReport r =
        mutant ? prove_program(*mutant, name_of_program, kind.direction, shape, solver)
               : ProofReport{};
    const bool proved = r.answer == ProofReport::Answer::Proved;
    const std::string name = std::to_string(m.at) + ": " + ebpf::disassemble(m.i);
    if (differs) {
      ++differ;
      EXPECT_FALSE(proved) << "instruction " << name;
      (r.answer == ProofReport::Answer::Refuted ? refuted : refused) += proved ? 0U : 1U;
    } else if (proved) {
      ++equivalent;
    } else {
      ++open;
      std::printf("not shown to differ: %s: %s\n", name.c_str(),
                  r.witness ? "refuted" : r.reason.c_str());
    }
    if (r.witness && r.witness->outside.empty()) {
      EXPECT_FALSE(r.witness->program == r.witness->meaning) << name;
    }
    // The witness is one: the kernel does what the refutation says.
    if (r.witness && r.witness->outside.empty() && r.witness->frame.size() >= 14 &&
        r.witness->vlan_present == 0) {
      const auto kernel = bpf::LoadedObject::load(
          changed, {{bpf::kNodeMap, r.witness->node}, {bpf::kPolicyMap, r.witness->policy}});
      ASSERT_TRUE(kernel) << name;
      const auto run = kernel->run(name_of_program, r.witness->frame);
      if (run) {
        EXPECT_EQ((Seen{r.witness->program.action, r.witness->program.mark, r.witness->program.cb}),
                  seen(*run))
            << name;
      }
    }
  }
  std::printf(
      "%zu of %zu mutants: the kernel loads %zu; %zu differ (%zu refuted, %zu not proved); of the "
      "others %zu are proved, %zu not\n",
      mutants.size(), all, loaded, differ, refuted, refused, equivalent, open);
  EXPECT_GT(differ, 0U);
}

// What no change of one instruction brings about.
TEST(WrongPrograms, AreNotProved) {
  if (!bpf::find_clang_module()) GTEST_SKIP() << "skipped: no clang module";
  if (!TermSolver::available()) GTEST_SKIP() << "skipped: no solver in this build";
  const std::string place =
      "INLINE int tc_action(struct __sk_buff *skb, const struct verdict *v) {\n";
  const std::pair<const char*, const char*> changes[] = {
      {"", ""},  // proved
      {"", "  if (v->drop == 181) __sync_fetch_and_add(&node.generation, 1);\n"},
      {"", "  if (v->drop == 181) node.proxy_port = 1;\n"},
      {"", "  if (v->drop == 181) *(volatile u32 *)&node.flags = 0;\n"},
      // The loader decides: in no kernel there is such a type.
      {"struct not_there { int a; };\n",
       "  if (!__builtin_preserve_type_info(*(struct not_there *)0, 0)) return TC_ACT_OK;\n"},
  };
  TermSolver solver;
  for (const auto& [before, inside] : changes) {
    std::string text = bpf::program_text({});
    const std::size_t at = text.find(place);
    ASSERT_NE(at, std::string::npos);
    text.insert(at + place.size(), inside);
    text.insert(at, before);
    const auto objects = bpf::compile_c(*bpf::find_clang_module(), {text});
    ASSERT_TRUE(objects) << objects.error();
    const auto object = ebpf::read_object(objects->front());
    const bool proved = object && prove_program(*object, bpf::kIngressProgram, 0,
                                                testing::datapath_shape(bpf::SizeClass{}), solver)
                                          .answer == ProofReport::Answer::Proved;
    EXPECT_EQ(proved, *inside == '\0') << inside;
  }
}

INSTANTIATE_TEST_SUITE_P(Programs, ProgramMutants,
                         ::testing::Values(Kind{"ingress", 0}, Kind{"egress", 1},
                                           Kind{"intervals", 0, true},
                                           Kind{"vlan", 1, false, true}),
                         [](const auto& of) { return of.param.name; });

}  // namespace
}  // namespace policyc::verify
