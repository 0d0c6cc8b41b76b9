// Stands in for kernel_maps.cc in builds without libbpf.
#include "backend-bpf/kernel.h"
#include "backend-bpf/kernel_maps.h"

namespace policyc::bpf {

Expected<KernelMap> KernelMap::create(const char*, const MapDefinition&) {
  return Error{*kernel_unavailable(), Error::Kind::Machine};
}

Expected<KernelMap> KernelMap::open(const std::string&) {
  return Error{*kernel_unavailable(), Error::Kind::Machine};
}

Expected<KernelMap> KernelMap::of_descriptor(int) {
  return Error{*kernel_unavailable(), Error::Kind::Machine};
}

KernelMap::KernelMap(KernelMap&& other) noexcept = default;
KernelMap& KernelMap::operator=(KernelMap&& other) noexcept = default;
KernelMap::~KernelMap() = default;

Expected<MapDefinition> KernelMap::definition() const {
  return Error{*kernel_unavailable(), Error::Kind::Machine};
}

Expected<bool> KernelMap::put(const std::vector<MapEntry>&) {
  return Error{*kernel_unavailable(), Error::Kind::Machine};
}

Expected<bool> KernelMap::remove(const std::vector<MapEntry>&) {
  return Error{*kernel_unavailable(), Error::Kind::Machine};
}

Expected<std::vector<MapEntry>> KernelMap::dump() const {
  return Error{*kernel_unavailable(), Error::Kind::Machine};
}

Expected<bool> KernelMap::pin(const std::string&) {
  return Error{*kernel_unavailable(), Error::Kind::Machine};
}

}  // namespace policyc::bpf
