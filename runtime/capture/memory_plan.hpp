// Where buffers lie that are in use at different times.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace troupe::capture {

/// A buffer and when it is in use, both ends included.
struct Lifetime {
  std::size_t bytes = 0;
  std::size_t first = 0, last = 0;
};

struct MemoryPlan {
  std::vector<std::size_t> offsets;                ///< of each buffer, aligned
  std::vector<std::optional<std::size_t>> lender;  ///< of each buffer, if it lies in memory that is lent: in which
  std::size_t bytes = 0;                           ///< of all together that lie in no lent memory
};

/// Places buffers so that two that are in use at one time do not overlap, one after the other, each into the smallest
/// gap that it fits into (as Pisarchyk & Lee 2020, "Efficient Memory Management for Deep Neural Net Inference"): by
/// size, by duration and by their product; the smallest plan is improved by moves of single buffers. Offsets are
/// multiples of 64 bytes. Memory that is `lent`, each for a time, takes buffers first, the largest ones that it has
/// room and time for.
MemoryPlan plan_memory(const std::vector<Lifetime>& buffers, const std::vector<Lifetime>& lent = {});

}  // namespace troupe::capture
