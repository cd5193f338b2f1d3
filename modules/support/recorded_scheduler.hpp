// A scheduler as a step that is recorded gets it.
#pragma once

#include "troupe/modules/optim/lr_scheduler.hpp"
#include "troupe/modules/support/step_recorder.hpp"

#include <memory>
#include <utility>

namespace troupe {

/// What the call of a scheduler's step is named in a recording.
inline constexpr const char* scheduler_call = "step of lr_scheduler";

/// Steps another one, and says so to the thread's recorder, so that each replay steps it. Module::lr_schedulers()
/// returns these while a step is recorded.
class RecordedScheduler final : public LRScheduler {
 public:
  explicit RecordedScheduler(std::shared_ptr<LRScheduler> stepped)
      : LRScheduler(stepped->optimizer()), stepped_(std::move(stepped)) {}

  void step() override {
    StepRecorder* recorder = StepRecorder::current();
    if (!recorder) return stepped_->step();
    recorder->call_without_result(scheduler_call, {}, [stepped = stepped_](const auto&) { stepped->step(); });
  }
  void step(double metric) override {
    refuse_capture("an lr_scheduler is given a number of the host, which a replay has no new one of");
    stepped_->step(metric);
  }
  bool needs_metric() const override { return stepped_->needs_metric(); }
  nlohmann::json state_dict() const override { return stepped_->state_dict(); }
  void load_state_dict(const nlohmann::json& state) override { stepped_->load_state_dict(state); }

 private:
  std::shared_ptr<LRScheduler> stepped_;
};

}  // namespace troupe
