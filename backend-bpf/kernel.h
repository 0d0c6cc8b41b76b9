// Runs BPF programs in the kernel of this machine. No libbpf type shows here; kernel.cc is its one
// user.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ir/base/expected.h"

namespace policyc::bpf {

// Why programs cannot be run here, with the remedy; nullopt where they can. Tries it once by
// loading a program of two instructions. Users see the reason with exit code 3.
std::optional<std::string> kernel_unavailable();

struct MapValue {
  std::string map;    // ".bss", ".data.policy"
  std::string bytes;  // the whole value
};

struct KernelRun {
  std::uint32_t return_code = 0;
  std::uint32_t mark = 0;
  std::array<std::uint32_t, 5> cb{};  // see layout.h
  std::uint32_t nanoseconds = 0;      // mean of one run
};

// Runs a program over one frame (Ethernet header first). Only a single run has a meaning beyond its
// time: the kernel keeps the packet's changes from run to run.
Expected<KernelRun> run_program(int program, const std::vector<std::uint8_t>& frame,
                                unsigned repeat = 1);

// An object in the kernel with its maps. Not pinned, not attached: it goes with this handle.
class LoadedObject {
 public:
  // Verifies and loads the ELF bytes, with these map contents. Maps named in `shared` are taken
  // from `donor` (same sizes) instead of being made again. Errors: of kind Machine where the kernel
  // refuses the program, with the verifier's last words, or bpf() is not to be had.
  static Expected<LoadedObject> load(std::string_view elf, const std::vector<MapValue>& values,
                                     const LoadedObject* donor = nullptr,
                                     const std::vector<std::string>& shared = {});
  LoadedObject(LoadedObject&&) noexcept;
  LoadedObject& operator=(LoadedObject&&) noexcept;
  ~LoadedObject();

  // The same with maps that are there already: name in the object, descriptor.
  static Expected<LoadedObject> load_with(std::string_view elf, const std::vector<MapValue>& values,
                                          const std::vector<std::pair<std::string, int>>& maps);
  // Descriptors, valid as long as this handle; -1 where the object has no such map or program.
  int map_descriptor(const std::string& name) const;
  int program_descriptor(const char* name) const;

  // Replaces the contents of a map while the program is loaded.
  Expected<bool> write(const MapValue& value);
  // As run_program.
  Expected<KernelRun> run(const char* program, const std::vector<std::uint8_t>& frame,
                          unsigned repeat = 1) const;
  // Instructions of a program after verification; 0 where the kernel does not tell.
  std::size_t instructions(const char* program) const;

 private:
  struct State;
  explicit LoadedObject(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace policyc::bpf
