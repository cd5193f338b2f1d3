// The forward and the backward pass of a training batch.
#pragma once

#include "troupe/runtime/replica/gradient_sync.hpp"
#include "troupe/runtime/replica/hook_program.hpp"
#include "troupe/runtime/replica/loss_scaling.hpp"
#include "troupe/runtime/replica/metric_board.hpp"
#include "troupe/runtime/replica/replica_core.hpp"
#include "troupe/runtime/replica/train_step.hpp"

namespace troupe {

/// Computes the loss of a batch and its gradients for one optimizer, from training_step to on_after_backward. What
/// comes before (the batch is on its device) and after (a step may be made) is the train stepper's. With manual
/// optimization a pass is training_step alone. Another way to compute the same gradients would stand beside this class
/// and have its run(). Used by the worker's thread.
class BatchPass {
 public:
  BatchPass(ReplicaCore& core, MetricBoard& board, GradientSync& sync, LossScaling& scaling)
      : core_(core), board_(board), sync_(sync), scaling_(scaling) {}
  BatchPass(const BatchPass&) = delete;
  BatchPass& operator=(const BatchPass&) = delete;

  /// `hooks`: those of the table of a training batch that stand between training_step and the step.
  void configure(HookProgram hooks) { hooks_ = std::move(hooks); }

  /// Reads of `step` which batch and which optimizer it is, and leaves the output and the loss there; the loss stays
  /// undefined if training_step returns nothing. `track` is the optimizer's: says afterwards whether there are
  /// gradients. Collective if the batch closes a window.
  void run(TrainStep& step, OptimizerTrack& track);
  /// The same again, with fresh gradients and without the hooks around: for optimizers that evaluate the loss several
  /// times a step. Throws UsageError if training_step returns nothing then.
  void repeat(TrainStep& step, OptimizerTrack& track);

  /// The hooks around a backward pass, of callbacks and module; manual_backward has them too.
  void before_backward(const torch::Tensor& loss);
  void after_backward();

 private:
  void forward(TrainStep& step, OptimizerTrack& track);
  StepOutput compute_output(const TrainStep& step, const OptimizerTrack& track);
  StepOutput call_training_step(const TrainStep& step, const StepOutput& hiddens);
  StepOutput training_step_on_shards(const TrainStep& step);
  void backward(TrainStep& step, const OptimizerTrack& track);
  void before_zero_grad(const TrainStep& step);
  bool contributes_nothing(const TrainStep& step) const;
  void contribute_nothing(TrainStep& step, const OptimizerTrack& track);
  GradientAverager* averager_of(const TrainStep& step) const;
  double weight_in_window(const TrainStep& step, OptimizerTrack& track) const;
  bool opens_window(const TrainStep& step, const OptimizerTrack& track) const;
  torch::optim::Optimizer& optimizer_of(const TrainStep& step) const { return core_.optimizers[step.optimizer]; }

  ReplicaCore& core_;
  MetricBoard& board_;
  GradientSync& sync_;
  LossScaling& scaling_;
  HookProgram hooks_;
};

}  // namespace troupe
