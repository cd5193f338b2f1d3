// Collective operations as blocking calls of MPI.
#pragma once

#include "troupe/runtime/collectives/collective_call.hpp"

namespace troupe {

/// Carries out `call` on the calling thread. `communicator` is MPI's Fortran handle. Throws CollectiveError.
void call_mpi(const CollectiveCall& call, int communicator);

/// Compares the descriptions of the ranks' calls; throws CollectiveError on all ranks where they differ.
void check_calls_over_mpi(const CollectiveCall& call, int communicator);

}  // namespace troupe
