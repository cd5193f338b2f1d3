// How the threads of a process carry out one collective operation: which memory goes where, in pieces that several
// threads can do at once.
#pragma once

#include "troupe/runtime/collectives/collective_call.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace troupe {

/// A part of an operation: `units` elements, any range of which can be done by itself, in any order.
struct MemoryStep {
  int64_t units = 0;
  int64_t bytes_a_unit = 0;  ///< moved in all
  std::function<void(int64_t begin, int64_t end)> run{};
};

/// First `combine`, then the call `between` processes, then `spread`.
struct MemorySteps {
  MemoryStep combine;
  std::optional<CollectiveCall> between;
  MemoryStep spread;
};

/// Where the threads stand among all ranks.
struct MemoryPlace {
  int process = 0;
  int processes = 1;
};

/// `calls` are those of the threads of this process, in the order of ranks; they match, and have to outlive the steps.
/// With one process there is nothing between, nor to spread.
MemorySteps steps_of(const std::vector<CollectiveCall>& calls, const MemoryPlace& place);

}  // namespace troupe
