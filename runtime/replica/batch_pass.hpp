// The forward and the backward pass of a training batch.
#pragma once

#include "troupe/runtime/replica/gradient_sync.hpp"
#include "troupe/runtime/replica/hook_program.hpp"
#include "troupe/runtime/replica/loss_scaling.hpp"
#include "troupe/runtime/replica/metric_board.hpp"
#include "troupe/runtime/replica/replica_core.hpp"
#include "troupe/runtime/replica/step_capture.hpp"
#include "troupe/runtime/replica/train_step.hpp"

namespace troupe {

/// Computes the loss of a batch and its gradients for one optimizer, from training_step to on_after_backward. What
/// comes before (the batch is on its device) and after (a step may be made) is the train stepper's. With manual
/// optimization a pass is training_step alone. The step capture records passes and computes the same gradients by
/// replays (trainer.capture_step). Used by the worker's thread.
class BatchPass {
 public:
  BatchPass(ReplicaCore& core, MetricBoard& board, GradientSync& sync, LossScaling& scaling)
      : core_(core), board_(board), sync_(sync), scaling_(scaling), capture_(core, StepCapture::Kind::training) {}
  BatchPass(const BatchPass&) = delete;
  BatchPass& operator=(const BatchPass&) = delete;

  /// `hooks`: those of the table of a training batch that stand between training_step and the step. `keeps_outputs`:
  /// somebody looks at what training_step returned when the pass is over.
  void configure(HookProgram hooks, bool keeps_outputs);
  /// What is trained may have changed.
  void refresh() { capture_.refresh(); }
  const StepCapture& capture() const { return capture_; }
  StepCapture& capture() { return capture_; }

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
  void replay_forward(TrainStep& step, OptimizerTrack& track);
  StepCapture::Way begin_capture(const TrainStep& step, const OptimizerTrack& track);
  StepOutput compute_output(const TrainStep& step, const Batch& batch, const StepOutput& hiddens);
  StepOutput call_training_step(const TrainStep& step, const Batch& batch, const StepOutput& hiddens);
  StepOutput training_step_on_shards(const TrainStep& step);
  void backward(TrainStep& step, const OptimizerTrack& track);
  void replay_backward(GradientAverager* averager);
  void record_backward(const TrainStep& step, GradientAverager* averager);
  void before_zero_grad(const TrainStep& step);
  bool contributes_nothing(const TrainStep& step) const;
  void contribute_nothing(TrainStep& step, const OptimizerTrack& track);
  GradientAverager* averager_of(const TrainStep& step) const;
  double weight_in_window(const TrainStep& step, OptimizerTrack& track) const;
  bool begins_count(const TrainStep& step, const OptimizerTrack& track) const;
  double nominal_of(const TrainStep& step, const OptimizerTrack& track) const;
  double weight_of(const TrainStep& step, const OptimizerTrack& track) const;
  bool opens_window(const TrainStep& step, const OptimizerTrack& track) const;
  torch::optim::Optimizer& optimizer_of(const TrainStep& step) const { return core_.optimizers[step.optimizer]; }

  ReplicaCore& core_;
  MetricBoard& board_;
  GradientSync& sync_;
  LossScaling& scaling_;
  StepCapture capture_;
  HookProgram hooks_;
};

}  // namespace troupe
