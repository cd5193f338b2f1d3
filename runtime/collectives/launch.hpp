// How the processes of a run were started, and what each way gives them: who they are, and how they reach each other.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/runtime/collectives/collective_backend.hpp"
#include "troupe/runtime/collectives/launch_environment.hpp"

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace troupe {

/// What differs between launchers. There is one implementation for each: a process that was started alone, MPI and
/// torchrun. One object per process; what it has made has to be destroyed before it. Calls are collective if the
/// comment says so: all processes make them in the same order. The main thread calls, unless the comment says more.
class Launch {
 public:
  virtual ~Launch() = default;
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  virtual int64_t rank() const = 0;
  /// Without spares.
  virtual int64_t size() const = 0;
  /// Among the processes of this host.
  virtual int64_t local_rank() const = 0;
  virtual int64_t local_size() const = 0;
  /// This process's host; empty if there are no other processes.
  virtual const std::string& host() const = 0;
  /// "process 1 on node7"; without the host if the launcher does not tell those of other processes. Any thread.
  virtual std::string name_of(int64_t process) const;
  /// "process 1 on node7, process 2 on node8". Any thread.
  std::string names_of(const std::vector<int>& processes) const;

  /// Collective: the processes' way to each other on the CPU. `keeps_core`: how long a thread that waits for other
  /// processes keeps its core (MpiBackend), if the transport lets it choose.
  virtual c10::intrusive_ptr<CollectiveBackend> make_between(const CollectiveOptions& options,
                                                             std::chrono::microseconds keeps_core) = 0;
  /// Collective: where NCCL's communicators find each other. It waits `timeout` for a key, if its kind lets one choose.
  virtual c10::intrusive_ptr<c10d::Store> make_store(std::chrono::milliseconds timeout) = 0;

  /// Both are called on a thread of the launch's, and must not throw.
  struct Listener {
    std::function<void(const std::string& message)> told;  ///< another process has announced it
    std::function<void(Failure failure)> lost;             ///< processes are lost, if survives_losses()
  };
  /// Collective: from now on `listener` hears what the others announce, until stop_listening(). Once, but for
  /// Regrouping::join.
  virtual void listen(Listener listener) = 0;
  /// Waits until the listener has returned. Nobody is told anything from then on.
  virtual void stop_listening() = 0;
  /// To all processes that listen, but this one; does not wait for them longer than `limit`. Any thread. Throws
  /// CollectiveError if MPI reports an error; under torchrun nobody hears it if the store is gone.
  virtual void announce(const std::string& message, std::chrono::milliseconds limit) = 0;

  // --- Processes that are lost while the others go on; the defaults are those of launchers that end them all ---

  /// Whether the others can go on.
  virtual bool survives_losses() const { return false; }
  /// Whether one is lost that was there at the last recover(), or will be known to be within `patience`. Any thread.
  virtual bool has_losses(std::chrono::milliseconds /*patience*/) { return false; }
  /// Whether this process waits for one that is lost, whose place it takes then.
  virtual bool is_spare() const { return false; }

  /// How the processes get together anew, with other ranks.
  struct Regrouping {
    std::function<void()> part;  ///< destroys all that this launch has made, and stops listening
    std::function<void()> join;  ///< collective, unless is_spare(): makes it again, and listens
  };
  /// Collective: from now on the first `most` processes that are left take part in everything; those behind are spares,
  /// to which only agree() and recover() are open. Does nothing without survives_losses(). Throws CollectiveError if a
  /// process is lost meanwhile.
  virtual void keep_spares(int64_t most, const Regrouping& regrouping);
  /// What has become of what a process did, or of what all of them did together: the worst that one of them says.
  /// `fewer`: it went well for all that are left, and one is lost.
  enum class Outcome { well, fewer, lost, failed };
  /// Collective among those that are left, spares too: the same answer for all; `fewer` or `lost` if one is lost
  /// meanwhile. One that waits longer than `patience` leaves the others; if it has failed itself, it waits 30 s at
  /// most, and returns. Throws CollectiveError without survives_losses().
  virtual Outcome agree(Outcome mine, std::chrono::milliseconds patience);
  /// Collective among those that are left, spares too: they are all that there are from now on, with ranks in the old
  /// order, and spares take the places of lost ones. Returns the lost ones (names_of). Throws CollectiveError without
  /// survives_losses().
  virtual std::string recover(const Regrouping& regrouping);
  /// Ends this process so that it is a loss like any other for those that are left, after a line that says why.
  [[noreturn]] static void leave_the_others(const std::string& why);

  /// This process ends, with that status: what was made is destroyed next, then the launch.
  virtual void prepare_end(int /*exit_status*/) {}

 protected:
  Launch() = default;
};

/// The one that the environment tells of. Throws UsageError if the environment is contradictory, CollectiveError where
/// MPI cannot start or torchrun's store does not answer.
std::unique_ptr<Launch> make_launch(const LaunchEnvironment& launched);

/// A process without others: it was started alone, or as the only one of torchrun's, which has chosen its local rank.
std::unique_ptr<Launch> make_lone_launch(const LaunchEnvironment& launched);
/// Of mpirun's or srun's processes: starts MPI (MpiWorld). With Open MPI 5, which waits for ever for a process that is
/// lost there, it ends this one after 300 s.
std::unique_ptr<Launch> make_mpi_launch(const LaunchEnvironment& launched);
/// Of torchrun's processes: connects to its store, which has 60 s to answer.
std::unique_ptr<Launch> make_torchrun_launch(const LaunchEnvironment& launched);

}  // namespace troupe
