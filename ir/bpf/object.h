// BPF object files: ELF, 64 bits, little endian, machine BPF, as clang writes them. Programs come
// out linked as libbpf links them for the kernel; any bytes are safe to read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ir/base/expected.h"
#include "ir/bpf/insn.h"

namespace policyc::ebpf {

// A map. Global data is an array map with one value: the section's bytes.
struct Map {
  std::string name;        // the section's (".bss", ".data.policy"); of .maps: the variable's
  bool data = true;        // false: declared in .maps; the other fields are then empty
  bool read_only = false;  // .rodata
  std::uint64_t size = 0;  // bytes of the value
  std::string initial;     // the value at the start; empty for all zero (.bss)
};

// An entry program and, behind it, every function that it calls, linked: local calls are relative,
// 64-bit constants that name maps hold the index into Object::maps (kImmIsMap, kImmIsMapValue).
struct Program {
  std::string name;     // the function's
  std::string section;  // "tc"
  std::vector<Instruction> code;
  // Where the functions begin in `code`, ascending; the first is 0, the entry.
  std::vector<std::size_t> functions;
};

// A named stretch of a map of global data: map is an index into Object::maps. It may reach beyond
// the map.
struct Variable {
  std::string name;
  std::size_t map = 0;
  std::uint64_t offset = 0, size = 0;
};

struct Object {
  std::vector<Map> maps;
  std::vector<Variable> variables;  // in the order of the file
  std::vector<Program> programs;    // in the order of the file
  const Program* program(std::string_view name) const;
  const Map* map(std::string_view name) const;
  const Variable* variable(std::string_view name) const;
};

// Errors: not such a file, cut off, or a relocation of an unknown kind.
Expected<Object> read_object(std::string_view elf);

}  // namespace policyc::ebpf
