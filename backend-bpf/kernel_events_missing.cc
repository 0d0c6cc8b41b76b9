// Stands in for kernel_events.cc in builds without libbpf.
#include "backend-bpf/kernel_events.h"

namespace policyc::bpf {

struct RingReader::State {};

RingReader::RingReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
RingReader::RingReader(RingReader&&) noexcept = default;
RingReader& RingReader::operator=(RingReader&&) noexcept = default;
RingReader::~RingReader() = default;

Expected<RingReader> RingReader::open(const std::vector<int>&) {
  return Error{"this policyc was built without libbpf, so it cannot read the kernel's buffers"};
}

Expected<std::vector<RingReader::Entry>> RingReader::read(int, std::size_t) {
  return std::vector<Entry>();
}

}  // namespace policyc::bpf
