// What a step does beside LibTorch's operators, for a step that is recorded (trainer.capture_step).
#pragma once

#include <torch/types.h>

#include <functional>
#include <string>
#include <vector>

namespace troupe {

/// Whoever records a step hears here of what its replay has to do beside the operators that it sees for itself: a
/// metric that is updated, a value that is logged, a generator's state that is put back. The recorder of a thread;
/// there is none most of the time. What a replay cannot do makes the step one that is not captured.
class StepRecorder {
 public:
  /// Called again in each replay with the tensors of that time, in the place of `inputs`; fills in what it returned.
  using Again = std::function<std::vector<torch::Tensor>(const std::vector<torch::Tensor>& inputs)>;

  /// Of this thread; null if nothing is recorded, and within a call that is recorded as a whole.
  static StepRecorder* current();

  /// Does `again` now, with `inputs`, and notes it as one thing that a replay does at this place. Operators within it
  /// are not seen. Returns what it returned. `is_inner`: it changes nothing that is seen outside of the step, so that
  /// who compares a step with its replay may do it once more.
  virtual std::vector<torch::Tensor> call(std::string name, const std::vector<torch::Tensor>& inputs, Again again,
                                          bool is_inner = false) = 0;
  /// The same for what returns nothing.
  void call_without_result(std::string name, const std::vector<torch::Tensor>& inputs,
                           std::function<void(const std::vector<torch::Tensor>& inputs)> again, bool is_inner = false);
  /// The step cannot be captured: `reason` says why, as a sentence without a stop.
  virtual void refuse(std::string reason) = 0;

 protected:
  StepRecorder() = default;
  ~StepRecorder() = default;
  /// Makes `recorder` the thread's; returns the one before.
  static StepRecorder* set_current(StepRecorder* recorder);
};

/// Says to the thread's recorder, if there is one, that what is done now is not done again in a replay.
inline void refuse_capture(const char* reason) {
  if (StepRecorder* recorder = StepRecorder::current()) recorder->refuse(reason);
}

}  // namespace troupe
