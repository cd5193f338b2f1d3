#include "troupe/runtime/collectives/mpi_world.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/collectives/launch_environment.hpp"
#include "troupe/runtime/collectives/mpi_error.hpp"

#define OMPI_SKIP_MPICXX 1  // the C interface alone
#include <mpi.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

namespace troupe {
namespace {

std::vector<std::string> names_of_hosts(MPI_Comm world, int size) {
  std::array<char, MPI_MAX_PROCESSOR_NAME> name{};
  int length = 0;
  check_mpi(MPI_Get_processor_name(name.data(), &length), "MPI_Get_processor_name");
  std::vector<char> all(static_cast<std::size_t>(size) * name.size());
  check_mpi(MPI_Allgather(name.data(), static_cast<int>(name.size()), MPI_CHAR, all.data(),
                          static_cast<int>(name.size()), MPI_CHAR, world),
            "MPI_Allgather");
  std::vector<std::string> names;
  for (std::size_t rank = 0; rank < static_cast<std::size_t>(size); ++rank) {
    names.emplace_back(all.data() + rank * name.size());
  }
  return names;
}

void choose_transports() {
  std::string users_file;
  if (const auto home = environment_variable("HOME")) {
    std::ifstream file(*home + "/.openmpi/mca-params.conf");
    users_file.assign(std::istreambuf_iterator<char>(file), {});
  }
  for (const auto& [name, value] : mpi_transports(environment_variable, users_file)) {
    setenv(name.c_str(), value.c_str(), /*overwrite=*/0);
  }
}

}  // namespace

void check_mpi(int code, const char* function) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw CollectiveError(std::string(function) + " failed: " + text.data());
}

MpiWorld::MpiWorld() {
  int initialized = 0;
  MPI_Initialized(&initialized);
  if (initialized) throw UsageError("MPI is initialised already: a process makes one MpiWorld, and calls no MPI_Init");
  prepare_mpi_for_losses();
  choose_transports();
  int granted = MPI_THREAD_SINGLE;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &granted), "MPI_Init_thread");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (granted != MPI_THREAD_MULTIPLE) {
    MPI_Finalize();
    throw CollectiveError(
        "this MPI does not grant MPI_THREAD_MULTIPLE, which Troupe needs: use an Open MPI that was "
        "built with it, as Debian's is");
  }
  MPI_Comm world = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &world), "MPI_Comm_dup");
  MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN);
  everyone_ = MPI_Comm_c2f(world);
  look_around();
  users_ = std::make_shared<int>();
}

MpiWorld::~MpiWorld() {
  shut_down(std::chrono::seconds(2));
}

// Who is there, and where.
void MpiWorld::look_around() {
  const MPI_Comm everyone = MPI_Comm_f2c(everyone_);
  MPI_Comm_rank(everyone, &rank_);
  MPI_Comm_size(everyone, &size_);
  hosts_ = names_of_hosts(everyone, size_);
  world_ = everyone_;
  MPI_Comm world = everyone;
  if (size_ > most_) {
    size_ = most_;
    check_mpi(MPI_Comm_split(everyone, is_spare() ? 1 : 0, rank_, &world), "MPI_Comm_split");
    check_mpi(MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    const std::lock_guard lock(mutex_);
    world_ = MPI_Comm_c2f(world);
    communicators_.push_back(world_);  // to be revoked
  }
  MPI_Comm local = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &local), "MPI_Comm_split_type");
  MPI_Comm_rank(local, &local_rank_);
  MPI_Comm_size(local, &local_size_);
  MPI_Comm_free(&local);
}

int MpiWorld::new_communicator() {
  MPI_Comm communicator = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_Comm_f2c(world_), &communicator), "MPI_Comm_dup");
  check_mpi(MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  const std::lock_guard lock(mutex_);
  communicators_.push_back(MPI_Comm_c2f(communicator));
  return communicators_.back();
}

void MpiWorld::revoke() {
  const std::lock_guard lock(mutex_);
  for (const int communicator : communicators_) revoke_communicator(communicator);
  communicators_.clear();
  revoke_communicator(everyone_);
}

std::vector<int> MpiWorld::shrink() {
  const int before = everyone_;
  everyone_ = shrunk_communicator(before);
  return ranks_left_out(before, everyone_);
}

Agreement MpiWorld::agree(unsigned mine) {
  return agree_over_mpi(everyone_, mine);
}

bool MpiWorld::shut_down(std::chrono::milliseconds patience) {
  if (!open_) return true;
  const auto until = std::chrono::steady_clock::now() + patience;
  while (users_.use_count() > 1) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  open_ = false;
  MPI_Finalize();
  return true;
}

void MpiWorld::abort(int status) {
  MPI_Abort(MPI_COMM_WORLD, status);
  std::abort();  // MPI_Abort does not return
}

}  // namespace troupe
