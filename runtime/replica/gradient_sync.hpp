// What an optimizer's gradients and parameters have to do with the other ranks.
#pragma once

#include "troupe/runtime/distributed/gradient_reducer.hpp"
#include "troupe/runtime/distributed/local_training.hpp"
#include "troupe/runtime/distributed/power_sgd.hpp"
#include "troupe/runtime/distributed/sharded_optimizer.hpp"
#include "troupe/runtime/replica/replica_core.hpp"

#include <torch/types.h>

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace troupe {

/// Reducers average gradients (ddp), or sharded optimizers do and hold a part of each optimizer's state (zero, zero2,
/// fsdp), or gradients stay each rank's own and weights are exchanged now and then (local_sgd, diloco); in a run of one
/// worker there is none of these, and everything here is this rank's own. Used by the worker's thread.
class GradientSync {
 public:
  explicit GradientSync(ReplicaCore& core) : core_(core) {}
  GradientSync(const GradientSync&) = delete;
  GradientSync& operator=(const GradientSync&) = delete;

  /// What is trained may have changed, or an optimizer has got further parameters. Collective.
  void refresh();
  /// Lets go of the optimizers.
  void clear();

  /// Averages what a pass computes for an optimizer; null if nobody is there to average with.
  GradientAverager* averager(std::size_t optimizer) const;
  /// A pass of which nobody knows which optimizer it is for (manual optimization): before the backward pass of `loss`,
  /// and after it.
  void begin(const torch::Tensor& loss) const;
  void finish() const;

  // With local_sgd and diloco; with other strategies all ranks have the same weights.

  /// After a window of accumulation: the ranks exchange their weights if it is time. Collective then.
  void end_window() const;
  /// Null with other strategies, and in a run of one worker.
  LocalTraining* local() const { return local_.get(); }

  // With fsdp; with other strategies the parameters are always whole.

  /// Around a training batch: parameters are whole only while they are used.
  void begin_batch() const;
  void end_batch() const;
  /// Makes all parameters whole until the next batch. Collective.
  void hold_parameters() const;
  /// Makes the parameters whole that `tensor` is a part of, until others come; other tensors do nothing. Collective.
  void enter_block_of(const torch::Tensor& tensor) const;
  /// Nothing that was entered is used any more. Collective.
  void leave_blocks() const;

  /// The parameters of an optimizer as the module has them.
  std::vector<torch::Tensor> parameters_of(std::size_t optimizer) const;
  /// After a step, if ranks divide the optimizer: the parameters that others have stepped.
  void gather_parameters(std::size_t optimizer) const;
  /// The 2-norm of all gradients from that of this rank's parts.
  torch::Tensor whole_norm(const torch::optim::Optimizer& optimizer, torch::Tensor norm) const;
  /// The part of an optimizer that this rank has; null if it has all.
  ShardedOptimizer* sharded(std::size_t optimizer) const {
    return optimizer < sharded_.size() ? sharded_[optimizer].get() : nullptr;
  }
  /// The one that holds a part of `parameter`, or null.
  ShardedOptimizer* holder_of(const torch::Tensor& parameter) const;
  /// Of all optimizers: whole parameters, and this rank's parts of averages that have not been stepped with.
  std::vector<std::pair<torch::Tensor, torch::Tensor>> waiting_parts() const;

  // --- State of what is exchanged: errors and matrices of powersgd, weights and momentum of local_sgd and diloco ---

  /// What all ranks have alike.
  void append_shared(Checkpoint& checkpoint) const;
  /// What a rank has for itself.
  void append_own(Checkpoint& state) const;
  /// After the model's state, before the first batch. `own`: of this rank; empty if the checkpoint is of other ranks,
  /// whose states are `all`.
  void load(const Checkpoint& checkpoint, const Checkpoint* own, const std::vector<Checkpoint>& all);

 private:
  ParameterBlocks* blocks() const { return sharded_.empty() ? nullptr : sharded_.front()->blocks(); }
  void refresh_shards();
  void refuse_shared_parameters() const;
  void refresh_reducers();
  void refresh_local();
  std::size_t reducer_count() const;
  PowerSgd& power_sgd(std::size_t reducer);
  std::vector<GradientAverager*> averagers() const;

  ReplicaCore& core_;
  std::vector<std::unique_ptr<GradientReducer>> reducers_;  // of each optimizer; one with manual optimization
  std::vector<std::unique_ptr<ShardedOptimizer>> sharded_;  // of each optimizer, in place of those
  std::vector<std::unique_ptr<PowerSgd>> power_sgd_;        // of each reducer that compresses so; outlives it
  std::unique_ptr<LocalTraining> local_;
  std::vector<std::unique_ptr<LocalGradients>> local_gradients_;  // of each optimizer, in place of reducers
};

}  // namespace troupe
