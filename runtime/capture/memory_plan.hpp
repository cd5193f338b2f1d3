// Where buffers lie that are in use at different times.
#pragma once

#include <cstddef>
#include <vector>

namespace troupe::capture {

/// A buffer and when it is in use, both ends included.
struct Lifetime {
  std::size_t bytes = 0;
  std::size_t first = 0, last = 0;
};

struct MemoryPlan {
  std::vector<std::size_t> offsets;  ///< of each buffer, aligned
  std::size_t bytes = 0;             ///< of all together
};

/// Places buffers so that two that are in use at one time do not overlap, one after the other, each into the smallest
/// gap that it fits into (as Pisarchyk & Lee 2020, "Efficient Memory Management for Deep Neural Net Inference"): by
/// size, by duration and by their product, of which the smallest plan is taken. Offsets are multiples of 64 bytes.
MemoryPlan plan_memory(const std::vector<Lifetime>& buffers);

}  // namespace troupe::capture
