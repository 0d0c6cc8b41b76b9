// The object reader and the instruction decoder, on what clang writes and on damaged files.
#include "ir/bpf/object.h"

#include <gtest/gtest.h>

#include <random>

#include "backend-bpf/compiler.h"
#include "ir/bpf/insn.h"

namespace policyc {
namespace {

using namespace ebpf;

constexpr const char* kSource = R"(
#define SEC(name) __attribute__((section(name), used))
unsigned zeros[4];
struct { unsigned first; unsigned second[8]; } table SEC(".data.table") = {7, {1, 2, 3}};
struct { int (*type)[1]; } declared SEC(".maps");
__attribute__((noinline)) static unsigned inner(unsigned x) {
  volatile unsigned *cell = &table.second[2];
  return *cell + x;
}
__attribute__((noinline)) unsigned outer(unsigned x) { return inner(x) * 3 + zeros[x & 3]; }
SEC("tc") int first(unsigned *skb) { return outer(skb[0]); }
SEC("tc") int second(unsigned *skb) {
  void *(*lookup)(void *, const void *) = (void *)1;
  unsigned key = skb[1];
  unsigned *found = lookup(&declared, &key);
  return found ? *found + inner(1) : 0;
}
)";

const std::string& compiled() {
  static const std::string elf = [] {
    const auto module = bpf::find_clang_module();
    if (!module) return std::string();
    auto objects = bpf::compile_c(*module, {kSource});
    EXPECT_TRUE(objects) << (objects ? "" : objects.error());
    return objects ? objects->front() : std::string();
  }();
  return elf;
}

#define POLICYC_NEEDS_CLANG()                                                     \
  if (compiled().empty()) GTEST_SKIP() << "skipped: the clang module is missing"; \
  static_assert(true, "takes the semicolon")

TEST(Object, IsLinkedAsForTheKernel) {
  POLICYC_NEEDS_CLANG();
  const auto object = read_object(compiled());
  ASSERT_TRUE(object) << object.error();
  ASSERT_EQ(object->programs.size(), 2U);
  const Map* zeros = object->map(".bss");
  const Map* table = object->map(".data.table");
  const Map* declared = object->map("declared");
  ASSERT_TRUE(zeros != nullptr && table != nullptr && declared != nullptr);
  EXPECT_EQ(zeros->size, 16U);
  EXPECT_TRUE(zeros->initial.empty());
  EXPECT_EQ(table->size, 36U);
  ASSERT_EQ(table->initial.size(), 36U);
  EXPECT_EQ(table->initial[0], 7);
  EXPECT_EQ(table->initial[8], 2);
  EXPECT_FALSE(declared->data);

  const Program& first = object->programs[0];
  EXPECT_EQ(first.name, "first");
  EXPECT_EQ(first.section, "tc");
  // The entry, outer, inner: each call leads to the first instruction of a function.
  ASSERT_EQ(first.functions.size(), 3U);
  const std::vector<bool> second_slot = second_slots(first.code);
  std::size_t calls = 0, zeros_named = 0, cell_named = 0;
  for (std::size_t i = 0; i < first.code.size(); ++i) {
    const Instruction& insn = first.code[i];
    if (second_slot[i]) continue;
    if (insn.opcode == (kJmp | kCall)) {
      ASSERT_EQ(insn.src, kCallIsLocal);
      const std::size_t target = i + 1 + static_cast<std::size_t>(insn.imm);
      EXPECT_EQ(target, first.functions[++calls]);
    }
    if (insn.opcode != kLdImm64) continue;
    ASSERT_EQ(insn.src, kImmIsMapValue);
    const Map& map = object->maps[static_cast<std::size_t>(insn.imm)];
    if (&map == zeros) ++zeros_named;
    // table.second[2] is 12 bytes in, in the constant or in the load that follows.
    if (&map == table) ++cell_named;
  }
  EXPECT_EQ(calls, 2U);
  EXPECT_EQ(zeros_named, 1U);
  EXPECT_EQ(cell_named, 1U);

  bool names_declared = false, helper = false;
  for (const Instruction& insn : object->programs[1].code) {
    names_declared =
        names_declared || (insn.opcode == kLdImm64 && insn.src == kImmIsMap &&
                           &object->maps[static_cast<std::size_t>(insn.imm)] == declared);
    helper =
        helper || (insn.opcode == (kJmp | kCall) && insn.src == kCallIsHelper && insn.imm == 1);
  }
  EXPECT_TRUE(names_declared);
  EXPECT_TRUE(helper);
}

TEST(Object, CodeSurvivesEncoding) {
  POLICYC_NEEDS_CLANG();
  const auto object = read_object(compiled());
  ASSERT_TRUE(object) << object.error();
  for (const Program& p : object->programs) {
    const auto again = decode(encode(p.code));
    ASSERT_TRUE(again);
    EXPECT_EQ(*again, p.code);
  }
  EXPECT_FALSE(decode("seven b"));
}

TEST(Object, DamagedFilesAreRefusedOrRead) {
  POLICYC_NEEDS_CLANG();
  int refused = 0;
  for (std::size_t size = 0; size < compiled().size(); size += 7) {
    refused += read_object(std::string_view(compiled()).substr(0, size)) ? 0 : 1;
  }
  EXPECT_GT(refused, static_cast<int>(compiled().size() / 8));
  std::mt19937 random(20260801);
  int read = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = compiled();
    for (int k = 0; k < 3; ++k) bytes[random() % bytes.size()] = static_cast<char>(random() & 255U);
    read += read_object(bytes) ? 1 : 0;
  }
  EXPECT_GT(read, 0);
}

TEST(Instruction, IsShownToReaders) {
  EXPECT_EQ(disassemble({kAlu64 | kAdd, 1, 0, 0, 4}), "r1 += 4");
  EXPECT_EQ(disassemble({kAlu | kMov | 8, 2, 3, 0, 0}), "w2 = w3");
  EXPECT_EQ(disassemble({kJmp32 | kJgt, 2, 0, 3, 17}), "if w2 > 17 goto +3");
  EXPECT_EQ(disassemble({kLdx | kModeMem | 0x08, 2, 1, 12, 0}), "r2 = *(u16 *)(r1 + 12)");
  EXPECT_EQ(disassemble({kJmp | kExit, 0, 0, 0, 0}), "exit");
  EXPECT_EQ(disassemble({kLdImm64, 1, kImmIsMapValue, 0, 0}, nullptr), "r1 = value of map 0 + 0");
  EXPECT_EQ(disassemble({0xff, 1, 2, 3, 4}), "opcode 0xff dst 1 src 2 off 3 imm 4");
}

}  // namespace
}  // namespace policyc
