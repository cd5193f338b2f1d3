// Processes that are lost while the others go on: User Level Failure Mitigation, which Open MPI 5 has.
#pragma once

#include <vector>

namespace troupe {

/// Whether MPI tells of processes that are gone, and lets the others go on: a program that was compiled for Open MPI 5,
/// started by `mpirun --with-ft ulfm` (Bland et al. 2013; docs.open-mpi.org, "User-Level Fault Mitigation"). Everything
/// below throws CollectiveError where it does not.
bool mpi_survives_losses();

/// Before MPI is initialised: finalizing it is not to wait for the launcher's word that all have come, which Open MPI
/// 5.0.11 loses now and then if a process was lost (they have agreed on the end already). Does nothing elsewhere.
void prepare_mpi_for_losses();

// Communicators are MPI's Fortran handles, as MpiWorld::new_communicator() gives them.

/// Ranks of the communicator of which this process knows that they are gone. Local; wildcards go on receiving from the
/// others (MPIX_Comm_failure_ack).
std::vector<int> lost_ranks(int communicator);
/// Ends what is in progress on the communicator, on all processes that are left, and whatever they begin on it later.
/// Any thread.
void revoke_communicator(int communicator);
/// Whether somebody has revoked it. Local.
bool is_revoked(int communicator);
/// Collective among those that are left, also on a communicator that was revoked: one of them alone, in the old order.
int shrunk_communicator(int communicator);
/// Ranks of `before` that `after`, which was shrunk from it, has no more. Local.
std::vector<int> ranks_left_out(int before, int after);

/// What processes have agreed on.
struct Agreement {
  unsigned bits = 0;          ///< that all of those that are left have set
  bool all_are_there = true;  ///< false: one is lost; all that are left see it alike
};
/// Collective among those that are left, also on a communicator that was revoked. Looks for the others' answers every
/// 2 ms and leaves the processor to others meanwhile, since some may come much later.
Agreement agree_over_mpi(int communicator, unsigned mine);

}  // namespace troupe
