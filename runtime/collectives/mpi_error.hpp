// Errors of MPI's functions as exceptions.
#pragma once

namespace troupe {

/// Throws CollectiveError "MPI_Allreduce failed: <MPI's text>" where `code` is not MPI_SUCCESS.
void check_mpi(int code, const char* function);

}  // namespace troupe
