// Tables of request filters: those that are emitted are proved, what they say is what the kernel
// says, and no table that the kernel shows to differ is proved.
#include "verifier/http_tables.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cstdio>
#include <cstring>
#include <random>

#include "ir/automata/http_head.h"
#include "tests/backend-bpf/bpf_support.h"
#include "tests/backend-bpf/http_program.h"
#include "tests/ir/http_gen.h"

namespace policyc::verify {
namespace {

struct Batch {
  std::vector<ir::Dfa> automata;
  std::vector<std::string> heads;
};

Batch batch(std::size_t filters, std::uint64_t seed) {
  return rc::gen::exec([=] {
           Batch out;
           for (std::size_t i = 0; i < filters; ++i) {
             auto automaton = ir::http_head_automaton(ir::testing::some_rules());
             if (automaton) out.automata.push_back(std::move(*automaton));
           }
           for (std::size_t i = 0; i < 60; ++i) {
             out.heads.push_back(ir::testing::head_of(ir::testing::some_request()));
             out.heads.push_back(ir::testing::spoiled(out.heads.back()));
             if (out.heads.back().empty()) out.heads.pop_back();
           }
           return out;
         })(rc::Random(seed), 100)
      .value();
}

std::vector<std::uint32_t> in_kernel(const std::string& elf, std::size_t filters,
                                     const std::vector<std::string>& heads) {
  std::vector<std::uint32_t> out;
  const auto object = bpf::LoadedObject::load(elf, {});
  EXPECT_TRUE(object) << object.error();
  for (std::uint32_t f = 1; object && f <= filters; ++f) {
    for (const std::string& head : heads) {
      const auto run = object->run(testing::kHeadProgram, testing::head_frame(f, head));
      EXPECT_TRUE(run) << run.error();
      out.push_back(run ? run->return_code : 99);
    }
  }
  return out;
}

TEST(HttpTables, AreProvedAndSayWhatTheKernelSays) {
  POLICYC_NEEDS_BPF();
  // Narrow cells and wide ones.
  for (const std::size_t filters : {2U, 20U}) {
    const Batch b = batch(filters, filters);
    const auto elf = testing::head_program(b.automata);
    ASSERT_TRUE(elf) << elf.error();
    const auto object = ebpf::read_object(*elf);
    ASSERT_TRUE(object) << object.error();
    const auto tables = HttpTables::read(*object);
    ASSERT_TRUE(tables) << tables.error();
    const auto answers = in_kernel(*elf, b.automata.size(), b.heads);
    std::size_t at = 0;
    for (std::uint32_t f = 1; f <= b.automata.size(); ++f) {
      const HttpReport r = check_http_tables(*tables, f, b.automata[f - 1]);
      EXPECT_EQ(r.answer, HttpReport::Answer::Proved) << r.reason << r.request;
      EXPECT_EQ(r.states, b.automata[f - 1].states());
      for (const std::string& head : b.heads) EXPECT_EQ(tables->verdict(f, head), answers[at++]);
    }
    // Another automaton is refuted, with a request that the kernel takes otherwise.
    const HttpReport other = check_http_tables(*tables, 1, ir::Dfa::everything());
    ASSERT_EQ(other.answer, HttpReport::Answer::Refuted);
    EXPECT_EQ(other.tables, tables->verdict(1, other.request));
    EXPECT_NE(other.tables, other.rules);
    EXPECT_NE(check_http_tables(*tables, 0, b.automata[0]).answer, HttpReport::Answer::Proved);
  }
}

// Tables that just do not fit narrow cells could be as large as narrow ones, and be read as such.
TEST(HttpTables, TheSmallestWideTablesAreNotTakenForNarrowOnes) {
  if (!bpf::find_clang_module()) GTEST_SKIP() << "skipped: no clang module";
  const Batch b = batch(40, 40);
  const auto cells = [&](std::size_t i) {
    return b.automata[i].states() * (2 + b.automata[i].classes());
  };
  // Two or three automata by which the narrow cells are counted full, because states from which
  // nothing is reached are counted, and are no rows.
  std::vector<ir::Dfa> chosen;
  for (std::size_t i = 0; i < b.automata.size(); ++i) {
    for (std::size_t j = i + 1; j < b.automata.size() && chosen.empty(); ++j) {
      for (std::size_t k = j; k < b.automata.size() && chosen.empty(); ++k) {
        const std::size_t sum = 258 + cells(i) + cells(j) + (k == j ? 0 : cells(k));
        if (sum <= 0x8000 || sum > 0x8000 + 200) continue;
        chosen = {b.automata[i], b.automata[j]};
        if (k != j) chosen.push_back(b.automata[k]);
      }
    }
  }
  ASSERT_FALSE(chosen.empty());
  const auto elf = testing::head_program(chosen);
  ASSERT_TRUE(elf) << elf.error();
  const auto object = ebpf::read_object(*elf);
  ASSERT_TRUE(object) << object.error();
  const auto tables = HttpTables::read(*object);
  ASSERT_TRUE(tables) << tables.error();
  EXPECT_TRUE(tables->wide());
  for (std::uint32_t f = 1; f <= chosen.size(); ++f) {
    const HttpReport r = check_http_tables(*tables, f, chosen[f - 1]);
    EXPECT_EQ(r.answer, HttpReport::Answer::Proved) << r.reason << r.request;
  }
}

TEST(HttpTables, ChangedCellsAreNotProved) {
  POLICYC_NEEDS_BPF();
  const Batch b = batch(2, 2);
  const auto elf = testing::head_program(b.automata);
  ASSERT_TRUE(elf) << elf.error();
  const auto object = ebpf::read_object(*elf);
  ASSERT_TRUE(object) << object.error();
  const auto answers = in_kernel(*elf, b.automata.size(), b.heads);
  std::mt19937 random(20260801);
  std::size_t made = 0, differ = 0, refuted = 0, equal = 0, unshown = 0;
  for (const char* name : {"http_starts", "http_columns", "http_steps", "http_skips"}) {
    const ebpf::Variable* v = object->variable(name);
    ASSERT_NE(v, nullptr) << name;
    const std::string& bytes = object->maps[v->map].initial;
    const std::size_t place = elf->find(bytes) + v->offset;
    ASSERT_LT(place, elf->size());
    // Cells that hold something: most of the steps are padding.
    std::vector<std::size_t> used;
    for (std::size_t at = 0; at + 2 <= v->size; at += 2) {
      if ((*elf)[place + at] != 0 || (*elf)[place + at + 1] != 0) used.push_back(place + at);
    }
    ASSERT_FALSE(used.empty()) << name;
    const std::size_t wanted = std::string(name) == "http_steps" ? 16 : 6;
    for (std::size_t i = 0; i < wanted; ++i) {
      const std::size_t at = used[random() % used.size()];
      std::string changed = *elf;
      std::uint16_t cell = 0;
      std::memcpy(&cell, changed.data() + at, 2);
      const std::uint16_t old = cell;
      switch (random() % 4) {
        case 0:
          cell = static_cast<std::uint16_t>(cell + 1U);
          break;
        case 1:
          cell = static_cast<std::uint16_t>(cell - 1U);
          break;
        case 2:
          cell = 0;
          break;
        default:
          std::memcpy(&cell, changed.data() + used[random() % used.size()], 2);
          break;
      }
      if (cell == old) continue;
      std::memcpy(changed.data() + at, &cell, 2);
      ++made;
      bool differs = in_kernel(changed, b.automata.size(), b.heads) != answers;
      const auto mutant = ebpf::read_object(changed);
      ASSERT_TRUE(mutant) << mutant.error();
      const auto tables = HttpTables::read(*mutant);
      bool proved = static_cast<bool>(tables), shown = false;
      for (std::uint32_t f = 1; tables && f <= b.automata.size(); ++f) {
        const HttpReport r = check_http_tables(*tables, f, b.automata[f - 1]);
        proved = proved && r.answer == HttpReport::Answer::Proved;
        if (r.answer != HttpReport::Answer::Refuted) continue;
        shown = true;
        if (r.request.empty()) continue;  // without payload the program asks no table
        // The request is one: the kernel, too, goes against the rules.
        const std::uint32_t said = in_kernel(changed, f, {r.request}).back();
        EXPECT_EQ(said, r.tables) << name << ": " << r.request;
        EXPECT_NE(said, r.rules) << name << ": " << r.request;
        differs = true;
      }
      EXPECT_FALSE(differs && proved) << name << " at " << at - place;
      differ += differs ? 1U : 0U;
      refuted += shown ? 1U : 0U;
      equal += proved ? 1U : 0U;
      unshown += !proved && !differs ? 1U : 0U;
    }
  }
  std::printf(
      "%zu mutants: %zu differ in the kernel, %zu refuted by a request, %zu proved equal, %zu "
      "neither\n",
      made, differ, refuted, equal, unshown);
  EXPECT_GT(differ, 0U);
  EXPECT_GT(refuted, 0U);
}

}  // namespace
}  // namespace policyc::verify
