// Training batches, one by one: their hooks, their passes, and the steps of optimizers that they lead to.
#pragma once

#include "troupe/modules/optim/optimizer_handle.hpp"
#include "troupe/modules/step_output.hpp"
#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/replica/batch_pass.hpp"
#include "troupe/runtime/replica/batch_sizes.hpp"
#include "troupe/runtime/replica/gradient_sync.hpp"
#include "troupe/runtime/replica/loss_scaling.hpp"
#include "troupe/runtime/replica/metric_board.hpp"
#include "troupe/runtime/replica/optimizer_toggle.hpp"
#include "troupe/runtime/replica/replica_core.hpp"
#include "troupe/runtime/replica/schedules.hpp"
#include "troupe/runtime/replica/train_step.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace troupe {

enum class AfterBatch { go_on, skip_rest_of_epoch };

/// Runs a batch through the table hook_order::train_batch, cut where several optimizers and the chunks of a sequence
/// repeat it: what comes before training_step once per batch, then for each chunk and each optimizer a pass and, if it
/// closes a window of accumulation, a step. Manual optimization makes its steps within training_step, through
/// manual_backward and step_optimizer. Used by the worker's thread; what user code throws passes through.
class TrainStepper {
 public:
  TrainStepper(ReplicaCore& core, MetricBoard& board, Schedules& schedules, GradientSync& sync, BatchSizes& sizes)
      : core_(core),
        board_(board),
        schedules_(schedules),
        sync_(sync),
        sizes_(sizes),
        scaling_(core, sync),
        pass_(core, board, sync, scaling_),
        toggle_(core, sync) {}
  TrainStepper(const TrainStepper&) = delete;
  TrainStepper& operator=(const TrainStepper&) = delete;

  /// Takes the core's optimizers and their schedulers. Throws UsageError for those that cannot work.
  void configure();
  /// Cuts the table, when module and callbacks are known.
  void compile();
  /// What is trained may have changed. Collective.
  void refresh();
  void begin_epoch(bool is_in_its_middle);
  void end_epoch() { outputs_.clear(); }

  /// See Replica.
  AfterBatch train_batch(Batch batch, int64_t batch_idx, bool is_last, std::optional<int64_t> samples_of_all);
  void train_without_batch(int64_t batch_idx, bool is_last, int64_t samples_of_all);
  /// See RunContext.
  void toggle(std::size_t index);
  void untoggle();
  void manual_backward(const torch::Tensor& loss);
  void step_optimizer(std::size_t index, const OptimizerClosure& closure);
  void set_accumulate_grad_batches(int64_t batches);

  const StepCapture& capture() const { return pass_.capture(); }
  /// Of the epoch so far, a list for each optimizer.
  const EpochOutputs& outputs() const { return outputs_; }
  /// The core's progress for a checkpoint: one that a hook at a batch's end asks for has that batch behind it.
  Progress saved_progress() const;

  // --- State (train_stepper_state.cpp) ---

  LossScaling& scaling() { return scaling_; }
  nlohmann::json recent_losses() const;
  void restore_recent_losses(const nlohmann::json& saved);
  /// Whether the gradients in a state are a rank's parts of averages (zero, zero2, fsdp), of which others have the
  /// rest.
  static bool hold_parts(const Checkpoint& state);
  /// Gradients that wait for further batches before a step is made of them, with where their windows stand.
  void append_windows(Checkpoint& checkpoint) const;
  /// Throws UsageError for a state that does not fit.
  void restore_windows(const Checkpoint& state);
  /// The same of a state whose gradients are parts, of which `states` of all ranks have the rest.
  void restore_windows_of_parts(const Checkpoint& own, const std::vector<Checkpoint>& states);
  /// Of a run with other ranks: `states` of all of them. The windows go on with the sum of their gradients.
  void restore_windows_of_all(const std::vector<Checkpoint>& states);

 private:
  TrainStep begin_step(int64_t batch_idx, bool is_last);
  bool begin_batch(Batch& batch, int64_t batch_idx, int64_t batch_size);
  void end_batch(const Batch& batch, int64_t batch_idx, int64_t batch_size);
  void count_batch();
  void run_chunks(TrainStep& step, const Batch& batch);
  void run_optimizers(TrainStep& step);
  std::size_t optimizer_of_turn(int64_t window) const;
  // train_stepper_steps.cpp
  void step_if_due(TrainStep& step, OptimizerTrack& track);
  void finish_gradients(std::size_t index);
  bool leaves_out(std::size_t index);
  void step_automatically(TrainStep& step, OptimizerTrack& track);
  void clip(std::size_t index);
  void gather_parameters(std::size_t index);
  void count_step(std::size_t index);
  void call_before_step(std::size_t index);
  void refuse_unless_manual(const char* what) const;
  void make_step(std::size_t index, const OptimizerClosure& closure);

  ReplicaCore& core_;
  MetricBoard& board_;
  Schedules& schedules_;
  GradientSync& sync_;
  BatchSizes& sizes_;
  LossScaling scaling_;
  BatchPass pass_;
  OptimizerToggle toggle_;

  HookProgram before_;                     // once per batch
  HookProgram step_;                       // after a pass
  bool has_before_step_ = false;           // on_before_optimizer_step
  bool has_end_ = false;                   // on_train_batch_end
  std::vector<OptimizerTrack> tracks_;     // of each optimizer; one if there is none
  std::vector<StepOutput> batch_outputs_;  // of each optimizer, for on_train_batch_end
  EpochOutputs outputs_;
  bool batch_stepped_ = false;
  bool is_at_batch_end_ = false;  // in its hooks: the batch is trained on, and not counted yet
};

}  // namespace troupe
