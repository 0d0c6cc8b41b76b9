#include "backend-bpf/interpreter.h"

#include <fmt/format.h>

#include <bit>
#include <chrono>
#include <cstring>
#include <limits>
#include <optional>

namespace policyc::bpf {
namespace {

// Parts of an instruction's code (linux/bpf_common.h, linux/bpf.h).
enum Class : std::uint8_t { kLd, kLdx, kSt, kStx, kAlu, kJmp, kJmp32, kAlu64 };
constexpr std::uint8_t kFromRegister = 0x08;  // else the immediate
enum Mode : std::uint8_t { kMem = 0x60, kMemSigned = 0x80, kAtomic = 0xC0 };
constexpr std::uint8_t kLoadImmediate64 = 0x18;

constexpr std::size_t kRegisters = 11, kFramePointer = 10;
constexpr std::size_t kStack = 512, kCallDepth = 8;

// Offsets in struct __sk_buff (linux/bpf.h).
constexpr std::uint32_t kLength = 0, kMark = 8, kProtocol = 16, kVlanPresent = 20, kVlanTci = 24,
                        kVlanProto = 28, kPriority = 32, kCb = 48, kData = 76, kDataEnd = 80;

std::size_t width(std::uint8_t code) {
  switch (code & 0x18U) {
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

std::uint64_t low_bytes(std::uint64_t value, std::size_t size) {
  return size == 8 ? value : value & ((std::uint64_t{1} << 8 * size) - 1);
}

std::uint64_t sign_extend(std::uint64_t value, std::size_t bits) {
  const unsigned up = 64U - static_cast<unsigned>(bits);
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(value << up) >> up);
}

std::uint64_t swap_bytes(std::uint64_t value, std::size_t size) {
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < size; ++i) out = out << 8U | ((value >> 8 * i) & 0xFFU);
  return out;
}

template <class Signed>
Signed signed_divide(Signed a, Signed b, bool remainder) {
  if (b == 0) return remainder ? a : 0;
  if (b == -1) return remainder ? 0 : static_cast<Signed>(0 - static_cast<std::uint64_t>(a));
  return static_cast<Signed>(remainder ? a % b : a / b);
}

class Machine {
 public:
  Machine(const std::vector<RawInstruction>& code, const Memory& memory,
          std::vector<std::uint8_t>& frame, Context& context)
      : code_(code), memory_(memory), frame_(frame), context_(context) {
    packet_ = memory_.add({frame.data(), frame.size(), true});
    for (auto& stack : stacks_)
      stack_[&stack - stacks_.data()] = memory_.add({stack.data(), kStack, true});
    // No region: accesses go through context_load and context_store.
    context_address_ = memory_.add({nullptr, 0, false});
    registers_[1] = context_address_;
    registers_[kFramePointer] = stack_[0] + kStack;
  }

  Expected<std::uint64_t> run(std::size_t entry, std::size_t budget);

 private:
  struct Caller {
    std::size_t return_to = 0;
    std::array<std::uint64_t, 5> saved{};  // registers 6 to 10
  };

  Error error(const std::string& what) const {
    return Error{fmt::format("instruction {}: {}", at_, what)};
  }
  std::uint64_t& destination() { return registers_[code_[at_].registers & 15U]; }
  std::uint64_t source() const { return registers_[code_[at_].registers >> 4U]; }
  std::uint64_t operand() const {
    const RawInstruction& i = code_[at_];
    return (i.code & kFromRegister) != 0
               ? source()
               : static_cast<std::uint64_t>(static_cast<std::int64_t>(i.immediate));
  }

  // Each returns what is wrong, or nothing.
  std::optional<Error> arithmetic(bool wide);
  std::optional<Error> swap(bool always);
  std::optional<Error> load();
  std::optional<Error> store();
  std::optional<Error> atomic();
  std::optional<Error> call();
  std::optional<bool> holds(bool wide) const;
  std::optional<std::uint64_t> context_load(std::uint32_t offset, std::size_t size) const;
  bool context_store(std::uint32_t offset, std::size_t size, std::uint64_t value);
  bool is_context(std::uint64_t address) const { return address >> 32U == context_address_ >> 32U; }

