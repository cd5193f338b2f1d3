#include "troupe/modules/support/step_recorder.hpp"

#include <utility>

namespace troupe {

namespace {

thread_local StepRecorder* recorder_of_thread = nullptr;

}  // namespace

StepRecorder* StepRecorder::current() {
  return recorder_of_thread;
}

StepRecorder* StepRecorder::set_current(StepRecorder* recorder) {
  return std::exchange(recorder_of_thread, recorder);
}

}  // namespace troupe
