// BPF instructions as the kernel defines them (RFC 9669): 8 bytes each, little endian.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ir/base/expected.h"

namespace policyc::ebpf {

struct Instruction {
  std::uint8_t opcode = 0;
  std::uint8_t dst = 0, src = 0;  // register numbers
  std::int16_t offset = 0;
  std::int32_t imm = 0;

  std::uint8_t instruction_class() const { return opcode & 0x07U; }
  // Of ALU, ALU64, JMP, JMP32: what to do.
  std::uint8_t operation() const { return opcode & 0xf0U; }
  // Of the same: the second operand is a register, not `imm`.
  bool from_register() const { return (opcode & 0x08U) != 0; }
  // Of loads and stores: how many bytes.
  unsigned bytes() const {
    switch (opcode & 0x18U) {
      case 0x00:
        return 4;
      case 0x08:
        return 2;
      case 0x10:
        return 1;
      default:
        return 8;
    }
  }
  std::uint8_t mode() const { return opcode & 0xe0U; }  // of loads and stores
  friend bool operator==(const Instruction&, const Instruction&) = default;
};

inline constexpr std::size_t kInstructionBytes = 8;
inline constexpr unsigned kRegisters = 11;  // r0..r10; r10 is the frame pointer
inline constexpr unsigned kFramePointer = 10;
inline constexpr std::size_t kStackBytes = 512;  // of one frame

// Instruction classes.
inline constexpr std::uint8_t kLd = 0x00;
inline constexpr std::uint8_t kLdx = 0x01;
inline constexpr std::uint8_t kSt = 0x02;
inline constexpr std::uint8_t kStx = 0x03;
inline constexpr std::uint8_t kAlu = 0x04;
inline constexpr std::uint8_t kJmp = 0x05;
inline constexpr std::uint8_t kJmp32 = 0x06;
inline constexpr std::uint8_t kAlu64 = 0x07;

// Operations of kAlu and kAlu64.
inline constexpr std::uint8_t kAdd = 0x00;
inline constexpr std::uint8_t kSub = 0x10;
inline constexpr std::uint8_t kMul = 0x20;
inline constexpr std::uint8_t kDiv = 0x30;
inline constexpr std::uint8_t kOr = 0x40;
inline constexpr std::uint8_t kAnd = 0x50;
inline constexpr std::uint8_t kLsh = 0x60;
inline constexpr std::uint8_t kRsh = 0x70;
inline constexpr std::uint8_t kNeg = 0x80;
inline constexpr std::uint8_t kMod = 0x90;
inline constexpr std::uint8_t kXor = 0xa0;
inline constexpr std::uint8_t kMov = 0xb0;
inline constexpr std::uint8_t kArsh = 0xc0;
inline constexpr std::uint8_t kEnd = 0xd0;  // byte swap

// Operations of kJmp and kJmp32.
inline constexpr std::uint8_t kJa = 0x00;
inline constexpr std::uint8_t kJeq = 0x10;
inline constexpr std::uint8_t kJgt = 0x20;
inline constexpr std::uint8_t kJge = 0x30;
inline constexpr std::uint8_t kJset = 0x40;
inline constexpr std::uint8_t kJne = 0x50;
inline constexpr std::uint8_t kJsgt = 0x60;
inline constexpr std::uint8_t kJsge = 0x70;
inline constexpr std::uint8_t kCall = 0x80;
inline constexpr std::uint8_t kExit = 0x90;
inline constexpr std::uint8_t kJlt = 0xa0;
inline constexpr std::uint8_t kJle = 0xb0;
inline constexpr std::uint8_t kJslt = 0xc0;
inline constexpr std::uint8_t kJsle = 0xd0;

inline constexpr std::uint8_t kModeMem = 0x60;
inline constexpr std::uint8_t kModeAtomic = 0xc0;
// A 64-bit constant in two instruction slots; `src` of the first says what it is.
inline constexpr std::uint8_t kLdImm64 = 0x18;
inline constexpr std::uint8_t kImmIsMap = 1;       // imm: map index, a pointer to the map
inline constexpr std::uint8_t kImmIsMapValue = 2;  // imm: map index; second imm: byte offset
inline constexpr std::uint8_t kCallIsHelper = 0;   // imm: helper number
inline constexpr std::uint8_t kCallIsLocal = 1;    // imm: relative to the next instruction

// Errors: a length that is no multiple of 8.
Expected<std::vector<Instruction>> decode(std::string_view bytes);
std::string encode(const std::vector<Instruction>& code);

// Whether a 64-bit constant's second slot stands at this index.
std::vector<bool> second_slots(const std::vector<Instruction>& code);

// One instruction for a reader: "r1 += 4", "if w2 > 17 goto +3". `next` is the slot behind it, for
// 64-bit constants; may be nullptr.
std::string disassemble(const Instruction& instruction, const Instruction* next = nullptr);

}  // namespace policyc::ebpf