  const std::vector<RawInstruction>& code_;
  Memory memory_;
  std::vector<std::uint8_t>& frame_;
  Context& context_;
  std::array<std::uint64_t, kRegisters> registers_{};
  std::array<std::array<std::uint8_t, kStack>, kCallDepth> stacks_{};
  std::array<std::uint64_t, kCallDepth> stack_{};
  std::uint64_t packet_ = 0, context_address_ = 0;
  std::array<Caller, kCallDepth> callers_{};
  std::size_t depth_ = 0;
  std::size_t at_ = 0, next_ = 0;
};

std::optional<Error> Machine::swap(bool always) {
  const RawInstruction& i = code_[at_];
  if (i.immediate != 16 && i.immediate != 32 && i.immediate != 64) {
    return error("a byte order of no width");
  }
  const auto size = static_cast<std::size_t>(i.immediate) / 8;
  const bool swaps = always || (i.code & kFromRegister) != 0;  // to big endian; this is little
  destination() = swaps ? swap_bytes(destination(), size) : low_bytes(destination(), size);
  return std::nullopt;
}

std::optional<Error> Machine::arithmetic(bool wide) {
  const RawInstruction& i = code_[at_];
  const std::size_t bits = wide ? 64 : 32;
  const std::size_t bytes = bits / 8;
  const std::uint64_t a = low_bytes(destination(), bytes);
  const std::uint64_t b = low_bytes(operand(), bytes);
  const bool is_signed = i.offset == 1;
  std::uint64_t out = 0;
  const auto divide = [&](bool remainder) -> std::uint64_t {
    if (is_signed && wide) {
      return static_cast<std::uint64_t>(
          signed_divide(static_cast<std::int64_t>(a), static_cast<std::int64_t>(b), remainder));
    }
    if (is_signed) {
      return static_cast<std::uint64_t>(
          signed_divide(static_cast<std::int32_t>(a), static_cast<std::int32_t>(b), remainder));
    }
    if (b == 0) return remainder ? a : 0;
    return remainder ? a % b : a / b;
  };
  switch (i.code >> 4U) {
    case 0x0:
      out = a + b;
      break;
    case 0x1:
      out = a - b;
      break;
    case 0x2:
      out = a * b;
      break;
    case 0x3:
      out = divide(false);
      break;
    case 0x4:
      out = a | b;
      break;
    case 0x5:
      out = a & b;
      break;
    case 0x6:
      out = a << (b & (bits - 1));
      break;
    case 0x7:
      out = a >> (b & (bits - 1));
      break;
    case 0x8:
      out = 0 - a;
      break;
    case 0x9:
      out = divide(true);
      break;
    case 0xA:
      out = a ^ b;
      break;
    case 0xB:
      if (i.offset != 0 && i.offset != 8 && i.offset != 16 && i.offset != 32) {
        return error("a move of no kind that is known here");
      }
      out = i.offset == 0 ? b : sign_extend(b, static_cast<std::size_t>(i.offset));
      break;
    case 0xC:
      out = static_cast<std::uint64_t>(static_cast<std::int64_t>(sign_extend(a, bits)) >>
                                       (b & (bits - 1)));
      break;
    case 0xD:
      return swap(wide);
    default:
      return error(fmt::format("no instruction has the code {:#04x}", i.code));
  }
  destination() = low_bytes(out, bytes);
  return std::nullopt;
}

// Fields that a test run sets to something else than zero, or that programs may write.
std::optional<std::uint64_t> Machine::context_load(std::uint32_t offset, std::size_t size) const {
  if (size == 4 && offset == kData) return packet_;
  if (size == 4 && offset == kDataEnd) return packet_ + frame_.size();
  const std::uint32_t word = offset & ~3U;
  if (offset % size != 0 || size > 4) return std::nullopt;
  std::uint32_t value = 0;
  if (word == kLength) {
    value = static_cast<std::uint32_t>(frame_.size());
  } else if (word == kMark) {
    value = context_.mark;
  } else if (word == kProtocol && frame_.size() >= 14) {
    value = static_cast<std::uint32_t>(frame_[12]) | static_cast<std::uint32_t>(frame_[13]) << 8U;
  } else if (word == kPriority) {
    value = context_.priority;
  } else if (word >= kCb && word < kCb + 4 * context_.cb.size()) {
    value = context_.cb[(word - kCb) / 4];
  } else if (word != kVlanPresent && word != kVlanTci && word != kVlanProto) {
    return std::nullopt;
  }
  return low_bytes(value >> 8 * (offset - word), size);
}

bool Machine::context_store(std::uint32_t offset, std::size_t size, std::uint64_t value) {
  if (size != 4 || offset % 4 != 0) return false;
  const auto word = static_cast<std::uint32_t>(value);
  if (offset == kMark) {
    context_.mark = word;
  } else if (offset == kPriority) {
    context_.priority = word;
  } else if (offset >= kCb && offset < kCb + 4 * context_.cb.size()) {
    context_.cb[(offset - kCb) / 4] = word;
  } else {
    return false;
  }
  return true;
}

std::optional<Error> Machine::load() {
  const RawInstruction& i = code_[at_];
  const std::size_t size = width(i.code);
  const std::uint8_t mode = i.code & 0xE0U;
  if (mode != kMem && mode != kMemSigned) {
    return error(fmt::format("no instruction has the code {:#04x}", i.code));
  }
  const std::uint64_t address = source() + static_cast<std::uint64_t>(std::int64_t{i.offset});
  std::uint64_t value = 0;
  if (is_context(address)) {
    const auto field = context_load(static_cast<std::uint32_t>(address), size);
    if (!field) {
      return error(
          fmt::format("reads {} bytes at {} of the context, which this interpreter does "
                      "not have",
                      size, static_cast<std::uint32_t>(address)));
    }
    value = *field;
  } else {
    const std::uint8_t* bytes = memory_.at(address, size, false);
    if (bytes == nullptr) return error(fmt::format("reads {} bytes out of bounds", size));
    std::memcpy(&value, bytes, size);
  }
  destination() = mode == kMemSigned ? sign_extend(value, 8 * size) : value;
  return std::nullopt;
}

std::optional<Error> Machine::store() {
  const RawInstruction& i = code_[at_];
  const std::size_t size = width(i.code);
  if ((i.code & 0xE0U) != kMem) {
    return error(fmt::format("no instruction has the code {:#04x}", i.code));
  }
  const std::uint64_t value =
      (i.code & 7U) == kStx ? source() : static_cast<std::uint64_t>(std::int64_t{i.immediate});
  const std::uint64_t address = destination() + static_cast<std::uint64_t>(std::int64_t{i.offset});
  if (is_context(address)) {
    if (context_store(static_cast<std::uint32_t>(address), size, value)) return std::nullopt;
    return error(fmt::format("writes {} bytes at {} of the context, which is not permitted", size,
                             static_cast<std::uint32_t>(address)));
  }
  std::uint8_t* bytes = memory_.at(address, size, true);
  if (bytes == nullptr) return error(fmt::format("writes {} bytes out of bounds", size));
  std::memcpy(bytes, &value, size);
  return std::nullopt;
}

std::optional<Error> Machine::atomic() {
  const RawInstruction& i = code_[at_];
  const std::size_t size = width(i.code);
  if (size < 4) return error("an atomic operation on less than four bytes");
  const std::uint64_t address = destination() + static_cast<std::uint64_t>(std::int64_t{i.offset});
  std::uint8_t* bytes = memory_.at(address, size, true);
  if (bytes == nullptr || is_context(address)) {
    return error(fmt::format("changes {} bytes out of bounds", size));
  }
  std::uint64_t old = 0;
  std::memcpy(&old, bytes, size);
  const std::uint64_t given = low_bytes(source(), size);
  std::uint64_t value = 0;
  bool fetch = (i.immediate & 1) != 0;
  switch (i.immediate & ~1) {
    case 0x00:
      value = old + given;
      break;
    case 0x40:
      value = old | given;
      break;
    case 0x50:
      value = old & given;
      break;
    case 0xA0:
      value = old ^ given;
      break;
    case 0xE0:  // exchange
      value = given;
      break;
    case 0xF0:  // compare with register 0 and exchange
      value = old == low_bytes(registers_[0], size) ? given : old;
      registers_[0] = old;
      fetch = false;
      break;
    default:
      return error(fmt::format("no atomic operation has the number {:#x}", i.immediate));
  }
  std::memcpy(bytes, &value, size);
  if (fetch) registers_[code_[at_].registers >> 4U] = old;
  return std::nullopt;
}

// Whether the jump is taken; nullopt for a code that is none.
std::optional<bool> Machine::holds(bool wide) const {
  const RawInstruction& i = code_[at_];
  const std::size_t bytes = wide ? 8 : 4;
  const std::uint64_t a = low_bytes(registers_[i.registers & 15U], bytes);
  const std::uint64_t b = low_bytes(operand(), bytes);
  const auto sa = static_cast<std::int64_t>(sign_extend(a, 8 * bytes));
  const auto sb = static_cast<std::int64_t>(sign_extend(b, 8 * bytes));
  switch (i.code >> 4U) {
    case 0x1:
      return a == b;
    case 0x2:
      return a > b;
    case 0x3:
      return a >= b;
    case 0x4:
      return (a & b) != 0;
    case 0x5:
      return a != b;
    case 0x6:
      return sa > sb;
    case 0x7:
      return sa >= sb;
    case 0xA:
      return a < b;
    case 0xB:
      return a <= b;
    case 0xC:
      return sa < sb;
    case 0xD:
      return sa <= sb;
    default:
      return std::nullopt;
  }
}

std::optional<Error> Machine::call() {
  const RawInstruction& i = code_[at_];
  if (i.registers >> 4U != 1) {
    return error(fmt::format("calls helper {}, which this interpreter does not have", i.immediate));
  }
  if (depth_ + 1 == kCallDepth) return error("calls go deeper than eight functions");
  Caller& caller = callers_[depth_];
  caller.return_to = next_;
  std::copy_n(registers_.begin() + 6, caller.saved.size(), caller.saved.begin());
  ++depth_;
  stacks_[depth_].fill(0);
  registers_[kFramePointer] = stack_[depth_] + kStack;
  next_ = at_ + 1 + static_cast<std::size_t>(std::int64_t{i.immediate});
  return std::nullopt;
}

Expected<std::uint64_t> Machine::run(std::size_t entry, std::size_t budget) {
  next_ = entry;
  for (std::size_t left = budget; left > 0; --left) {
    at_ = next_;
    if (at_ >= code_.size()) return error("there is no instruction here");
    const RawInstruction& i = code_[at_];
    next_ = at_ + 1;
    const unsigned written = i.registers & 15U;
    if (written > kFramePointer || i.registers >> 4U > kFramePointer) {
      return error("there is no such register");
    }
    std::optional<Error> wrong;
    const bool wide = (i.code & 7U) == kAlu64 || (i.code & 7U) == kJmp;
    switch (i.code & 7U) {
      case kLd:
        if (i.code != kLoadImmediate64 || next_ >= code_.size() || code_[next_].code != 0 ||
            written == kFramePointer) {
          return error(fmt::format("no instruction has the code {:#04x}", i.code));
        }
        registers_[written] =
            static_cast<std::uint64_t>(static_cast<std::uint32_t>(code_[next_].immediate)) << 32U |
            static_cast<std::uint32_t>(i.immediate);
        ++next_;
        break;
      case kLdx:
        if (written == kFramePointer) return error("writes the frame pointer");
        wrong = load();
        break;
      case kSt:
        wrong = store();
        break;
      case kStx:
        wrong = (i.code & 0xE0U) == kAtomic ? atomic() : store();
        break;
      case kAlu:
      case kAlu64:
        if (written == kFramePointer) return error("writes the frame pointer");
        wrong = arithmetic(wide);
        break;
      default: {
        const std::uint8_t operation = i.code >> 4U;
        if (operation == 0) {  // the far form has its distance in the immediate
          const std::int64_t distance = wide ? i.offset : i.immediate;
          next_ += static_cast<std::size_t>(distance);
        } else if (wide && operation == 8) {
          wrong = call();
        } else if (wide && operation == 9) {
          if (depth_ == 0) return registers_[0];
          --depth_;
          next_ = callers_[depth_].return_to;
          std::copy_n(callers_[depth_].saved.begin(), callers_[depth_].saved.size(),
                      registers_.begin() + 6);
        } else if (const auto taken = holds(wide)) {
          if (*taken) next_ += static_cast<std::size_t>(std::int64_t{i.offset});
        } else {
          return error(fmt::format("no instruction has the code {:#04x}", i.code));
        }
      }
    }
    if (wrong) return *wrong;
  }
  return Error{fmt::format("not at its end after {} instructions", budget)};
}

}  // namespace

std::uint64_t Memory::add(Region region) {
  regions_.push_back(region);
  return static_cast<std::uint64_t>(regions_.size()) << 32U;
}

std::uint8_t* Memory::at(std::uint64_t address, std::size_t size, bool write) const {
  const std::uint64_t number = address >> 32U;
  if (number == 0 || number > regions_.size()) return nullptr;
  const Region& region = regions_[number - 1];
  const std::uint64_t offset = address & 0xFFFFFFFFU;
  if (offset + size > region.size || (write && !region.writable)) return nullptr;
  return region.data + offset;
}

Expected<std::uint64_t> interpret(const std::vector<RawInstruction>& code, std::size_t entry,
                                  const Memory& memory, std::vector<std::uint8_t>& frame,
                                  Context& context, std::size_t budget) {
  return Machine(code, memory, frame, context).run(entry, budget);
}

}  // namespace policyc::bpf
