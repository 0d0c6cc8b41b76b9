// The executor against the kernel: random programs that the kernel's verifier takes, run over
// random packets and tables, leave the same result, mark and cb words in both.
#include "verifier/bpf_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>

#include "backend-bpf/compiler.h"
#include "backend-bpf/kernel.h"
#include "tests/backend-bpf/bpf_support.h"

namespace policyc::verify {
namespace {

using namespace ebpf;

// A program whose instructions are replaced by random ones; its one reference to the map stays.
constexpr const char* kPlaceholder = R"(
#define SEC(name) __attribute__((section(name), used))
volatile unsigned char table[256] SEC(".data.table") = {1};
SEC("tc") int program(void *skb) {
  unsigned x = 0;
#pragma unroll
  for (int i = 0; i < 70; i++) x = x * 3 + table[i];
  return x;
}
char license_text[] SEC("license") = "Apache-2.0";
)";

class Generator {
 public:
  explicit Generator(std::uint32_t seed) : random_(seed) {}

  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(random_() % n); }

  // `size` instructions; those at `kept` and the slot behind it put the map's address into r8.
  std::vector<Instruction> program(std::size_t size, std::size_t kept, Instruction low,
                                   Instruction high) {
    code_.clear();
    while (code_.size() < kept) put({kAlu64 | kMov, 6, 1});
    low.dst = 8;
    put(low);
    put(high);
    put({kAlu64 | kMov | 8, 6, 1});
    put({kLdx | kModeMem, 7, 6, kSkbData});
    put({kLdx | kModeMem, 9, 6, kSkbDataEnd});
    put({kAlu64 | kMov | 8, 2, 7});
    put({kAlu64 | kAdd, 2, 0, 0, 64});
    put({kJmp | kJle | 8, 2, 9, 2});
    put({kAlu64 | kMov, 0, 0, 0, 0});
    put({kJmp | kExit});
    for (const std::uint8_t r : kNumbers) load_packet(r);
    for (std::int16_t at = -32; at < 0; at = static_cast<std::int16_t>(at + 8)) {
      put({kStx | kModeMem | 0x18, 10, number(), at});
    }
    std::vector<std::size_t> jumps;  // still without a target
    const std::size_t end = size - 12;
    while (code_.size() + 4 < end) {
      for (std::size_t i = 0; i < jumps.size();) {
        Instruction& jump = code_[jumps[i]];
        if (below(4) != 0) {
          ++i;
          continue;
        }
        jump.offset = static_cast<std::int16_t>(code_.size() - jumps[i] - 1);
        jumps.erase(jumps.begin() + static_cast<std::ptrdiff_t>(i));
      }
      random_group(jumps);
    }
    while (code_.size() < end) put({kAlu | kAdd, 0, 0, 0, 1});
    for (const std::size_t at : jumps) {
      code_[at].offset = static_cast<std::int16_t>(code_.size() - at - 1);
    }
    // Everything that was computed shows.
    put({kStx | kModeMem, 6, 2, kSkbMark});
    std::int16_t cb = kSkbCb;
    for (const std::uint8_t r : std::array<std::uint8_t, 4>{3, 4, 5, 9}) {
      put({kAlu64 | kMov | 8, 1, r});
      put({kAlu64 | kRsh, 1, 0, 0, 32});
      if (cb == kSkbCb) put({kAlu64 | kXor | 8, 0, 1});
      put({kStx | kModeMem, 6, r, cb});
      cb = static_cast<std::int16_t>(cb + 4);
      if (code_.size() >= size - 3) break;
    }
    while (code_.size() < size - 1) put({kAlu64 | kXor | 8, 0, 9});
    put({kJmp | kExit});
    return code_;
  }

 private:
  static constexpr std::uint8_t kNumbers[] = {0, 2, 3, 4, 5, 9};

  void put(Instruction i) { code_.push_back(i); }
  std::uint8_t number() { return kNumbers[below(6)]; }
  std::uint8_t size_bits() { return std::array<std::uint8_t, 4>{0, 8, 0x10, 0x18}[below(4)]; }
  std::int32_t constant() {
    const std::int32_t interesting[] = {0, 1, 2, 3, 7, 8, 31, 32, 255, 256, 65535, -1, -2, 1 << 30};
    return below(3) == 0 ? static_cast<std::int32_t>(random_()) : interesting[below(14)];
  }
  void load_packet(std::uint8_t to) {
    put({static_cast<std::uint8_t>(kLdx | kModeMem | size_bits()), to, 7,
         static_cast<std::int16_t>(below(56))});
  }

