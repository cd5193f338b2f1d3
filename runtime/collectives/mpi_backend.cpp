#include "troupe/runtime/collectives/mpi_backend.hpp"

#include "troupe/runtime/collectives/mpi_calls.hpp"

namespace troupe {

MpiBackend::MpiBackend(MpiWorld& world, CollectiveOptions options, std::optional<std::chrono::microseconds> keeps_core)
    : ThreadedBackend(world.rank(), world.size(), "mpi", options,
                      // MPI must not be finalized before the last call has ended.
                      [communicator = world.new_communicator(), check = options.check_calls, keeps_core,
                       user = world.user()](const CollectiveCall& call) {
                        if (keeps_core) meet_over_mpi(communicator, *keeps_core);
                        if (check) check_calls_over_mpi(call, communicator);
                        call_mpi(call, communicator);
                      }) {}

}  // namespace troupe
