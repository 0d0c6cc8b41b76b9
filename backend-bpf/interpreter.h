// Runs BPF programs in user space, for machines that do not permit bpf(). It is no verifier: that a
// program runs here says nothing of whether a kernel would accept it.
//
// Safe for any bytes. Every access is checked against the region that its address belongs to, so a
// program that leaves its bounds ends with an error, and so does one that does not come to an end.
// Registers and stack begin as zeros.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend-bpf/kernel.h"
#include "ir/base/expected.h"
#include "ir/bpf/object.h"

namespace policyc::bpf {

// Memory that a program can reach. An address is (region + 1) << 32 | offset.
class Memory {
 public:
  struct Region {
    std::uint8_t* data = nullptr;
    std::size_t size = 0;  // below 2^31
    bool writable = false;
  };
  static std::uint64_t address(std::uint32_t region, std::uint32_t offset);
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

// Runs a linked program from its first instruction to its exit; the value of register 0. The map of
// index i, as 64-bit constants name it, is region i of `memory` (one without bytes where the
// program may hold the map but not reach into it); packet and stack are added to a copy. Errors
// name the instruction's index.
Expected<std::uint64_t> interpret(const std::vector<ebpf::Instruction>& code, const Memory& memory,
                                  std::vector<std::uint8_t>& frame, Context& context,
                                  std::size_t budget = kInstructionBudget);

// An object with its maps. As LoadedObject, without a kernel.
class InterpretedObject {
 public:
  // Errors: no BPF object, values of other sizes than the maps. Maps named in `shared` are those of
  // `donor`.
  static Expected<InterpretedObject> load(std::string_view elf, const std::vector<MapValue>& values,
                                          const InterpretedObject* donor = nullptr,
                                          const std::vector<std::string>& shared = {});

  Expected<bool> write(const MapValue& value);
  // As LoadedObject::run. Frames that a kernel does not run are refused alike.
  Expected<KernelRun> run(const char* program, const std::vector<std::uint8_t>& frame,
                          unsigned repeat = 1) const;

 private:
  ebpf::Object object_;
  std::vector<std::shared_ptr<std::string>> values_;  // per map of the object
  Memory memory_;
};

}  // namespace policyc::bpf
