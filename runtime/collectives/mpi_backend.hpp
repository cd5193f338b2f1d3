// The transport between processes on the CPU, over MPI.
#pragma once

#include "troupe/runtime/collectives/mpi_world.hpp"
#include "troupe/runtime/collectives/threaded_backend.hpp"

#include <chrono>
#include <optional>

namespace troupe {

/// A rank among the processes of an MpiWorld. All MPI calls are made by one thread of its own, blocking (that is twice
/// as fast in Open MPI as MPI_Iallreduce with a wait), on a communicator of its own. All processes make their backends
/// in the same order.
///
/// Sums of float, double and integers are MPI_Allreduce's. bfloat16 and half are exchanged as they are, so that
/// compression halves the bytes, but summed in float in the order of ranks and rounded once: each rank gets all values
/// of its share of the elements, and gives the others the result. So are MIN and MAX of floating-point values, for
/// which MPI does not say what becomes of NaN.
class MpiBackend : public ThreadedBackend {
 public:
  /// `keeps_core`: ranks meet before each operation (meet_over_mpi), and who waits longer than that leaves the core to
  /// others, at the price of some 10 us an operation. None: MPI's own waiting, which never leaves it; right where the
  /// thread has a core to itself.
  explicit MpiBackend(MpiWorld& world, CollectiveOptions options = {},
                      std::optional<std::chrono::microseconds> keeps_core = std::nullopt);
};

}  // namespace troupe
