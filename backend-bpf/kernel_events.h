// Reads ring buffers of the kernel. No libbpf type shows here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ir/base/expected.h"

namespace policyc::bpf {

class RingReader {
 public:
  struct Entry {
    std::size_t ring = 0;  // index into what open() was given
    std::string bytes;
  };
  // `maps` are descriptors of ring buffers; they may be closed afterwards.
  static Expected<RingReader> open(const std::vector<int>& maps);
  RingReader(RingReader&&) noexcept;
  RingReader& operator=(RingReader&&) noexcept;
  ~RingReader();

  // What the rings hold, ring by ring, at most `most` entries (the rest stays there); waits up to
  // `milliseconds` (0: not at all) for something to come. Returns early, with nothing, when a
  // signal arrives.
  Expected<std::vector<Entry>> read(int milliseconds, std::size_t most = SIZE_MAX);

 private:
  struct State;
  explicit RingReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace policyc::bpf
