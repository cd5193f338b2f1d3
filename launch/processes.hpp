// The processes of a run: those that mpirun, srun or torchrun started together, or this one alone.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/modules/options/trainer_options.hpp"
#include "troupe/runtime/collectives/launch.hpp"
#include "troupe/runtime/distributed/peers.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace troupe {

/// One object a process, since MPI can be started once (MPI 4.0, section 11.2): made when it is first asked for, on the
/// main thread, and ended with the process. In a process that was started alone nothing of MPI is touched.
///
/// Calls are collective where the comment says so: all processes make them in the same order.
class Processes {
 public:
  /// Throws UsageError if the environment is contradictory, CollectiveError where MPI cannot start or torchrun's
  /// store does not answer.
  static Processes& get();
  ~Processes();
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  int64_t rank() const;
  /// Without spares.
  int64_t size() const;
  /// Also of a spare.
  bool is_alone() const;
  bool is_rank_zero() const { return rank() == 0; }
  /// Among the processes of this host.
  int64_t local_rank() const;
  int64_t local_size() const;
  const std::string& host() const;
  /// Collective: how many processors this process has to itself (runtime/process/cpu_budget.hpp), not only whole ones.
  /// Those of one host are taken to be in one container.
  double cpu_share();

  /// Collective: what each process says, by rank.
  std::vector<std::string> all_gather_bytes(const std::string& mine);
  /// Collective: the answer of rank zero's `ask`, which the others do not call. What it throws is thrown everywhere.
  std::string from_rank_zero(const std::function<std::string()>& ask);

  /// Collective: how each of this process's workers sees the others, `devices` workers a process; empty if there is
  /// one worker in all. Throws UsageError if the processes have different numbers of devices.
  std::vector<std::shared_ptr<Peers>> make_peers(const std::vector<torch::Device>& devices,
                                                 const TrainerOptions& options);

  /// Tells all other processes that this one has failed in the run that make_peers was called for last; any thread,
  /// does not wait for them. In those that have begun another run since nobody hears of it.
  void tell_failure(const Failure& failure);
  /// Called, on a thread of its own, with what another process told; nothing: nobody listens.
  void on_failure(std::function<void(const Failure&)> listener);

  // --- Processes that are lost while the others go on (trainer.elastic) ---

  /// Collective: from now on the first `most` processes that are left take part in everything; those behind are spares,
  /// which make no collective calls but agree() and recover(), and may be called up by the latter. Once: a second call
  /// does nothing. Throws CollectiveError if one is lost meanwhile.
  void keep_spares(int64_t most);
  /// This process is one.
  bool is_spare() const;
  /// How long after a failure that a process is lost becomes known, if that is why.
  static constexpr std::chrono::milliseconds patience_with_losses{1000};
  /// Whether MPI can go on without them.
  bool survives_losses() const;
  /// Whether one is lost that was there at the last recover(), or will be known to be within `patience`. Any thread.
  bool has_losses(std::chrono::milliseconds patience = patience_with_losses);
  using Outcome = Launch::Outcome;  ///< well, fewer, lost, failed
  /// Collective among those that are left, spares too: the same answer for all; `fewer` or `lost` if one is lost
  /// meanwhile. One that waits longer than `patience` leaves the others; if it has failed itself, it waits 30 s at
  /// most, and returns.
  Outcome agree(Outcome mine, std::chrono::milliseconds patience);
  /// Collective among those that are left, spares too: they are all that there are from now on, with ranks in the old
  /// order, and spares take the places of lost ones. What make_peers has made before is of no use. Returns the lost
  /// ones, for a sentence: "process 2 on host".
  std::string recover();
  /// Ends this process so that it is a loss like any other for those that are left, after a line that says why.
  [[noreturn]] static void leave_the_others(const std::string& why);

  /// What this process answers to others that wait for it, on a thread of its own; empty: it waits as well.
  void on_roll_call(std::function<std::string()> says);
  /// Which processes do not answer within `patience`, any thread: "process 1 on node7, process 2 on node8"; empty
  /// if all do.
  std::string absent(std::chrono::milliseconds patience);

 private:
  Processes();

  struct State;
  std::unique_ptr<State> state_;
};

/// Threads for the operations of each of `devices` workers of a process that has `cpu_share` processors to itself:
/// equal parts, at least 1, and no more than LibTorch would take (OMP_NUM_THREADS).
int64_t threads_of_device(double cpu_share, int64_t devices);

}  // namespace troupe
