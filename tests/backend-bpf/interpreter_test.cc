// The interpreter does what the kernel does, and nothing else whatever the bytes say.
#include "backend-bpf/interpreter.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

#include "backend-bpf/artefact.h"
#include "backend-bpf/kernel_runner.h"
#include "ir/resolve.h"
#include "tests/backend-bpf/bpf_support.h"
#include "tests/backend-bpf/scratch.h"
#include "tests/backend-bpf/table_gen.h"
#include "tests/ir/world_gen.h"

namespace policyc {
namespace {

using namespace testing;
using bpf::Memory;
using ebpf::Instruction;

// ---- against the kernel

// An address that the world's policies tell apart from others.
ir::IpAddress world_address(const ir::World& world, ir::Family family) {
  const std::size_t at = family == ir::Family::V4 ? 0 : 1;
  switch (below(3)) {
    case 0:
      return world.inventory.pods[below(static_cast<std::uint32_t>(world.inventory.pods.size()))]
          .ips[at];
    case 1:
      return world.inventory.nodes[below(2)].addresses[at];
    default:
      return *ir::parse_ip(
          family == ir::Family::V4
              ? std::array{"203.0.113.7", "203.0.113.130", "198.51.100.3"}[below(3)]
              : std::array{"2001:db8:1:2::7", "2001:db8:1::", "::"}[below(3)]);
  }
}

// Valid packets with options, extension headers, fragments; tags put in front; bytes changed; cut.
std::vector<std::uint8_t> hostile_frame(const ir::World& world) {
  RandomPacket random = random_packet();
  std::vector<std::uint8_t>& frame = random.frame;
  const auto put = [&](const ir::IpAddress& ip, std::size_t v4, std::size_t v6) {
    const bool is4 = ip.family == ir::Family::V4;
    std::copy_n(ip.bytes.begin(), is4 ? 4 : 16,
                frame.begin() + static_cast<std::ptrdiff_t>(14 + (is4 ? v4 : v6)));
  };
  const ir::Family family = random.packet.from.family;
  put(world_address(world, family), 12, 8);
  put(world_address(world, family), 16, 24);
  for (std::uint32_t tags = below(8) < 6 ? 0 : 1 + below(3); tags > 0; --tags) {
    bpf::add_vlan(frame, static_cast<std::uint16_t>(below(4096)));
  }
  if (below(4) == 0) {
    for (std::uint32_t i = 1 + below(4); i > 0; --i) {
      frame[below(static_cast<std::uint32_t>(frame.size()))] =
          static_cast<std::uint8_t>(below(256));
    }
  }
  if (below(4) == 0) frame.resize(below(static_cast<std::uint32_t>(frame.size() + 1)));
  return frame;
}

TEST(Interpreter, DoesWhatTheKernelDoes) {
  POLICYC_NEEDS_BPF();
  const Scratch scratch;
  std::size_t packets = 0;
  std::set<std::uint32_t> drops;
  const bool ok = rc::check("interpreter = kernel", [&] {
    const Choice pick;
    const ir::World world = random_world(pick);
    const ir::Resolved resolved = ir::resolve(world);
    bpf::CompileOptions options;
    options.directory = scratch.path();
    options.tool = "policyc test";
    const auto report = bpf::compile(world, resolved, options);
    if (report.status != bpf::CompileReport::Status::Done) RC_FAIL(report.message);
    const auto kernel = bpf::KernelRunner::open(scratch.path(), world, resolved);
    const auto interpreter =
        bpf::KernelRunner::open(scratch.path(), world, resolved, bpf::Engine::Interpreter);
    if (!kernel || !interpreter) RC_FAIL("no runner");
    // One endpoint of each node: loading costs more than running.
    for (std::size_t v = 0; v < resolved.views.size(); ++v) {
      const auto& endpoints = resolved.views[v].endpoints;
      if (endpoints.empty()) continue;
      const std::size_t e = below(static_cast<std::uint32_t>(endpoints.size()));
      if (!endpoints[e].error.empty()) continue;
      for (int i = 0; i < 30; ++i) {
        const auto frame = hostile_frame(world);
        const auto direction = i % 2 == 0 ? ir::Direction::Ingress : ir::Direction::Egress;
        const auto want = (*kernel)->run(v, e, direction, frame, 1);
        const auto got = (*interpreter)->run(v, e, direction, frame, 1);
        RC_ASSERT(static_cast<bool>(want) == static_cast<bool>(got));
        if (!want) continue;
        RC_ASSERT(got->return_code == want->return_code);
        RC_ASSERT(got->mark == want->mark);
        RC_ASSERT(got->cb == want->cb);
        ++packets;
        drops.insert(want->drop_reason);
      }
    }
  });
  EXPECT_TRUE(ok);
  EXPECT_GT(packets, 3000U);
  EXPECT_GT(drops.size(), 4U);  // many ways through the program
}

// ---- instructions

Instruction op(std::uint8_t opcode, unsigned dst, unsigned src, int offset, std::int32_t imm) {
  return {opcode, static_cast<std::uint8_t>(dst), static_cast<std::uint8_t>(src),
          static_cast<std::int16_t>(offset), imm};
}
Instruction ends() {
  return op(0x95, 0, 0, 0, 0);
}

std::vector<Instruction> constant(unsigned dst, std::uint64_t value) {
  return {op(0x18, dst, 0, 0, static_cast<std::int32_t>(value)),
          op(0, 0, 0, 0, static_cast<std::int32_t>(value >> 32U))};
}

std::vector<std::uint8_t> a_frame() {
  return std::vector<std::uint8_t>(60, 0xAB);
}

Expected<std::uint64_t> run(const std::vector<Instruction>& code, const Memory& memory = {}) {
  auto frame = a_frame();
  bpf::Context context;
  return bpf::interpret(code, memory, frame, context, 10000);
}

// r0 = a; r2 = b; the instruction; exit.
std::uint64_t result(std::uint64_t a, std::uint64_t b, const Instruction& i) {
  std::vector<Instruction> code = constant(0, a);
  const auto second = constant(2, b);
  code.insert(code.end(), second.begin(), second.end());
  code.push_back(i);
  code.push_back(ends());
  const auto out = run(code);
  EXPECT_TRUE(out) << out.error();
  return out ? *out : 0;
}

// Values by RFC 9669, sections 4.1 and 4.2.
TEST(Interpreter, ArithmeticByTheStandard) {
  constexpr std::uint64_t kMinus1 = ~std::uint64_t{0};
  constexpr std::uint64_t kMin64 = std::uint64_t{1} << 63U;
  EXPECT_EQ(result(kMinus1, 2, op(0x0F, 0, 2, 0, 0)), 1U);           // add
  EXPECT_EQ(result(kMinus1, 2, op(0x0C, 0, 2, 0, 0)), 1U);           // add32 clears the top
  EXPECT_EQ(result(5, 0, op(0x3F, 0, 2, 0, 0)), 0U);                 // x / 0 = 0
  EXPECT_EQ(result(5, 0, op(0x9F, 0, 2, 0, 0)), 5U);                 // x % 0 = x
  EXPECT_EQ(result(0x1'0000'0005, 0, op(0x9C, 0, 2, 0, 0)), 5U);     // 32 bits: top cleared
  EXPECT_EQ(result(kMin64, kMinus1, op(0x3F, 0, 2, 1, 0)), kMin64);  // signed overflow
  EXPECT_EQ(result(kMin64, kMinus1, op(0x9F, 0, 2, 1, 0)), 0U);
  EXPECT_EQ(result(static_cast<std::uint64_t>(-7), 2, op(0x9F, 0, 2, 1, 0)), kMinus1);
  EXPECT_EQ(result(0x80000000U, 0xFFFFFFFFU, op(0x3C, 0, 2, 1, 0)), 0x80000000U);
  EXPECT_EQ(result(static_cast<std::uint64_t>(-7), 2, op(0x3C, 0, 2, 1, 0)), 0xFFFFFFFDU);
  EXPECT_EQ(result(1, 65, op(0x6F, 0, 2, 0, 0)), 2U);  // shifts are masked
  EXPECT_EQ(result(1, 33, op(0x6C, 0, 2, 0, 0)), 2U);
  EXPECT_EQ(result(kMin64, 63, op(0xCF, 0, 2, 0, 0)), kMinus1);
  EXPECT_EQ(result(0x80000000U, 31, op(0xCC, 0, 2, 0, 0)), 0xFFFFFFFFU);
  EXPECT_EQ(result(5, 0, op(0x87, 0, 0, 0, 0)), static_cast<std::uint64_t>(-5));
  EXPECT_EQ(result(0, 0x80, op(0xBF, 0, 2, 8, 0)), static_cast<std::uint64_t>(-128));
  EXPECT_EQ(result(0, 0x8000, op(0xBC, 0, 2, 16, 0)), 0xFFFF8000U);
  EXPECT_EQ(result(7, 0, op(0xB7, 0, 0, 0, -1)), kMinus1);  // immediates extend
  EXPECT_EQ(result(0x0102030405060708U, 0, op(0xDC, 0, 0, 0, 64)), 0x0807060504030201U);
  EXPECT_EQ(result(0x0102030405060708U, 0, op(0xDC, 0, 0, 0, 16)), 0x0807U);
  EXPECT_EQ(result(0x0102030405060708U, 0, op(0xD4, 0, 0, 0, 32)), 0x05060708U);
  EXPECT_EQ(result(0x0102030405060708U, 0, op(0xD7, 0, 0, 0, 32)), 0x08070605U);
}

TEST(Interpreter, JumpsByTheStandard) {
  struct Case {
    std::uint8_t code;
    std::uint64_t a, b;
    bool taken;
  };
  constexpr std::uint64_t kMinus1 = ~std::uint64_t{0};
  for (const Case& c : {Case{0x1D, 5, 5, true},
                        {0x2D, kMinus1, 1, true},
                        {0x6D, kMinus1, 1, false},
                        {0x3D, 5, 5, true},
                        {0x4D, 6, 1, false},
                        {0x5D, 1, 2, true},
                        {0xAD, 1, kMinus1, true},
                        {0xCD, kMinus1, 1, true},
                        {0xBD, 2, 1, false},
                        {0xDD, kMinus1, kMinus1, true},
                        {0x1E, 0x1'0000'0001, 1, true},  // 32 bits
                        {0x6E, 0xFFFFFFFF, 0, false},
                        {0xCE, 0x80000000, 0, true}}) {
    std::vector<Instruction> code = constant(0, c.a);
    const auto second = constant(2, c.b);
    code.insert(code.end(), second.begin(), second.end());
    code.insert(code.end(), {op(c.code, 0, 2, 2, 0), op(0xB7, 0, 0, 0, 0), ends(),
                             op(0xB7, 0, 0, 0, 1), ends()});
    const auto out = run(code);
    ASSERT_TRUE(out) << out.error();
    EXPECT_EQ(*out, c.taken ? 1U : 0U) << std::hex << unsigned{c.code};
  }
}

TEST(Interpreter, FunctionsKeepTheirCallersRegisters) {
  // r6 = 7; r0 = f(); r0 += r6.   f: r6 = 1; *(r10 - 8) = 1; r0 = 35
  const auto out =
      run({op(0xB7, 6, 0, 0, 7), op(0x7A, 10, 0, -8, 9), op(0x85, 0, 1, 0, 3), op(0x0F, 0, 6, 0, 0),
           op(0x79, 1, 10, -8, 0), op(0x05, 0, 0, 4, 0), op(0xB7, 6, 0, 0, 1),
           op(0x7A, 10, 0, -8, 1), op(0xB7, 0, 0, 0, 35), ends(), op(0x0F, 0, 1, 0, 0), ends()});
  ASSERT_TRUE(out) << out.error();
  EXPECT_EQ(*out, 35U + 7U + 9U);
}

TEST(Interpreter, AtomicsAndMaps) {
  std::vector<std::uint8_t> value(16, 0);
  value[8] = 5;
  Memory memory;
  memory.add({value.data(), value.size(), true});
  // r1 = &map[0] + 8; r2 = 3; r2 = fetch_add(r1, r2); r0 = r2 * 10 + *r1
  std::vector<Instruction> code = {
      op(0x18, 1, 2, 0, 0), op(0, 0, 0, 0, 8),     op(0xB7, 2, 0, 0, 3), op(0xDB, 1, 2, 0, 1),
      op(0x79, 0, 1, 0, 0), op(0x27, 2, 0, 0, 10), op(0x0F, 0, 2, 0, 0), ends()};
  auto out = run(code, memory);
  ASSERT_TRUE(out) << out.error();
  EXPECT_EQ(*out, 58U);
  EXPECT_EQ(value[8], 8);
  // Compare and exchange: r0 holds what was there.
  code = {op(0x18, 1, 2, 0, 0), op(0, 0, 0, 0, 8),       op(0xB7, 2, 0, 0, 77),
          op(0xB7, 0, 0, 0, 8), op(0xDB, 1, 2, 0, 0xF1), ends()};
  out = run(code, memory);
  ASSERT_TRUE(out) << out.error();
  EXPECT_EQ(*out, 8U);
  EXPECT_EQ(value[8], 77);
}

// ---- bounds

std::string error_of(std::vector<Instruction> code, const Memory& memory = {}) {
  code.push_back(ends());
  const auto out = run(code, memory);
  return out ? "" : out.error();
}

TEST(Interpreter, LeavingTheBoundsIsAnError) {
  std::vector<std::uint8_t> value(8, 0);
  Memory memory;
  memory.add({value.data(), value.size(), false});
  const auto map = [&](std::int32_t offset, const Instruction& i) {
    return error_of({op(0x18, 1, 2, 0, 0), op(0, 0, 0, 0, offset), i}, memory);
  };
  EXPECT_EQ(map(0, op(0x79, 0, 1, 0, 0)), "");
  EXPECT_EQ(map(1, op(0x79, 0, 1, 0, 0)), "instruction 2: reads 8 bytes out of bounds");
  EXPECT_EQ(map(0, op(0x71, 0, 1, -1, 0)), "instruction 2: reads 1 bytes out of bounds");
  EXPECT_EQ(map(7, op(0x71, 0, 1, 0, 0)), "");
  EXPECT_EQ(map(0, op(0x72, 1, 0, 0, 1)), "instruction 2: writes 1 bytes out of bounds");
  EXPECT_EQ(map(0, op(0xDB, 1, 2, 0, 0)), "instruction 2: changes 8 bytes out of bounds");
  // The stack has 512 bytes below the frame pointer.
  EXPECT_EQ(error_of({op(0x72, 10, 0, -512, 1)}), "");
  EXPECT_NE(error_of({op(0x72, 10, 0, -513, 1)}), "");
  EXPECT_NE(error_of({op(0x72, 10, 0, 0, 1)}), "");
  // The packet ends at data_end.
  const auto packet = [&](int offset) {
    return error_of({op(0x61, 2, 1, 76, 0), op(0x71, 0, 2, offset, 0)});
  };
  EXPECT_EQ(packet(59), "");
  EXPECT_NE(packet(60), "");
  EXPECT_NE(packet(-1), "");
  // The context: known fields only, and only some can be written.
  EXPECT_EQ(error_of({op(0x61, 0, 1, 0, 0)}), "");
  EXPECT_NE(error_of({op(0x61, 0, 1, 1, 0)}), "");
  EXPECT_NE(error_of({op(0x61, 0, 1, 4096, 0)}), "");
  EXPECT_NE(error_of({op(0x79, 0, 1, 76, 0)}), "");
  EXPECT_EQ(error_of({op(0x62, 1, 0, 8, 1)}), "");
  EXPECT_NE(error_of({op(0x62, 1, 0, 0, 1)}), "");
  EXPECT_NE(error_of({op(0x62, 1, 0, 76, 1)}), "");
  // Numbers are no addresses.
  EXPECT_NE(error_of({op(0xB7, 1, 0, 0, 0), op(0x71, 0, 1, 0, 0)}), "");
  EXPECT_NE(error_of({op(0xB7, 1, 0, 0, -1), op(0x71, 0, 1, 0, 0)}), "");
}

TEST(Interpreter, WhatIsNoProgramIsAnError) {
  EXPECT_EQ(run({op(0x05, 0, 0, -1, 0)}).error(), "not at its end after 10000 instructions");
  EXPECT_EQ(run({op(0x05, 0, 0, 1, 0)}).error(), "instruction 2: there is no instruction here");
  EXPECT_NE(run({op(0x05, 0, 0, -2, 0)}).error(), "");
  EXPECT_NE(run({op(0x85, 0, 1, 0, -1)}).error().find("eight functions"), std::string::npos);
  EXPECT_NE(run({op(0x85, 0, 0, 0, 1)}).error().find("helper 1"), std::string::npos);
  EXPECT_NE(run({op(0xB7, 10, 0, 0, 1)}).error().find("frame pointer"), std::string::npos);
  EXPECT_NE(run({op(0xBF, 0, 11, 0, 0)}).error().find("register"), std::string::npos);
  EXPECT_NE(run({op(0x18, 0, 0, 0, 1)}).error(), "");  // without its second half
  EXPECT_NE(run({op(0x20, 0, 0, 0, 1)}).error(), "");
  EXPECT_NE(run({}).error(), "");
}

// ---- any bytes

// The real program where there is a compiler for it, else one that touches everything.
const std::vector<Instruction>& seed_program() {
  static const std::vector<Instruction> code = [] {
    if (bpf::find_clang_module()) {
      const auto object = ebpf::read_object(object_for({}));
      if (object && object->program(bpf::kIngressProgram) != nullptr) {
        return object->program(bpf::kIngressProgram)->code;
      }
    }
    std::vector<Instruction> out = {op(0x61, 2, 1, 76, 0),   op(0x61, 3, 1, 80, 0),
                                    op(0xBF, 4, 2, 0, 0),    op(0x07, 4, 0, 0, 14),
                                    op(0x2D, 4, 3, 9, 0),    op(0x69, 5, 2, 12, 0),
                                    op(0x18, 6, 2, 0, 0),    op(0, 0, 0, 0, 0),
                                    op(0x57, 5, 0, 0, 4095), op(0x0F, 6, 5, 0, 0),
                                    op(0x79, 0, 6, 0, 0),    op(0x7B, 10, 0, -8, 0),
                                    op(0xDB, 10, 0, -8, 0),  op(0x63, 1, 0, 48, 0),
                                    op(0xB7, 0, 0, 0, 0),    ends()};
    return out;
  }();
  return code;
}

// Single bits, whole instructions and their order change.
std::vector<Instruction> mutated(std::vector<Instruction> code) {
  const auto any = [&] { return below(static_cast<std::uint32_t>(code.size())); };
  for (std::uint32_t i = 1 + below(8); i > 0; --i) {
    switch (below(4)) {
      case 0: {
        std::string bytes = ebpf::encode(code);
        bytes[below(static_cast<std::uint32_t>(bytes.size()))] ^= static_cast<char>(1U << below(8));
        code = *ebpf::decode(bytes);
        break;
      }
      case 1:
        code[any()] =
            op(static_cast<std::uint8_t>(below(256)), below(12), below(12),
               static_cast<int>(below(64)) - 32, static_cast<std::int32_t>(below(512)) - 256);
        break;
      case 2:
        std::swap(code[any()], code[any()]);
        break;
      default:
        code.erase(code.begin() + any());
        if (code.empty()) code.push_back(ends());
        break;
    }
  }
  return code;
}

TEST(Interpreter, MutatedProgramsStayInBounds) {
  std::size_t ended = 0;
  std::size_t stopped = 0;
  const bool ok = rc::check("any instructions are safe to run", [&] {
    const auto code = mutated(seed_program());
    const auto once = [&] {
      // Exactly as large as they say: a sanitizer sees the byte behind.
      std::vector<std::vector<std::uint8_t>> values(3, std::vector<std::uint8_t>(4096, 0));
      Memory memory;
      for (auto& v : values) memory.add({v.data(), v.size(), &v != &values[2]});
      auto frame = a_frame();
      frame[12] = 8;
      frame[13] = 0;
      bpf::Context context;
      const auto out = bpf::interpret(code, memory, frame, context, 20000);
      return std::tuple(out ? *out : 0, out ? "" : out.error(), context.cb, frame, values);
    };
    const auto first = once();
    RC_ASSERT(once() == first);  // nothing but the program decides
    ++(std::get<1>(first).empty() ? ended : stopped);
  });
  EXPECT_TRUE(ok);
  EXPECT_GT(ended + stopped, 0U);
}

TEST(Interpreter, MutatedObjectsAreReadOrRefused) {
  if (const auto module = bpf::find_clang_module(); !module) {
    GTEST_SKIP() << "skipped: " << module.error();
  }
  const std::string& whole = object_for({});
  const bool ok = rc::check("any object is safe to load and run", [&] {
    std::string elf = whole;
    for (std::uint32_t i = 1 + below(6); i > 0; --i) {
      // The header, the section headers at the end, or anywhere.
      const auto size = static_cast<std::uint32_t>(elf.size());
      const std::uint32_t at = below(3) == 0   ? below(64)
                               : below(2) == 0 ? size - 1 - below(1536)
                                               : below(size);
      elf[at] = static_cast<char>(below(256));
    }
    if (below(8) == 0) elf.resize(below(static_cast<std::uint32_t>(elf.size())));
    const auto object = bpf::InterpretedObject::load(elf, {});
    if (!object) return;
    auto frame = a_frame();
    frame[12] = 8;
    frame[13] = 0;
    for (const char* program : {bpf::kIngressProgram, bpf::kEgressProgram}) {
      const auto out = object->run(program, frame);
      if (!out) RC_ASSERT(!out.error().empty());
    }
  });
  EXPECT_TRUE(ok);
}

}  // namespace
}  // namespace policyc
