// What the parts of a replica share.
#pragma once

#include "troupe/modules/callback.hpp"
#include "troupe/modules/optim/optimizers.hpp"
#include "troupe/modules/options/precision.hpp"
#include "troupe/modules/progress.hpp"
#include "troupe/modules/run_context.hpp"
#include "troupe/runtime/profile/phase_clock.hpp"
#include "troupe/runtime/profile/thread_lane.hpp"
#include "troupe/runtime/replica/replica_setup.hpp"

#include <memory>
#include <mutex>
#include <vector>

namespace troupe {

class DeviceShards;

/// The module with its run, as the parts of a replica (train stepper, evaluation, metrics, schedules, gradients) see
/// it. The replica fills it in while it prepares the run; from then on a part changes only what is said here, and has
/// all else that it owns for itself. A test makes one without a Trainer. Used by the worker's thread.
struct ReplicaCore {
  /// `run` is what hooks are given; it is not called here.
  ReplicaCore(ReplicaSetup setup, ReplicaOutputs& outputs, RunContext& run);
  ~ReplicaCore();
  ReplicaCore(const ReplicaCore&) = delete;
  ReplicaCore& operator=(const ReplicaCore&) = delete;

  ReplicaSetup setup;
  ReplicaOutputs& outputs;
  RunContext& run;
  Pulse& pulse;  ///< where the thread is; each part says it

  std::shared_ptr<Module> module;
  std::vector<std::shared_ptr<Callback>> callbacks;
  /// A callback with hooks of batches, and whose phases its hooks are.
  struct BatchCallback {
    Callback* callback;
    HookOwner owner;
  };
  std::vector<BatchCallback> batch_callbacks;
  Optimizers optimizers;
  int64_t accumulate_grad_batches = 1;  ///< of the next window: the option, until a callback sets it
  Precision precision = Precision::float32;
  bool converts_batches = false;         ///< to the type of the parameters, which is not float32
  std::unique_ptr<DeviceShards> shards;  ///< with strategies dp and ddp2 on several devices
  Progress progress;                     ///< the train stepper counts batches and steps, the replica epochs

  const TrainerOptions& options() const { return *setup.options; }
  Peers* peers() const { return setup.peers.get(); }
  Place place() const { return setup.place(); }
  bool is_first_of_process() const { return place().in_process == 0 && !setup.validates_beside; }
  bool prepares_data() const {
    return (setup.options->prepare_data_per_node ? place().local_rank : place().global_rank) == 0;
  }
  /// Whether ranks hold parts of the optimizers' states.
  bool divides_optimizers() const { return setup.peers && troupe::divides_optimizers(setup.options->strategy); }
  /// Whether they hold parts of the gradients too, so that those of a window of accumulation do not wait for its end.
  bool divides_gradients() const { return setup.peers && troupe::divides_gradients(setup.options->strategy); }
  bool divides_parameters() const { return setup.peers && setup.options->strategy == Strategy::fsdp; }
  /// Whether gradients stay each rank's own, and weights are exchanged now and then.
  bool trains_locally() const { return setup.peers && troupe::trains_locally(setup.options->strategy); }
  bool is_used(Hook hook) const { return setup.overridden.has(hook); }
  /// The same of a hook that the data module may have.
  bool is_used_transfer(Hook hook) const { return is_used(hook) || setup.datamodule.overrides(hook); }
  /// Calls `call(callback)` for each callback with hooks of batches, as a phase of its own. The last one goes on until
  /// the next mark.
  template <class Call>
  void call_batch_callbacks(Hook hook, Call call) const {
    for (const auto& [callback, owner] : batch_callbacks) {
      enter_phase(id_of(owner, hook));
      const TracedPart part(typeid(*callback));
      call(*callback);
    }
  }
  /// The same for all callbacks, of a hook between batches; the phase before goes on behind it.
  template <class AnyHook, class Call>
  void call_callbacks(AnyHook hook, Call call) const {
    for (std::size_t i = 0; i < callbacks.size(); ++i) {
      const PhaseScope phase(id_of(first_callback_owner + static_cast<HookOwner>(i), hook));
      const TracedPart part(typeid(*callbacks[i]));
      call(*callbacks[i]);
    }
  }
  /// Held around calls of the data module.
  std::unique_lock<std::mutex> lock_data() const {
    return setup.data_mutex ? std::unique_lock(*setup.data_mutex) : std::unique_lock<std::mutex>();
  }
  /// Metrics are whole before anybody looks at them: adds what the copies on other devices have gathered.
  void collect_shard_metrics();
};

}  // namespace troupe
