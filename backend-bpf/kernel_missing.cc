// Stands in for kernel.cc in builds without libbpf.
#include "backend-bpf/kernel.h"

namespace policyc::bpf {

namespace {

constexpr const char* kWhy =
    "this policyc was built without libbpf, so it cannot run programs: build it with "
    "-DPOLICYC_LIBBPF=ON (package libbpf-dev)";

}  // namespace

std::optional<std::string> kernel_unavailable() {
  return kWhy;
}

Expected<KernelRun> run_program(int, const std::vector<std::uint8_t>&, unsigned) {
  return Error{kWhy, Error::Kind::Machine};
}

struct LoadedObject::State {};

LoadedObject::LoadedObject(std::unique_ptr<State> state) : state_(std::move(state)) {}
LoadedObject::LoadedObject(LoadedObject&&) noexcept = default;
LoadedObject& LoadedObject::operator=(LoadedObject&&) noexcept = default;
LoadedObject::~LoadedObject() = default;

Expected<LoadedObject> LoadedObject::load(std::string_view, const std::vector<MapValue>&,
                                          const LoadedObject*, const std::vector<std::string>&) {
  return Error{kWhy, Error::Kind::Machine};
}

Expected<LoadedObject> LoadedObject::load_with(std::string_view, const std::vector<MapValue>&,
                                               const std::vector<std::pair<std::string, int>>&) {
  return Error{kWhy, Error::Kind::Machine};
}

int LoadedObject::map_descriptor(const std::string&) const {
  return -1;
}

int LoadedObject::program_descriptor(const char*) const {
  return -1;
}

Expected<bool> LoadedObject::write(const MapValue&) {
  return Error{kWhy, Error::Kind::Machine};
}

Expected<KernelRun> LoadedObject::run(const char*, const std::vector<std::uint8_t>&,
                                      unsigned) const {
  return Error{kWhy, Error::Kind::Machine};
}

std::size_t LoadedObject::instructions(const char*) const {
  return 0;
}

}  // namespace policyc::bpf
