// Mutation of compiled programs: one instruction in place of another.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "ir/bpf/insn.h"

namespace policyc::testing {

// Where the section's instructions stand in the file.
inline std::size_t place_of(const std::string& elf, const std::string& section) {
  const auto number = [&](std::size_t at, std::size_t bytes) {
    std::uint64_t v = 0;
    std::memcpy(&v, elf.data() + at, bytes);
    return static_cast<std::size_t>(v);
  };
  const std::size_t table = number(0x28, 8), size = number(0x3A, 2), count = number(0x3C, 2);
  const std::size_t names = number(table + size * number(0x3E, 2) + 0x18, 8);
  for (std::size_t k = 0; k < count; ++k) {
    const std::size_t header = table + k * size;
    if (section == elf.c_str() + names + number(header, 4)) return number(header + 0x18, 8);
  }
  return std::string::npos;
}

// One instruction in place of another. Second halves of 64-bit constants are left alone.
inline std::vector<ebpf::Instruction> neighbours(const ebpf::Instruction& i) {
  std::vector<ebpf::Instruction> out;
  const auto with = [&](auto change) {
    ebpf::Instruction m = i;
    change(m);
    if (ebpf::encode({m}) != ebpf::encode({i})) out.push_back(m);
  };
  const std::uint8_t cls = i.instruction_class();
  const bool jump = cls == ebpf::kJmp || cls == ebpf::kJmp32;
  const bool alu = cls == ebpf::kAlu || cls == ebpf::kAlu64;
  for (const int by : {1, -1}) {
    with([&](ebpf::Instruction& m) { m.imm += by; });
    with([&](ebpf::Instruction& m) { m.offset = static_cast<std::int16_t>(m.offset + by); });
  }
  with([&](ebpf::Instruction& m) { m.imm ^= 0x100; });
  with([&](ebpf::Instruction& m) { std::swap(m.dst, m.src); });
  with([&](ebpf::Instruction& m) { m.dst = static_cast<std::uint8_t>((m.dst + 1) % 10); });
  if (i.from_register() || !(jump || alu)) {
    with([&](ebpf::Instruction& m) { m.src = static_cast<std::uint8_t>((m.src + 1) % 10); });
  }
  // A jump to the next instruction does nothing.
  with([&](ebpf::Instruction& m) { m = ebpf::Instruction{ebpf::kJmp | ebpf::kJa, 0, 0, 0, 0}; });
  if (jump || alu) {
    for (const unsigned operation : {0x10U, 0x20U, 0x80U}) {
      with([&](ebpf::Instruction& m) {
        m.opcode = static_cast<std::uint8_t>(m.opcode ^ operation);
      });
    }
    // Half the width or twice.
    with([&](ebpf::Instruction& m) { m.opcode = static_cast<std::uint8_t>(m.opcode ^ 3U); });
  } else if (i.opcode != ebpf::kLdImm64) {
    for (const unsigned size : {0x08U, 0x10U, 0x18U}) {
      with([&](ebpf::Instruction& m) { m.opcode = static_cast<std::uint8_t>(m.opcode ^ size); });
    }
  }
  return out;
}

}  // namespace policyc::testing
