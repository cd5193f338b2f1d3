#include "troupe/modules/support/step_recorder.hpp"

#include <utility>

namespace troupe {

namespace {

thread_local StepRecorder* recorder_of_thread = nullptr;

}  // namespace

void StepRecorder::call_without_result(std::string name, const std::vector<torch::Tensor>& inputs,
                                       std::function<void(const std::vector<torch::Tensor>& inputs)> again,
                                       bool is_inner) {
  const auto returning_nothing = [again = std::move(again)](const std::vector<torch::Tensor>& given) {
    again(given);
    return std::vector<torch::Tensor>();
  };
  (void)call(std::move(name), inputs, returning_nothing, is_inner);
}

StepRecorder* StepRecorder::current() {
  return recorder_of_thread;
}

StepRecorder* StepRecorder::set_current(StepRecorder* recorder) {
  return std::exchange(recorder_of_thread, recorder);
}

}  // namespace troupe
