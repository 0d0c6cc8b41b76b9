#include "ir/bpf/insn.h"

#include <fmt/format.h>

#include <cstring>

namespace policyc::ebpf {

namespace {

const char* alu_sign(std::uint8_t operation) {
  switch (operation) {
    case kAdd:
      return "+=";
    case kSub:
      return "-=";
    case kMul:
      return "*=";
    case kDiv:
      return "/=";
    case kOr:
      return "|=";
    case kAnd:
      return "&=";
    case kLsh:
      return "<<=";
    case kRsh:
      return ">>=";
    case kMod:
      return "%=";
    case kXor:
      return "^=";
    case kMov:
      return "=";
    case kArsh:
      return "s>>=";
    default:
      return nullptr;
  }
}

const char* jump_sign(std::uint8_t operation) {
  switch (operation) {
    case kJeq:
      return "==";
    case kJgt:
      return ">";
    case kJge:
      return ">=";
    case kJset:
      return "&";
    case kJne:
      return "!=";
    case kJsgt:
      return "s>";
    case kJsge:
      return "s>=";
    case kJlt:
      return "<";
    case kJle:
      return "<=";
    case kJslt:
      return "s<";
    case kJsle:
      return "s<=";
    default:
      return nullptr;
  }
}

std::string place(char base, unsigned reg, int offset, unsigned bytes) {
  return fmt::format("*(u{} *)({}{} {} {})", bytes * 8, base, reg, offset < 0 ? '-' : '+',
                     offset < 0 ? -offset : offset);
}

}  // namespace

Expected<std::vector<Instruction>> decode(std::string_view bytes) {
  if (bytes.size() % kInstructionBytes != 0) return Error{"code is cut off"};
  std::vector<Instruction> out(bytes.size() / kInstructionBytes);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const char* at = bytes.data() + i * kInstructionBytes;
    Instruction& insn = out[i];
    insn.opcode = static_cast<std::uint8_t>(at[0]);
    insn.dst = static_cast<std::uint8_t>(at[1]) & 0x0fU;
    insn.src = static_cast<std::uint8_t>(static_cast<std::uint8_t>(at[1]) >> 4U);
    std::memcpy(&insn.offset, at + 2, 2);
    std::memcpy(&insn.imm, at + 4, 4);
  }
  return out;
}

std::string encode(const std::vector<Instruction>& code) {
  std::string out(code.size() * kInstructionBytes, '\0');
  for (std::size_t i = 0; i < code.size(); ++i) {
    char* at = out.data() + i * kInstructionBytes;
    at[0] = static_cast<char>(code[i].opcode);
    at[1] = static_cast<char>(code[i].src << 4U | code[i].dst);
    std::memcpy(at + 2, &code[i].offset, 2);
    std::memcpy(at + 4, &code[i].imm, 4);
  }
  return out;
}

std::vector<bool> second_slots(const std::vector<Instruction>& code) {
  std::vector<bool> out(code.size());
  for (std::size_t i = 0; i + 1 < code.size(); ++i) {
    if (!out[i] && code[i].opcode == kLdImm64) out[i + 1] = true;
  }
  return out;
}

std::string disassemble(const Instruction& i, const Instruction* next) {
  const std::string unknown = fmt::format("opcode {:#04x} dst {} src {} off {} imm {}", i.opcode,
                                          i.dst, i.src, i.offset, i.imm);
  switch (i.instruction_class()) {
    case kLd:
      if (i.opcode != kLdImm64) return unknown;
      if (i.src == kImmIsMap) return fmt::format("r{} = map {}", i.dst, i.imm);
      if (i.src == kImmIsMapValue) {
        return fmt::format("r{} = value of map {} + {}", i.dst, i.imm,
                           next != nullptr ? next->imm : 0);
      }
      return fmt::format("r{} = {:#x} ll", i.dst,
                         static_cast<std::uint64_t>(next != nullptr ? next->imm : 0) << 32U |
                             static_cast<std::uint32_t>(i.imm));
    case kLdx:
      return fmt::format("r{} = {}", i.dst, place('r', i.src, i.offset, i.bytes()));
    case kSt:
      return fmt::format("{} = {}", place('r', i.dst, i.offset, i.bytes()), i.imm);
    case kStx:
      if (i.mode() == kModeAtomic) {
        return fmt::format("lock {:#x} {} r{}", i.imm, place('r', i.dst, i.offset, i.bytes()),
                           i.src);
      }
      return fmt::format("{} = r{}", place('r', i.dst, i.offset, i.bytes()), i.src);
    case kAlu:
    case kAlu64: {
      const char reg = i.instruction_class() == kAlu ? 'w' : 'r';
      if (i.operation() == kNeg) return fmt::format("{0}{1} = -{0}{1}", reg, i.dst);
      if (i.operation() == kEnd) {
        const char* to = i.instruction_class() == kAlu64 ? "bswap"
                         : i.from_register()             ? "be"
                                                         : "le";
        return fmt::format("r{0} = {1}{2} r{0}", i.dst, to, i.imm);
      }
      const char* sign = alu_sign(i.operation());
      if (sign == nullptr) return unknown;
      return i.from_register() ? fmt::format("{}{} {} {}{}", reg, i.dst, sign, reg, i.src)
                               : fmt::format("{}{} {} {}", reg, i.dst, sign, i.imm);
    }
    default: {
      if (i.operation() == kJa) {
        return fmt::format("goto {:+}", i.instruction_class() == kJmp32 ? i.imm : i.offset);
      }
      if (i.operation() == kExit) return "exit";
      if (i.operation() == kCall) {
        return i.src == kCallIsLocal ? fmt::format("call {:+}", i.imm)
                                     : fmt::format("call helper {}", i.imm);
      }
      const char reg = i.instruction_class() == kJmp32 ? 'w' : 'r';
      const char* sign = jump_sign(i.operation());
      if (sign == nullptr) return unknown;
      const std::string right =
          i.from_register() ? fmt::format("{}{}", reg, i.src) : fmt::format("{}", i.imm);
      return fmt::format("if {}{} {} {} goto {:+}", reg, i.dst, sign, right, i.offset);
    }
  }
}

}  // namespace policyc::ebpf
