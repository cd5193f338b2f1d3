// Collective operations as blocking calls of MPI.
#pragma once

#include "troupe/runtime/collectives/collective_call.hpp"

#include <chrono>

namespace troupe {

/// Carries out `call` on the calling thread. `communicator` is MPI's Fortran handle. Throws CollectiveError.
void call_mpi(const CollectiveCall& call, int communicator);

/// Returns when all ranks are here. MPI itself keeps its core while it waits; this leaves it after `keeps_core`, and
/// looks again some ten thousand times a second. Throws CollectiveError.
void meet_over_mpi(int communicator, std::chrono::microseconds keeps_core);

/// Compares the descriptions of the ranks' calls; throws CollectiveError on all ranks if they differ.
void check_calls_over_mpi(const CollectiveCall& call, int communicator);

}  // namespace troupe
