#include "backend-bpf/interpreter.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <optional>

namespace policyc::bpf {
namespace {

constexpr std::uint8_t kModeMemSigned = 0x80;  // sign-extending load
constexpr std::size_t kSaved = 6;              // registers 6 to 10 survive a call
constexpr std::size_t kStack = ebpf::kStackBytes, kCallDepth = 8;

// Offsets in struct __sk_buff (linux/bpf.h).
constexpr std::uint32_t kLength = 0, kMark = 8, kProtocol = 16, kVlanPresent = 20, kVlanTci = 24,
                        kVlanProto = 28, kPriority = 32, kCb = 48, kData = 76, kDataEnd = 80;

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

// What BPF_PROG_TEST_RUN takes for a tc program: a whole IP header where the EtherType promises
// one.
bool runs_as_frame(const std::vector<std::uint8_t>& frame) {
  constexpr std::size_t kEthernet = 14, kMost = 3712;
  if (frame.size() < kEthernet || frame.size() > kMost) return false;
  const std::uint32_t type = std::uint32_t{frame[12]} << 8U | frame[13];
  return frame.size() >= kEthernet + (type == 0x0800 ? 20U : type == 0x86DD ? 40U : 0U);
}

// Of this thread, in nanoseconds: other work on the machine does not count.
std::uint64_t processor_time() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U +
         static_cast<std::uint64_t>(t.tv_nsec);
}

class Machine {
 public:
  Machine(const std::vector<ebpf::Instruction>& code, const Memory& memory,
          std::vector<std::uint8_t>& frame, Context& context)
      : code_(code), memory_(memory), frame_(frame), context_(context) {
    packet_ = memory_.add({frame.data(), frame.size(), true});
    for (std::size_t i = 0; i < kCallDepth; ++i) {
      stack_[i] = memory_.add({stacks_[i].data(), kStack, true});
    }
    // No region: accesses go through context_load and context_store.
    context_address_ = memory_.add({nullptr, 0, false});
    registers_[1] = context_address_;
    registers_[ebpf::kFramePointer] = stack_[0] + kStack;
  }

  Expected<std::uint64_t> run(std::size_t budget);

 private:
  struct Caller {
    std::size_t return_to = 0;
    std::array<std::uint64_t, 5> saved{};  // registers 6 to 10
  };

  Error error(const std::string& what) const {
    return Error{fmt::format("instruction {}: {}", at_, what)};
  }
  Error no_such_code() const {
    return error(fmt::format("no instruction has the code {:#04x}", code_[at_].opcode));
  }
  std::uint64_t& destination() { return registers_[code_[at_].dst]; }
  std::uint64_t source() const { return registers_[code_[at_].src]; }
  std::uint64_t operand() const {
    const ebpf::Instruction& i = code_[at_];
    return i.from_register() ? source()
                             : static_cast<std::uint64_t>(static_cast<std::int64_t>(i.imm));
  }

  // Each returns what is wrong, or nothing.
  std::optional<Error> arithmetic(bool wide);
  std::optional<Error> swap(bool always);
  std::optional<Error> load();
  std::optional<Error> store();
  std::optional<Error> atomic();
  std::optional<Error> call();
  std::optional<Error> jump();
  std::optional<Error> load_constant();
  std::optional<bool> holds(bool wide) const;
  std::optional<std::uint64_t> context_load(std::uint32_t offset, std::size_t size) const;
  bool context_store(std::uint32_t offset, std::size_t size, std::uint64_t value);
  bool is_context(std::uint64_t address) const { return address >> 32U == context_address_ >> 32U; }

