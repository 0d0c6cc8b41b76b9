// An object with its maps, ready to run: in the kernel, or in the interpreter.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "backend-bpf/interpreter.h"
#include "backend-bpf/kernel.h"
#include "ir/base/expected.h"

namespace policyc::bpf {

enum class Engine { Kernel, Interpreter };

class RunnableObject {
 public:
  // As LoadedObject::load and InterpretedObject::load; the donor is of the same engine.
  static Expected<RunnableObject> load(Engine engine, std::string_view elf,
                                       const std::vector<MapValue>& values,
                                       const RunnableObject* donor,
                                       const std::vector<std::string>& shared);
  Expected<KernelRun> run(const char* program, const std::vector<std::uint8_t>& frame,
                          unsigned repeat = 1) const;
  // -1 where there is no such map in the kernel.
  int map_descriptor(const std::string& name) const;

 private:
  using Object = std::variant<LoadedObject, InterpretedObject>;
  explicit RunnableObject(Object object) : object_(std::move(object)) {}
  Object object_;
};

}  // namespace policyc::bpf