  void random_group(std::vector<std::size_t>& jumps) {
    const std::uint8_t a = number(), b = number();
    const std::uint8_t cls = below(2) == 0 ? kAlu : kAlu64;
    switch (below(12)) {
      case 0:
        load_packet(a);
        break;
      case 1: {
        const std::uint8_t bits = size_bits();
        const auto at = static_cast<std::int16_t>(-32 + 8 * static_cast<int>(below(4)));
        put({static_cast<std::uint8_t>(kStx | kModeMem | bits), 10, a, at});
        break;
      }
      case 2: {
        const std::uint8_t bits = size_bits();
        const int bytes = bits == 0 ? 4 : bits == 8 ? 2 : bits == 0x10 ? 1 : 8;
        const int at =
            -32 + bytes * static_cast<int>(below(static_cast<std::uint32_t>(32 / bytes)));
        put({static_cast<std::uint8_t>(kLdx | kModeMem | bits), a, 10,
             static_cast<std::int16_t>(at)});
        break;
      }
      case 3:  // a table, at a place that the packet names
        put({kAlu | kMov | 8, 1, a});
        put({kAlu | kAnd, 1, 0, 0, 127});
        put({kAlu64 | kAdd | 8, 1, 8});
        put({static_cast<std::uint8_t>(kLdx | kModeMem | size_bits()), b, 1,
             static_cast<std::int16_t>(below(120))});
        break;
      case 4: {
        const std::int32_t widths[] = {16, 32, 64};
        put({static_cast<std::uint8_t>(kAlu | kEnd | (below(2) == 0 ? 8 : 0)), a, 0, 0,
             widths[below(3)]});
        break;
      }
      case 5:
        put({static_cast<std::uint8_t>(cls | kNeg), a});
        break;
      case 6:
      case 7:
      case 8: {
        static constexpr std::uint8_t kOps[] = {kJeq,  kJgt, kJge, kJset, kJne, kJsgt,
                                                kJsge, kJlt, kJle, kJslt, kJsle};
        const std::uint8_t jump = below(2) == 0 ? kJmp : kJmp32;
        jumps.push_back(code_.size());
        if (below(2) == 0) {
          put({static_cast<std::uint8_t>(jump | kOps[below(11)] | 8), a, b});
        } else {
          put({static_cast<std::uint8_t>(jump | kOps[below(11)]), a, 0, 0, constant()});
        }
        break;
      }
      default: {
        static constexpr std::uint8_t kOps[] = {kAdd, kSub, kMul, kDiv, kOr,  kAnd,
                                                kLsh, kRsh, kMod, kXor, kMov, kArsh};
        const std::uint8_t operation = kOps[below(12)];
        const bool shift = operation == kLsh || operation == kRsh || operation == kArsh;
        if (below(2) == 0 && !shift) {
          std::int32_t imm = constant();
          if ((operation == kDiv || operation == kMod) && imm == 0) imm = 3;
          put({static_cast<std::uint8_t>(cls | operation), a, 0, 0, imm});
        } else if (shift) {
          put({static_cast<std::uint8_t>(cls | operation), a, 0, 0,
               static_cast<std::int32_t>(below(cls == kAlu ? 32 : 64))});
        } else {
          put({static_cast<std::uint8_t>(cls | operation | 8), a, b});
        }
      }
    }
  }

  std::mt19937 random_;
  std::vector<Instruction> code_;
};

// The object with these instructions in the place of the program's.
std::string patched(const std::string& elf, const std::string& before, const std::string& after) {
  std::string out = elf;
  const std::size_t at = out.find(before);
  EXPECT_NE(at, std::string::npos);
  out.replace(at, before.size(), after);
  return out;
}

