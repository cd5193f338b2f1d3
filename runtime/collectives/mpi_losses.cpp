#include "troupe/runtime/collectives/mpi_losses.hpp"

#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/collectives/launch_environment.hpp"
#include "troupe/runtime/collectives/mpi_error.hpp"

#define OMPI_SKIP_MPICXX 1  // the C interface alone
#include <mpi.h>
#if __has_include(<mpi-ext.h>)
#include <mpi-ext.h>
#endif

#include <numeric>

namespace troupe {

#ifdef OMPI_HAVE_MPI_EXT_FTMPI

bool mpi_survives_losses() {
  // What --with-ft ulfm sets for each process; MPI itself has no question for it.
  const auto enabled = environment_variable("OMPI_MCA_mpi_ft_enable").value_or("");
  return enabled == "1" || enabled == "true";
}

std::vector<int> lost_ranks(int communicator) {
  const MPI_Comm all = MPI_Comm_f2c(communicator);
  MPI_Group lost = MPI_GROUP_NULL, everybody = MPI_GROUP_NULL;
  check_mpi(MPIX_Comm_failure_ack(all), "MPIX_Comm_failure_ack");
  check_mpi(MPIX_Comm_failure_get_acked(all, &lost), "MPIX_Comm_failure_get_acked");
  int count = 0;
  MPI_Group_size(lost, &count);
  std::vector<int> ranks(static_cast<std::size_t>(count));
  if (count > 0) {
    std::vector<int> in_lost(ranks.size());
    std::iota(in_lost.begin(), in_lost.end(), 0);
    check_mpi(MPI_Comm_group(all, &everybody), "MPI_Comm_group");
    check_mpi(MPI_Group_translate_ranks(lost, count, in_lost.data(), everybody, ranks.data()),
              "MPI_Group_translate_ranks");
    MPI_Group_free(&everybody);
  }
  if (lost != MPI_GROUP_EMPTY) MPI_Group_free(&lost);
  return ranks;
}

void revoke_communicator(int communicator) {
  check_mpi(MPIX_Comm_revoke(MPI_Comm_f2c(communicator)), "MPIX_Comm_revoke");
}

int shrunk_communicator(int communicator) {
  MPI_Comm left = MPI_COMM_NULL;
  check_mpi(MPIX_Comm_shrink(MPI_Comm_f2c(communicator), &left), "MPIX_Comm_shrink");
  check_mpi(MPI_Comm_set_errhandler(left, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  return MPI_Comm_c2f(left);
}

bool agree_over_mpi(int communicator, bool mine) {
  int flag = mine ? 1 : 0;
  return MPIX_Comm_agree(MPI_Comm_f2c(communicator), &flag) == MPI_SUCCESS && flag == 1;
}

#else

namespace {

[[noreturn]] void refuse_losses() {
  throw CollectiveError("this program was compiled for an MPI that cannot go on after a process is lost");
}

}  // namespace

bool mpi_survives_losses() {
  return false;
}

std::vector<int> lost_ranks(int) {
  refuse_losses();
}

void revoke_communicator(int) {
  refuse_losses();
}

int shrunk_communicator(int) {
  refuse_losses();
}

bool agree_over_mpi(int, bool) {
  refuse_losses();
}

#endif

}  // namespace troupe
