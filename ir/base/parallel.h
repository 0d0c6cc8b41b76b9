// Work spread over threads, with results that do not depend on their timing.
#pragma once

#include <cstddef>
#include <functional>

namespace policyc {

// Calls work(0) … work(count - 1), each once, in any order, on up to `jobs` threads (0 = one per
// core; the calling thread is one of them). Returns when all are done. `work` must not throw.
void parallel_for(std::size_t count, unsigned jobs, const std::function<void(std::size_t)>& work);

}  // namespace policyc
