#include "backend-bpf/runnable_object.h"

namespace policyc::bpf {

Expected<RunnableObject> RunnableObject::load(Engine engine, std::string_view elf,
                                              const std::vector<MapValue>& values,
                                              const RunnableObject* donor,
                                              const std::vector<std::string>& shared) {
  const auto load_as = [&]<class T>(const T* from) -> Expected<RunnableObject> {
    auto object = T::load(elf, values, from, shared);
    if (!object) return object.failure();
    return RunnableObject(std::move(*object));
  };
  if (engine == Engine::Kernel) {
    return load_as(donor == nullptr ? nullptr : &std::get<LoadedObject>(donor->object_));
  }
  return load_as(donor == nullptr ? nullptr : &std::get<InterpretedObject>(donor->object_));
}

Expected<KernelRun> RunnableObject::run(const char* program, const std::vector<std::uint8_t>& frame,
                                        unsigned repeat) const {
  return std::visit([&](const auto& o) { return o.run(program, frame, repeat); }, object_);
}

int RunnableObject::map_descriptor(const std::string& name) const {
  const auto* loaded = std::get_if<LoadedObject>(&object_);
  return loaded == nullptr ? -1 : loaded->map_descriptor(name);
}

}  // namespace policyc::bpf
