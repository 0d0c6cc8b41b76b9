#include "backend-bpf/kernel_events.h"

#include <bpf/libbpf.h>
#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace policyc::bpf {

struct RingReader::State {
  struct Ring {
    State* state = nullptr;
    std::size_t index = 0;
  };
  ring_buffer* rings = nullptr;
  std::vector<std::unique_ptr<Ring>> ring;  // libbpf keeps their addresses
  std::vector<Entry> read;
  std::size_t most = 0;
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { ring_buffer__free(rings); }

  static int take(void* ring, void* data, std::size_t size) {
    const auto* from = static_cast<const Ring*>(ring);
    from->state->read.push_back({from->index, std::string(static_cast<const char*>(data), size)});
    return from->state->read.size() < from->state->most ? 0 : -ECANCELED;
  }
};

RingReader::RingReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
RingReader::RingReader(RingReader&&) noexcept = default;
RingReader& RingReader::operator=(RingReader&&) noexcept = default;
RingReader::~RingReader() = default;

Expected<RingReader> RingReader::open(const std::vector<int>& maps) {
  auto state = std::make_unique<State>();
  for (std::size_t i = 0; i < maps.size(); ++i) {
    auto ring = std::make_unique<State::Ring>(State::Ring{state.get(), i});
    int failed = 0;
    if (state->rings == nullptr) {
      state->rings = ring_buffer__new(maps[i], State::take, ring.get(), nullptr);
      if (state->rings == nullptr) failed = errno;
    } else {
      failed = -ring_buffer__add(state->rings, maps[i], State::take, ring.get());
    }
    if (failed != 0) return Error{fmt::format("a ring buffer: {}", std::strerror(failed))};
    state->ring.push_back(std::move(ring));
  }
  return RingReader(std::move(state));
}

Expected<std::vector<RingReader::Entry>> RingReader::read(int milliseconds, std::size_t most) {
  state_->read.clear();
  state_->most = most;
  if (state_->rings == nullptr) return std::vector<Entry>();
  // Goes on as long as there is something: with a fast writer only `most` ends it.
  int done = ring_buffer__consume(state_->rings);
  if (done == 0 && milliseconds > 0) done = ring_buffer__poll(state_->rings, milliseconds);
  if (done < 0 && done != -EINTR && done != -ECANCELED) {
    return Error{fmt::format("a ring buffer: {}", std::strerror(-done))};
  }
  return std::move(state_->read);
}

}  // namespace policyc::bpf
