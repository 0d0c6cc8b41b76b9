// Runs BPF programs in user space, for machines that do not permit bpf(). It is no verifier: that a
// program runs here says nothing of whether a kernel would accept it.
//
// Safe for any bytes. Every access is checked against the region that its address belongs to, so a
// program that leaves its bounds ends with an error, and so does one that does not come to an end.
// Registers and stack begin as zeros.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend-bpf/kernel.h"
#include "ir/base/expected.h"

namespace policyc::bpf {

// One instruction as it stands in the object (linux/bpf.h, struct bpf_insn).
struct RawInstruction {
  std::uint8_t code = 0;
  std::uint8_t registers = 0;  // destination in the low half, source in the high half
  std::int16_t offset = 0;
  std::int32_t immediate = 0;
};
static_assert(sizeof(RawInstruction) == 8);

// Memory that a program can reach. An address is (region + 1) << 32 | offset.
class Memory {
 public:
  struct Region {
    std::uint8_t* data = nullptr;
    std::size_t size = 0;  // below 2^31
    bool writable = false;
  };
  // The address of its first byte. The bytes must outlive the memory.
  std::uint64_t add(Region region);
  // The bytes [address, address + size), or nullptr where they are not all in one region, or not
  // writable.
  std::uint8_t* at(std::uint64_t address, std::size_t size, bool write) const;

 private:
  std::vector<Region> regions_;
};

// What a program sees of its packet: the words of struct __sk_buff that test runs give it.
struct Context {
  std::uint32_t mark = 0, priority = 0;
  std::array<std::uint32_t, 5> cb{};
};

inline constexpr std::size_t kInstructionBudget = 1'000'000;  // of one run

// Runs from instruction `entry` to the exit of the first function; the value of register 0. All
// instructions must be in `code`, calls included. `memory` holds the data that they name by
// address; packet and stack are added to a copy of it. Errors name the instruction's index.
Expected<std::uint64_t> interpret(const std::vector<RawInstruction>& code, std::size_t entry,
                                  const Memory& memory, std::vector<std::uint8_t>& frame,
                                  Context& context, std::size_t budget = kInstructionBudget);

// An object with its maps. As LoadedObject, without a kernel.
class InterpretedObject {
 public:
  // Errors: no BPF object, references to what the object does not define, values of other sizes
  // than the maps. Maps named in `shared` are those of `donor`.
  static Expected<InterpretedObject> load(std::string_view elf, const std::vector<MapValue>& values,
                                          const InterpretedObject* donor = nullptr,
                                          const std::vector<std::string>& shared = {});

  Expected<bool> write(const MapValue& value);
  // As LoadedObject::run. Frames that a kernel does not run are refused alike.
  Expected<KernelRun> run(const char* program, const std::vector<std::uint8_t>& frame,
                          unsigned repeat = 1) const;
  // Instructions of all programs and functions.
  std::size_t instructions() const { return code_.size(); }

 private:
  std::vector<RawInstruction> code_;
  std::map<std::string, std::size_t> entries_;
  std::map<std::string, std::shared_ptr<std::string>> maps_;  // by section
  Memory memory_;
};

}  // namespace policyc::bpf
