#include "troupe/runtime/collectives/mpi_losses.hpp"

#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/collectives/launch_environment.hpp"
#include "troupe/runtime/collectives/mpi_error.hpp"

#define OMPI_SKIP_MPICXX 1  // the C interface alone
#include <mpi.h>
#if __has_include(<mpi-ext.h>)
#include <mpi-ext.h>
#endif

#include <chrono>
#include <cstdlib>
#include <numeric>
#include <thread>

namespace troupe {

#ifdef OMPI_HAVE_MPI_EXT_FTMPI

bool mpi_survives_losses() {
  // What --with-ft ulfm sets for each process; MPI itself has no question for it.
  const auto enabled = environment_variable("OMPI_MCA_mpi_ft_enable").value_or("");
  return enabled == "1" || enabled == "true";
}

namespace {

// Their ranks in `everybody`.
std::vector<int> ranks_of(MPI_Group some, MPI_Group everybody) {
  int count = 0;
  MPI_Group_size(some, &count);
  std::vector<int> ranks(static_cast<std::size_t>(count)), within(ranks.size());
  if (count == 0) return ranks;
  std::iota(within.begin(), within.end(), 0);
  check_mpi(MPI_Group_translate_ranks(some, count, within.data(), everybody, ranks.data()),
            "MPI_Group_translate_ranks");
  return ranks;
}

// Held as long as it is used.
struct HeldGroup {
  HeldGroup() = default;
  explicit HeldGroup(MPI_Comm of) { check_mpi(MPI_Comm_group(of, &group), "MPI_Comm_group"); }
  ~HeldGroup() {
    if (group != MPI_GROUP_NULL && group != MPI_GROUP_EMPTY) MPI_Group_free(&group);
  }
  HeldGroup(const HeldGroup&) = delete;
  HeldGroup& operator=(const HeldGroup&) = delete;
  MPI_Group group = MPI_GROUP_NULL;
};

}  // namespace

void prepare_mpi_for_losses() {
  if (mpi_survives_losses()) setenv("OMPI_MCA_async_mpi_finalize", "1", /*overwrite=*/0);
}

std::vector<int> lost_ranks(int communicator) {
  const MPI_Comm all = MPI_Comm_f2c(communicator);
  const HeldGroup everybody(all);
  HeldGroup lost;
  check_mpi(MPIX_Comm_failure_ack(all), "MPIX_Comm_failure_ack");
  check_mpi(MPIX_Comm_failure_get_acked(all, &lost.group), "MPIX_Comm_failure_get_acked");
  return ranks_of(lost.group, everybody.group);
}

void revoke_communicator(int communicator) {
  check_mpi(MPIX_Comm_revoke(MPI_Comm_f2c(communicator)), "MPIX_Comm_revoke");
}

bool is_revoked(int communicator) {
  int flag = 0;
  return MPIX_Comm_is_revoked(MPI_Comm_f2c(communicator), &flag) == MPI_SUCCESS && flag != 0;
}

int shrunk_communicator(int communicator) {
  MPI_Comm left = MPI_COMM_NULL;
  check_mpi(MPIX_Comm_shrink(MPI_Comm_f2c(communicator), &left), "MPIX_Comm_shrink");
  check_mpi(MPI_Comm_set_errhandler(left, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  return MPI_Comm_c2f(left);
}

std::vector<int> ranks_left_out(int before, int after) {
  const HeldGroup old(MPI_Comm_f2c(before)), now(MPI_Comm_f2c(after));
  HeldGroup missing;
  check_mpi(MPI_Group_difference(old.group, now.group, &missing.group), "MPI_Group_difference");
  return ranks_of(missing.group, old.group);
}

Agreement agree_over_mpi(int communicator, unsigned mine) {
  int flag = static_cast<int>(mine), is_over = 0;
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPIX_Comm_iagree(MPI_Comm_f2c(communicator), &flag, &request), "MPIX_Comm_iagree");
  int code = MPI_Test(&request, &is_over, MPI_STATUS_IGNORE);
  while (code == MPI_SUCCESS && !is_over) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    code = MPI_Test(&request, &is_over, MPI_STATUS_IGNORE);
  }
  return {static_cast<unsigned>(flag), code == MPI_SUCCESS};
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

void prepare_mpi_for_losses() {}

std::vector<int> lost_ranks(int) {
  refuse_losses();
}

void revoke_communicator(int) {
  refuse_losses();
}

bool is_revoked(int) {
  refuse_losses();
}

int shrunk_communicator(int) {
  refuse_losses();
}

std::vector<int> ranks_left_out(int, int) {
  refuse_losses();
}

Agreement agree_over_mpi(int, unsigned) {
  refuse_losses();
}

#endif

}  // namespace troupe