TEST(BpfExecutor, AgreesWithTheKernel) {
  POLICYC_NEEDS_BPF();
  const auto module = bpf::find_clang_module();
  const auto compiled = bpf::compile_c(*module, {kPlaceholder});
  ASSERT_TRUE(compiled) << compiled.error();
  const std::string& elf = compiled->front();
  const auto object = read_object(elf);
  ASSERT_TRUE(object) << object.error();
  const std::vector<Instruction> original = object->programs.at(0).code;
  std::size_t kept = original.size();
  for (std::size_t i = 0; i < original.size(); ++i) {
    if (original[i].opcode == kLdImm64) {
      ASSERT_EQ(kept, original.size()) << "the placeholder names its map once";
      kept = i;
    }
  }
  ASSERT_LT(kept, 4U);
  // As they stand in the file: before linking.
  std::vector<Instruction> raw = original;
  raw[kept].src = 0;
  raw[kept].imm = 0;
  raw[kept + 1].imm = 0;

  Generator generator(20260801);
  int loaded = 0, refused = 0, runs = 0, merged = 0;
  for (int round = 0; round < 400; ++round) {
    const auto code = generator.program(raw.size(), kept, raw[kept], raw[kept + 1]);
    ASSERT_EQ(code.size(), raw.size());
    std::string table(256, '\0');
    for (char& c : table) c = static_cast<char>(generator.below(256));
    const std::string bytes = patched(elf, encode(raw), encode(code));
    const auto kernel = bpf::LoadedObject::load(bytes, {{".data.table", table}});
    if (!kernel) {
      ++refused;
      continue;
    }
    ++loaded;
    const auto changed = read_object(bytes);
    ASSERT_TRUE(changed) << changed.error();
    Terms terms;
    const auto run = execute(terms, *changed, changed->programs.at(0));
    ASSERT_TRUE(run) << run.error();
    merged += terms.is_constant(run->result) ? 0 : 1;
    for (int k = 0; k < 6; ++k) {
      std::vector<std::uint8_t> frame(k == 0 ? 40 : 64 + generator.below(40));
      for (std::uint8_t& b : frame) {
        b = static_cast<std::uint8_t>(generator.below(3) == 0 ? 0 : generator.below(256));
      }
      frame[12] = 0x08;  // the kernel looks at the type before the program does
      frame[13] = 0x06;
      const auto did = kernel->run("program", frame);
      ASSERT_TRUE(did) << did.error();
      Evaluator evaluate(
          terms, {[&](const std::string& name) -> std::uint64_t {
                    return name == kPacketLength ? frame.size() : 0;
                  },
                  [&](unsigned array, std::uint32_t index, unsigned count) -> std::uint64_t {
                    std::uint64_t v = 0;
                    for (unsigned b = 0; b < count; ++b) {
                      const std::size_t at = index + b;
                      const bool packet = array == kPacketArray;
                      const std::uint64_t byte =
                          packet ? (at < frame.size() ? frame[at] : 0)
                                 : (at < table.size() ? static_cast<std::uint8_t>(table[at]) : 0);
                      v |= byte << (8 * b);
                    }
                    return v;
                  }});
      for (const Obligation& o : run->obligations) {
        ASSERT_TRUE(evaluate(o.when) == 0 || evaluate(o.holds) == 1) << o.what;
      }
      ++runs;
      EXPECT_EQ(evaluate(run->result), did->return_code);
      for (const auto& [offset, word] : run->context) {
        const std::uint32_t in_kernel =
            offset == kSkbMark ? did->mark : did->cb.at((offset - kSkbCb) / 4);
        EXPECT_EQ(evaluate(word), in_kernel) << "field " << offset;
      }
      if (HasFailure()) {
        std::string listing;
        for (std::size_t i = 0; i < code.size(); ++i) {
          listing += std::to_string(i) + ": " + disassemble(code[i]) + "\n";
        }
        FAIL() << listing;
      }
    }
  }
  EXPECT_GE(loaded, 350) << refused << " refused";
  EXPECT_GE(runs, 2000);
  EXPECT_GE(merged, 300);
}

// Fields that an instruction does not use are zero, or it is none.
TEST(BpfExecutor, RefusesReservedFieldsAsTheKernelDoes) {
  POLICYC_NEEDS_BPF();
  const auto compiled = bpf::compile_c(*bpf::find_clang_module(), {kPlaceholder});
  ASSERT_TRUE(compiled) << compiled.error();
  const std::string& elf = compiled->front();
  const std::vector<Instruction> original = read_object(elf)->programs.at(0).code;
  const auto kept = static_cast<std::size_t>(
      std::find_if(original.begin(), original.end(),
                   [](const Instruction& i) { return i.opcode == kLdImm64; }) -
      original.begin());
  ASSERT_LT(kept + 1, original.size());
  std::vector<Instruction> raw = original;
  raw[kept].src = 0;
  raw[kept].imm = raw[kept + 1].imm = 0;
  std::vector<Instruction> code(raw.size(), {kAlu64 | kMov, 0, 0, 0, 0});
  code[kept] = raw[kept];
  code[kept + 1] = raw[kept + 1];
  const std::size_t exit = code.size() - 1, jump = exit - 2;
  code[jump] = {kJmp | kJa};
  code[exit] = {kJmp | kExit};

  const auto accepted = [&](const std::vector<Instruction>& changed, bool& by_kernel) {
    const std::string bytes = patched(elf, encode(raw), encode(changed));
    by_kernel = static_cast<bool>(bpf::LoadedObject::load(bytes, {}));
    const auto object = read_object(bytes);
    Terms terms;
    return object && execute(terms, *object, object->programs.at(0));
  };
  bool by_kernel = false;
  ASSERT_TRUE(accepted(code, by_kernel));
  ASSERT_TRUE(by_kernel);
  for (const std::size_t at : {jump, exit, kept}) {
    for (int field = 0; field < 4; ++field) {
      std::vector<Instruction> changed = code;
      Instruction& i = changed[at];
      if (at == kept && field != 3) continue;  // the others are the map's
      if (at != kept && field == 3) continue;  // a jump's target; of an exit nobody looks
      field == 0 ? i.dst = 1 : field == 1 ? i.src = 1 : field == 2 ? i.imm = 1 : i.offset = 1;
      EXPECT_FALSE(accepted(changed, by_kernel)) << at << " field " << field;
      EXPECT_FALSE(by_kernel) << at << " field " << field;
    }
  }
}

}  // namespace
}  // namespace policyc::verify
