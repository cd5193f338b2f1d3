// Validation, test and prediction: their batches, outputs and results.
#pragma once

#include "troupe/modules/batch.hpp"
#include "troupe/modules/step_output.hpp"
#include "troupe/runtime/replica/batch_sizes.hpp"
#include "troupe/runtime/replica/hook_program.hpp"
#include "troupe/runtime/replica/metric_board.hpp"
#include "troupe/runtime/replica/random_states.hpp"
#include "troupe/runtime/replica/replica_core.hpp"
#include "troupe/runtime/replica/step_capture.hpp"
#include "troupe/runtime/sinks/prediction_file.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// One evaluation after the other, each from begin() to end(), by itself or in the middle of a training. Batches go
/// through the program of their stage's table, without gradients. Used by the worker's thread; what user code throws
/// passes through.
class Evaluation {
 public:
  Evaluation(ReplicaCore& core, MetricBoard& board, BatchSizes& sizes)
      : core_(core), board_(board), sizes_(sizes), capture_(core, StepCapture::Kind::evaluation) {}
  Evaluation(const Evaluation&) = delete;
  Evaluation& operator=(const Evaluation&) = delete;

  void begin(Stage stage, bool is_sanity_check);
  /// The evaluation ends before all of its data was seen: nothing that it logs from now on is kept.
  void cut();
  void batch(Batch batch, int64_t batch_idx, int64_t dataloader_idx);
  /// Metrics that an epoch's end has brought.
  void add_results(const std::vector<LoggedValue>& values);
  /// Metrics of each loader's evaluation, then a fresh start.
  std::vector<MetricMap> end();
  /// See RunContext.
  void write_prediction(std::string_view name, const torch::Tensor& value, const std::string& filename);

  bool is_running() const { return is_running_; }
  bool is_sanity_check() const { return is_sanity_check_; }
  /// Whether it is known from this one what a validation logs: neither a sanity check nor cut.
  bool counts() const { return !is_sanity_check_ && !is_cut_; }
  bool had_batches() const { return had_batches_; }
  /// Of the evaluation so far, a list for each loader.
  const EpochOutputs& outputs() const { return outputs_; }
  /// The outputs of predict_step, a list for each loader.
  EpochOutputs take_predictions() { return std::move(predictions_); }

  /// Steps that are replayed.
  const StepCapture& capture() const { return capture_; }

  /// Where the latest one began, for a run that makes it up: random states (of a fit; else none) and batches so far.
  const NamedTensors& random_states_before() const { return random_states_before_; }
  int64_t batches_before() const { return batches_before_; }

 private:
  StepOutput call_step(Module& module, const Batch& batch, int64_t batch_idx, int64_t dataloader_idx);
  StepOutput compute_output(const Batch& batch, int64_t batch_idx, int64_t dataloader_idx);
  StepOutput compute_whole(const Batch& batch, int64_t batch_idx, int64_t dataloader_idx);
  StepOutput compute_on_shards(const Batch& batch, int64_t batch_idx, int64_t dataloader_idx);
  StepOutput call_end(const std::vector<StepOutput>& outputs);
  Hook end_hook() const;
  bool has_end_hook() const;
  void configure_capture();
  void keep_output(StepOutput output, int64_t dataloader_idx);

  ReplicaCore& core_;
  MetricBoard& board_;
  BatchSizes& sizes_;
  StepCapture capture_;
  Stage stage_ = Stage::validate;
  HookProgram program_;
  EpochOutputs outputs_, predictions_;
  PredictionFiles prediction_files_;
  std::vector<MetricMap> results_;
  NamedTensors random_states_before_;
  int64_t batches_before_ = 0;  // of CurveAxis
  int64_t loader_ = 0;
  bool is_running_ = false;
  bool is_sanity_check_ = false;
  bool is_cut_ = false;
  bool had_batches_ = false;
  bool warned_of_outputs_ = false;
};

}  // namespace troupe
