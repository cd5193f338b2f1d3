// Lets operators that allocate their results by themselves find them in memory that is laid out already.
#pragma once

#include <cstddef>
#include <vector>

namespace troupe::capture {

/// Memory on the CPU that waits for a result of just its size.
struct Room {
  void* data = nullptr;
  std::size_t bytes = 0;
  std::size_t passed = 0;  ///< allocations of that size which come before the result's and go elsewhere
};

/// Puts the allocator that takes offers before LibTorch's, for the rest of the process. The first offer does so too,
/// but LibTorch's list of allocators has no lock: whoever will make offers calls it before there are threads that
/// allocate.
void prepare_for_offers();

/// While it lives, what this thread allocates on the CPU through LibTorch goes into one of `rooms` if it has just that
/// size, each room once, the first one first; all else is allocated as always. Who offers looks afterwards where a
/// result lies: an operator may have taken a room for something that it needed in between.
class OfferedMemory {
 public:
  /// Neither the rooms nor their number may change meanwhile. One at a time per thread.
  explicit OfferedMemory(const std::vector<Room>& rooms);
  ~OfferedMemory();
  OfferedMemory(const OfferedMemory&) = delete;
  OfferedMemory& operator=(const OfferedMemory&) = delete;
};

/// Whether somebody still has one of `rooms`, which were offered before. Results count until their storages are gone.
bool is_held(const std::vector<Room>& rooms);

}  // namespace troupe::capture
