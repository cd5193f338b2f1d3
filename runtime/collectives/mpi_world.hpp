// The processes that mpirun or srun started together, through MPI.
#pragma once

#include "troupe/runtime/collectives/mpi_losses.hpp"

#include <chrono>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace troupe {

/// Initialises MPI and, at the end, finalizes it: one object a process, made by the main thread. Every thread of the
/// process may use MPI while it exists (MPI_THREAD_MULTIPLE). Do not make one in a process that was started alone
/// (launch_environment.hpp says how it was): Open MPI would start helper processes for it.
class MpiWorld {
 public:
  /// Waits for all processes. Throws UsageError if the process has made one before, CollectiveError where MPI cannot
  /// start or does not grant what the threads need.
  MpiWorld();
  /// As shut_down() with a patience of 2 s, so that all is over soon after a timeout.
  ~MpiWorld();
  MpiWorld(const MpiWorld&) = delete;
  MpiWorld& operator=(const MpiWorld&) = delete;

  int rank() const { return rank_; }
  /// Without spares.
  int size() const { return size_; }
  /// Among the processes of this host.
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  /// The host of each rank, spares too, as MPI_Get_processor_name says.
  const std::vector<std::string>& hosts() const { return hosts_; }

  /// A communicator of all processes for one user; all processes have to call this in the same order. The value is
  /// MPI's Fortran handle (MPI_Comm_f2c), so that no header includes MPI's. It is never freed but by finalizing.
  int new_communicator();

  /// Finalizes MPI, for which all processes have to come; a second call does nothing. Backends, stores and channels
  /// have to be destroyed before. Where a thread is still inside of MPI, since another process did not come or has
  /// failed, finalizing would wait for ever: then it returns false after `patience`, and the process should end without
  /// it, upon which mpirun ends the others.
  bool shut_down(std::chrono::milliseconds patience = std::chrono::seconds(5));

  // --- Where processes may be lost (mpi_survives_losses) ---

  /// Ends what is in progress on all communicators of this world, here and in all other processes. Any thread.
  void revoke();
  /// From the next look_around() on the world is that of the first `most` processes that are left, for which all
  /// communicators are. The others are spares, which have the ranks behind: nothing but agree(), revoke(), shrink() and
  /// look_around() is for them.
  void keep_spares(int most) { most_ = most; }
  bool is_spare() const { return rank_ >= size_; }
  /// Collective among the processes that are left, spares too, after revoke(): from now on the world is theirs;
  /// communicators made before are of no use. The ranks of those that are lost, as they were.
  std::vector<int> shrink();
  /// The same, after shrink() or keep_spares(): rank(), size() and hosts() say what has become of them, ranks in the
  /// old order. Throws CollectiveError if one more is lost meanwhile: then revoke and shrink again.
  void look_around();
  /// Collective among those that are left, before or after revoke(): the bits that all of them have set, and whether
  /// one is lost.
  Agreement agree(unsigned mine);

  /// Ends all processes at once, this one too, with that status (MPI_Abort).
  [[noreturn]] void abort(int status);

  /// Held by a thread of ours for as long as it may be inside of MPI.
  std::shared_ptr<void> user() const { return users_; }

 private:
  int everyone_ = 0;  // the communicator of all processes that are left
  int world_ = 0;     // of those that are no spares
  int most_ = std::numeric_limits<int>::max();
  std::mutex mutex_;
  std::vector<int> communicators_;  // made of the world
  int rank_ = 0;
  int size_ = 1;
  int local_rank_ = 0;
  int local_size_ = 1;
  std::vector<std::string> hosts_;
  std::shared_ptr<void> users_;  // counts those who may be inside of MPI
  bool open_ = true;
};

}  // namespace troupe
