// Training steps that are recorded, and replayed from then on (trainer.capture_step).
#pragma once

#include "troupe/modules/batch.hpp"
#include "troupe/modules/captured_steps.hpp"
#include "troupe/modules/step_output.hpp"
#include "troupe/runtime/capture/program.hpp"
#include "troupe/runtime/capture/recording.hpp"
#include "troupe/runtime/replica/replica_core.hpp"
#include "troupe/runtime/replica/train_step.hpp"

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace troupe {

/// Decides for each pass whether it is computed the plain way, recorded or replayed, and keeps the programs. A pass is
/// forward and backward of one optimizer, from training_step to the gradients; hooks, clipping and the optimizer's step
/// stand around it as always. There is a program for each shape of batches, optimizer and place in a window of
/// accumulation (gradients are there already, or not). Two passes of a kind are recorded, as ordinary ones; if they did
/// the same, the third and all further ones are replays.
///
/// Used by the worker's thread.
class StepCapture {
 public:
  enum class Way { plain, record, replay };
  /// What a pass is besides its batch.
  struct Pass {
    const TrainStep& step;
    const StepOutput& hiddens;
    bool opens_window = true;
    double weight = 1;  ///< of its loss
  };

  enum class Kind {
    training,
    evaluation,
    function,  ///< of Fabric::capture: with one backward pass or none, and steps of optimizers behind it
  };

  StepCapture(ReplicaCore& core, Kind kind);
  ~StepCapture();
  StepCapture(const StepCapture&) = delete;
  StepCapture& operator=(const StepCapture&) = delete;

  /// When module, callbacks and optimizers are known. `step`: the name of the hook. `keeps_outputs`: somebody looks at
  /// what a step returned after the next one. Throws UsageError if training steps have to be captured and cannot be.
  void configure(std::string_view step, bool keeps_outputs, bool keeps_loss);
  bool is_on() const { return is_on_; }
  /// What is trained may have changed.
  void refresh();

  /// What becomes of this pass. Throws UsageError if it has to be captured and cannot be.
  Way begin(const Pass& pass);
  Way way() const { return way_; }

  /// The same for a batch of an evaluation, from data loader `loader`, which ends with end_evaluation().
  Way begin_evaluation(const Batch& batch, int64_t loader);

  // --- A pass that is recorded ---

  /// Null if nothing is recorded.
  capture::Recorder* recorder() { return way_ == Way::record ? &*recorder_ : nullptr; }
  /// The batch and the hiddens to record with, in memory that replays read.
  const Batch& batch() const { return current_->batch; }
  const StepOutput& hiddens() const { return current_->hiddens; }
  /// The loss as it enters the window; the weight is a number that replays can change.
  torch::Tensor weighted(const torch::Tensor& loss, double weight);
  void end_forward(const StepOutput& output, const torch::Tensor& loss);
  void end_evaluation(const StepOutput& output);
  /// The same of a function, whose outputs are known at its end alone.
  void end_forward(const torch::Tensor& loss);
  void begin_backward();
  void end_backward();
  /// Says of each gradient that was recorded that it is final, in the order of the backward pass, to those who average.
  /// Within run_as_backward().
  void announce_recorded();
  /// Of a function, when its backward pass is over, and when it has returned. In between it may step optimizers and do
  /// other things that StepRecorder::call() notes, but compute nothing. Without a backward pass: end_evaluation().
  void end_function_backward();
  void end_function(const StepOutput& output);

  // --- A pass that is replayed ---

  /// Fills in output and loss of the step; `unweighted` is what training_step returned.
  void replay_forward(TrainStep& step, double weight);
  StepOutput replay_evaluation();
  const torch::Tensor& unweighted_loss() const { return current_->unweighted; }
  /// `announces`: says of each gradient when it is final, to those who average; then within run_as_backward().
  void replay_backward(bool announces);
  /// Of a function: whether it has a backward pass, and what it does behind that.
  bool has_backward() const { return current_->program->stretches() > 2; }
  void replay_rest();

  // --- A step with manual optimization, which has all of its passes and steps within training_step ---

  /// `what` is done now, and, if the step is recorded, at this place of each replay, with the tensors of that time:
  /// hooks, what an optimizer does. It finds the gradients, and may change and drop them.
  void call(std::string name, const std::vector<torch::Tensor>& inputs,
            std::function<void(const std::vector<torch::Tensor>& inputs)> what);
  /// The same for the step of an optimizer.
  void call_step(std::size_t optimizer, std::function<void()> what);
  void end_manual(const StepOutput& output);
  void replay_manual(TrainStep& step);

  /// What has been captured so far.
  const CapturedSteps& report() const { return report_; }
  /// The programs as text, an operator per line.
  std::string to_text() const;

 private:
  struct Shape {
    torch::ScalarType type;
    std::vector<int64_t> sizes, strides;
  };
  struct Kept {
    torch::Tensor parameter;
    torch::Tensor gradient;   // what it is after a replay
    bool was_there = false;   // before the backward pass; with manual optimization: the step reads what was there
    std::size_t stretch = 0;  // of the program, after which it is final
  };
  struct Entry {
    // What it is for.
    std::size_t optimizer = 0;
    bool opens_window = true;
    bool has_weight = false;
    uint64_t state = 0;
    std::vector<Shape> shapes;
    // Memory that replays read.
    Batch batch;
    StepOutput hiddens;
    std::vector<torch::Tensor> inputs;  // of both
    // How far it is.
    std::optional<capture::Recording> first;
    std::vector<bool> first_had_gradient;
    std::unique_ptr<capture::Program> program;
    std::optional<capture::Recording> recording;  // of the program, if it is to be checked
    int replaced = 0;                             // how often the module had another tensor in the place of one
    int64_t passes = 0;                           // since it was made
    std::string refusal;
    // Of the program.
    std::vector<std::string> output_names;
    torch::Tensor unweighted, loss;
    StepOutput output;
    std::vector<Kept> gradients;
    std::optional<std::size_t> in_report;  // the latest program's place, and the replays of those before
    int64_t replays_before = 0;
    std::optional<int64_t> kind;  // that the module says
    // With manual optimization.
    uint64_t begins_with = 0;                               // which parameters have gradients
    std::unordered_map<std::size_t, torch::Tensor> places;  // of gradients, by their memory
  };
  struct Manual;

  bool is_for(const Entry& entry, const Pass& pass, const std::vector<const torch::Tensor*>& tensors) const;
  Entry& make_entry(const Pass& pass, const std::vector<const torch::Tensor*>& tensors);
  bool has_room_for(const Pass& pass, std::optional<int64_t> kind, uint64_t begins_with);
  void forget_program(Entry& entry);
  std::string reason_against(const Pass& pass, const std::vector<const torch::Tensor*>& tensors) const;
  std::string reason_against_run() const;
  uint64_t state_of_module() const;
  void begin_recording(const Pass& pass);
  void end_recording();
  void compute_ahead(std::size_t first, std::size_t last);
  void run_ahead(std::size_t first, std::size_t last);
  void compare(std::size_t number, const std::string& name, const std::vector<torch::Tensor>& results) const;
  void end_check(const capture::Recording& recording);
  void keep_output(const StepOutput& output);
  void note_gradients();
  /// The name of an option, as whoever reads a message may set it.
  std::string option(std::string_view name) const;
  StepOutput kept_output() const;
  void place_gradients(capture::Recording& recording, capture::ProgramRequest& request);
  void make_program(capture::Recording& recording);
  std::size_t bytes_of_gradients(const std::function<bool(std::size_t)>& is_old) const;
  torch::Tensor home_of(std::size_t parameter, std::size_t which = 0);
  static void put_into_bucket(const torch::Tensor& parameter, const torch::Tensor& original);
  void order_gradients(const capture::Recording& recording);
  void fill(const std::vector<const torch::Tensor*>& tensors);
  void refuse(Entry* entry, const std::string& reason);
  void say_captured(Entry& entry);
  // step_capture_manual.cpp
  bool is_manual() const;
  std::optional<int64_t> kind_of(const TrainStep& step) const;
  void begin_manual();
  uint64_t gradients_there() const;
  bool is_recording() const { return way_ == Way::record && recorder_->is_resumed(); }
  bool is_home(const torch::Tensor& tensor) const;
  void follow_gradients();
  void note_state();
  std::string state_of_host() const;
  std::string reason_against_manual(const capture::Recording& recording) const;
  void make_manual_program(capture::Recording& recording);
  void keep_results();
  void compute_manual_ahead(std::size_t stretch);

  ReplicaCore& core_;
  const Kind kind_;
  std::string step_;
  bool is_on_ = false;
  bool keeps_outputs_ = false, keeps_loss_ = false;
  bool is_checked_ = false;  // the pass
  Way way_ = Way::plain;
  Entry* current_ = nullptr;
  std::vector<std::unique_ptr<Entry>> entries_;
  std::optional<capture::Recorder> recorder_;
  std::vector<std::vector<torch::Tensor>> homes_;  // of each parameter: where its gradients lie after a replay
  torch::Tensor weight_;                           // a number without dimensions, as LibTorch makes one of a double
  std::vector<torch::Tensor> parameters_, buffers_;
  std::vector<const torch::nn::Module*> modules_;
  std::unique_ptr<Manual> manual_;  // of the pass that is recorded, with manual optimization
  // Of the pass that is checked: the results of the program, by the number of the operator.
  std::unordered_map<std::size_t, std::vector<torch::Tensor>> ahead_;
  // Of the pass that is recorded.
  std::vector<capture::View> output_views_;
  std::optional<capture::View> loss_view_;
  std::vector<bool> had_gradient_;
  std::vector<torch::Tensor> originals_;  // gradients that were elsewhere
  std::vector<std::optional<capture::View>> gradient_views_;
  std::vector<std::pair<std::size_t, std::size_t>> gradient_order_;  // last operator, parameter
  std::vector<const torch::Tensor*> tensors_;                        // kept for its memory
  CapturedSteps report_;
};

/// Whether memory of that many bytes, which is looked at so, may lie in the place of `home`.
bool is_laid_out_like(const torch::Tensor& home, const capture::View& view, std::size_t bytes);

}  // namespace troupe