  const std::vector<ebpf::Instruction>& code_;
  Memory memory_;
  std::vector<std::uint8_t>& frame_;
  Context& context_;
  std::array<std::uint64_t, ebpf::kRegisters> registers_{};
  std::array<std::array<std::uint8_t, kStack>, kCallDepth> stacks_{};
  std::array<std::uint64_t, kCallDepth> stack_{};
  std::uint64_t packet_ = 0, context_address_ = 0;
  std::array<Caller, kCallDepth> callers_{};
  std::size_t depth_ = 0;
  std::size_t at_ = 0, next_ = 0;
};

std::optional<Error> Machine::swap(bool always) {
  const ebpf::Instruction& i = code_[at_];
  if (i.imm != 16 && i.imm != 32 && i.imm != 64) {
    return error("a byte order of no width");
  }
  const auto size = static_cast<std::size_t>(i.imm) / 8;
  const bool swaps = always || i.from_register();  // to big endian; this is little
  destination() = swaps ? swap_bytes(destination(), size) : low_bytes(destination(), size);
  return std::nullopt;
}

std::optional<Error> Machine::arithmetic(bool wide) {
  const ebpf::Instruction& i = code_[at_];
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
  switch (i.operation()) {
    case ebpf::kAdd:
      out = a + b;
      break;
    case ebpf::kSub:
      out = a - b;
      break;
    case ebpf::kMul:
      out = a * b;
      break;
    case ebpf::kDiv:
      out = divide(false);
      break;
    case ebpf::kOr:
      out = a | b;
      break;
    case ebpf::kAnd:
      out = a & b;
      break;
    case ebpf::kLsh:
      out = a << (b & (bits - 1));
      break;
    case ebpf::kRsh:
      out = a >> (b & (bits - 1));
      break;
    case ebpf::kNeg:
      out = 0 - a;
      break;
    case ebpf::kMod:
      out = divide(true);
      break;
    case ebpf::kXor:
      out = a ^ b;
      break;
    case ebpf::kMov:
      if (i.offset != 0 && i.offset != 8 && i.offset != 16 && i.offset != 32) {
        return error("a move of no kind that is known here");
      }
      out = i.offset == 0 ? b : sign_extend(b, static_cast<std::size_t>(i.offset));
      break;
    case ebpf::kArsh:
      out = static_cast<std::uint64_t>(static_cast<std::int64_t>(sign_extend(a, bits)) >>
                                       (b & (bits - 1)));
      break;
    case ebpf::kEnd:
      return swap(wide);
    default:
      return no_such_code();
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
  const ebpf::Instruction& i = code_[at_];
  const std::size_t size = i.bytes();
  const std::uint8_t mode = i.mode();
  if (mode != ebpf::kModeMem && mode != kModeMemSigned) {
    return no_such_code();
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
  destination() = mode == kModeMemSigned ? sign_extend(value, 8 * size) : value;
  return std::nullopt;
}

std::optional<Error> Machine::store() {
  const ebpf::Instruction& i = code_[at_];
  const std::size_t size = i.bytes();
  if (i.mode() != ebpf::kModeMem) {
    return no_such_code();
  }
  const std::uint64_t value = i.instruction_class() == ebpf::kStx
                                  ? source()
                                  : static_cast<std::uint64_t>(std::int64_t{i.imm});
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
  const ebpf::Instruction& i = code_[at_];
  const std::size_t size = i.bytes();
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
  bool fetch = (i.imm & 1) != 0;
  switch (i.imm & ~1) {
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
      return error(fmt::format("no atomic operation has the number {:#x}", i.imm));
  }
  std::memcpy(bytes, &value, size);
  if (fetch) registers_[code_[at_].src] = old;
  return std::nullopt;
}

// Whether the jump is taken; nullopt for a code that is none.
std::optional<bool> Machine::holds(bool wide) const {
  const ebpf::Instruction& i = code_[at_];
  const std::size_t bytes = wide ? 8 : 4;
  const std::uint64_t a = low_bytes(registers_[i.dst], bytes);
  const std::uint64_t b = low_bytes(operand(), bytes);
  const auto sa = static_cast<std::int64_t>(sign_extend(a, 8 * bytes));
  const auto sb = static_cast<std::int64_t>(sign_extend(b, 8 * bytes));
  switch (i.operation()) {
    case ebpf::kJeq:
      return a == b;
    case ebpf::kJgt:
      return a > b;
    case ebpf::kJge:
      return a >= b;
    case ebpf::kJset:
      return (a & b) != 0;
    case ebpf::kJne:
      return a != b;
    case ebpf::kJsgt:
      return sa > sb;
    case ebpf::kJsge:
      return sa >= sb;
    case ebpf::kJlt:
      return a < b;
    case ebpf::kJle:
      return a <= b;
    case ebpf::kJslt:
      return sa < sb;
    case ebpf::kJsle:
      return sa <= sb;
    default:
      return std::nullopt;
  }
}

std::optional<Error> Machine::call() {
  const ebpf::Instruction& i = code_[at_];
  if (i.src != ebpf::kCallIsLocal) {
    return error(fmt::format("calls helper {}, which this interpreter does not have", i.imm));
  }
  if (depth_ + 1 == kCallDepth) return error("calls go deeper than eight functions");
  Caller& caller = callers_[depth_];
  caller.return_to = next_;
  std::copy_n(registers_.begin() + kSaved, caller.saved.size(), caller.saved.begin());
  ++depth_;
  stacks_[depth_].fill(0);
  registers_[ebpf::kFramePointer] = stack_[depth_] + kStack;
  next_ = at_ + 1 + static_cast<std::size_t>(std::int64_t{i.imm});
  return std::nullopt;
}

// 64-bit constants: a number, or the address of a map or of a byte of its value.
std::optional<Error> Machine::load_constant() {
  const ebpf::Instruction& i = code_[at_];
  if (i.opcode != ebpf::kLdImm64 || next_ >= code_.size() || code_[next_].opcode != 0) {
    return no_such_code();
  }
  const auto low = static_cast<std::uint32_t>(i.imm);
  const auto high = static_cast<std::uint32_t>(code_[next_].imm);
  switch (i.src) {
    case 0:
      destination() = std::uint64_t{high} << 32U | low;
      break;
    case ebpf::kImmIsMap:
      destination() = Memory::address(low, 0);
      break;
    case ebpf::kImmIsMapValue:
      destination() = Memory::address(low, high);
      break;
    default:
      return error("a 64-bit constant of no kind that is known here");
  }
  ++next_;
  return std::nullopt;
}

std::optional<Error> Machine::jump() {
  const ebpf::Instruction& i = code_[at_];
  const bool wide = i.instruction_class() == ebpf::kJmp;
  if (i.operation() == ebpf::kJa) {  // the far form has its distance in the immediate
    next_ += static_cast<std::size_t>(wide ? std::int64_t{i.offset} : std::int64_t{i.imm});
    return std::nullopt;
  }
  if (wide && i.operation() == ebpf::kCall) return call();
  const auto taken = holds(wide);
  if (!taken) return no_such_code();
  if (*taken) next_ += static_cast<std::size_t>(std::int64_t{i.offset});
  return std::nullopt;
}

Expected<std::uint64_t> Machine::run(std::size_t budget) {
  for (std::size_t left = budget; left > 0; --left) {
    at_ = next_;
    if (at_ >= code_.size()) return error("there is no instruction here");
    const ebpf::Instruction& i = code_[at_];
    next_ = at_ + 1;
    if (i.dst >= ebpf::kRegisters || i.src >= ebpf::kRegisters) {
      return error("there is no such register");
    }
    const std::uint8_t kind = i.instruction_class();
    const bool writes =
        kind == ebpf::kLd || kind == ebpf::kLdx || kind == ebpf::kAlu || kind == ebpf::kAlu64;
    if (writes && i.dst == ebpf::kFramePointer) return error("writes the frame pointer");
    std::optional<Error> wrong;
    switch (kind) {
      case ebpf::kLd:
        wrong = load_constant();
        break;
      case ebpf::kLdx:
        wrong = load();
        break;
      case ebpf::kSt:
        wrong = store();
        break;
      case ebpf::kStx:
        wrong = i.mode() == ebpf::kModeAtomic ? atomic() : store();
        break;
      case ebpf::kAlu:
      case ebpf::kAlu64:
        wrong = arithmetic(kind == ebpf::kAlu64);
        break;
      default:
        if (kind == ebpf::kJmp && i.operation() == ebpf::kExit) {
          if (depth_ == 0) return registers_[0];
          --depth_;
          next_ = callers_[depth_].return_to;
          std::copy_n(callers_[depth_].saved.begin(), callers_[depth_].saved.size(),
                      registers_.begin() + kSaved);
        } else {
          wrong = jump();
        }
    }
    if (wrong) return *wrong;
  }
  return Error{fmt::format("not at its end after {} instructions", budget)};
}

}  // namespace

std::uint64_t Memory::address(std::uint32_t region, std::uint32_t offset) {
  return (std::uint64_t{region} + 1) << 32U | offset;
}

std::uint64_t Memory::add(Region region) {
  regions_.push_back(region);
  return address(static_cast<std::uint32_t>(regions_.size() - 1), 0);
}

std::uint8_t* Memory::at(std::uint64_t address, std::size_t size, bool write) const {
  const std::uint64_t number = address >> 32U;
  if (number == 0 || number > regions_.size()) return nullptr;
  const Region& region = regions_[number - 1];
  const std::uint64_t offset = address & 0xFFFFFFFFU;
  if (offset + size > region.size || (write && !region.writable)) return nullptr;
  return region.data + offset;
}

Expected<std::uint64_t> interpret(const std::vector<ebpf::Instruction>& code, const Memory& memory,
                                  std::vector<std::uint8_t>& frame, Context& context,
                                  std::size_t budget) {
  return Machine(code, memory, frame, context).run(budget);
}

Expected<InterpretedObject> InterpretedObject::load(std::string_view elf,
                                                    const std::vector<MapValue>& values,
                                                    const InterpretedObject* donor,
                                                    const std::vector<std::string>& shared) {
  auto object = ebpf::read_object(elf);
  if (!object) return Error{object.error()};
  InterpretedObject out;
  out.object_ = std::move(*object);
  constexpr std::uint64_t kMostBytes = 1U << 30U;
  for (const ebpf::Map& map : out.object_.maps) {
    if (map.size > kMostBytes) return Error{fmt::format("map {} has {} bytes", map.name, map.size)};
    std::shared_ptr<std::string> value;
    for (std::size_t i = 0; donor != nullptr && i < donor->values_.size(); ++i) {
      const bool same = donor->object_.maps[i].name == map.name;
      if (same && std::find(shared.begin(), shared.end(), map.name) != shared.end()) {
        if (donor->values_[i]->size() != map.size) {
          return Error{fmt::format("map {} has another size where it is shared", map.name)};
        }
        value = donor->values_[i];
      }
    }
    if (!value) {
      value = std::make_shared<std::string>(map.initial);
      value->resize(map.size);
    }
    out.memory_.add(
        {reinterpret_cast<std::uint8_t*>(value->data()), value->size(), !map.read_only});
    out.values_.push_back(std::move(value));
  }
  for (const MapValue& value : values) {
    if (const auto written = out.write(value); !written) return Error{written.error()};
  }
  return out;
}

Expected<bool> InterpretedObject::write(const MapValue& value) {
  for (std::size_t i = 0; i < values_.size(); ++i) {
    if (object_.maps[i].name != value.map) continue;
    if (values_[i]->size() != value.bytes.size()) {
      return Error{fmt::format("map {} takes {} bytes, not {}", value.map, values_[i]->size(),
                               value.bytes.size())};
    }
    std::copy(value.bytes.begin(), value.bytes.end(), values_[i]->begin());
    return true;
  }
  return Error{fmt::format("the object has no map {}", value.map)};
}

Expected<KernelRun> InterpretedObject::run(const char* program,
                                           const std::vector<std::uint8_t>& frame,
                                           unsigned repeat) const {
  const ebpf::Program* p = object_.program(program);
  if (p == nullptr) return Error{fmt::format("the object has no program `{}`", program)};
  if (!runs_as_frame(frame)) {
    return Error{fmt::format("a kernel would not run a frame of {} bytes", frame.size())};
  }
  KernelRun out;
  const std::uint64_t begin = processor_time();
  for (unsigned i = 0; i < std::max(1U, repeat); ++i) {
    std::vector<std::uint8_t> packet = frame;
    Context context;
    const auto result = interpret(p->code, memory_, packet, context);
    if (!result) return Error{fmt::format("{}: {}", program, result.error())};
    out.return_code = static_cast<std::uint32_t>(*result);
    out.mark = context.mark;
    out.cb = context.cb;
  }
  out.nanoseconds = static_cast<std::uint32_t>((processor_time() - begin) / std::max(1U, repeat));
  return out;
}

}  // namespace policyc::bpf
