// Stands in for kernel_attach.cc in builds without libbpf.
#include "backend-bpf/kernel_attach.h"

namespace policyc::bpf {
namespace {

constexpr const char* kWhy =
    "this policyc was built without libbpf, so it cannot load programs: build it with "
    "-DPOLICYC_LIBBPF=ON (package libbpf-dev)";

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&&) noexcept = default;
Descriptor::~Descriptor() = default;

bool in_bpffs(const std::string&) {
  return false;
}

Expected<Descriptor> open_pin(const std::string&) {
  return Error{kWhy, Error::Kind::Machine};
}

Expected<bool> pin(int, const std::string&) {
  return Error{kWhy, Error::Kind::Machine};
}

Expected<ObjectInfo> map_info(int) {
  return Error{kWhy, Error::Kind::Machine};
}

Expected<ObjectInfo> program_info(int) {
  return Error{kWhy, Error::Kind::Machine};
}

Expected<ObjectInfo> link_info(int) {
  return Error{kWhy, Error::Kind::Machine};
}

Expected<Descriptor> make_text_map(const char*, const std::string&, std::size_t) {
  return Error{kWhy, Error::Kind::Machine};
}

Expected<std::string> read_text_map(int) {
  return Error{kWhy, Error::Kind::Machine};
}

Expected<MappedValue> MappedValue::open(int) {
  return Error{kWhy, Error::Kind::Machine};
}

MappedValue::MappedValue(MappedValue&& other) noexcept = default;
MappedValue::~MappedValue() = default;

Expected<bool> wait_for_programs() {
  return Error{kWhy, Error::Kind::Machine};
}

Expected<std::optional<Descriptor>> attach_tcx(int, const Hook&) {
  return Error{kWhy, Error::Kind::Machine};
}

Expected<bool> replace_program(int, int) {
  return Error{kWhy, Error::Kind::Machine};
}

void detach(int) {}

Expected<bool> attach_filter(int, const Hook&) {
  return Error{kWhy, Error::Kind::Machine};
}

Expected<bool> detach_filter(const Hook&) {
  return Error{kWhy, Error::Kind::Machine};
}

std::uint32_t filter_program(const Hook&) {
  return 0;
}

}  // namespace policyc::bpf
