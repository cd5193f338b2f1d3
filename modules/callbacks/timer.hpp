// Measures a run, and ends it after a time.
#pragma once

#include "troupe/modules/callback.hpp"
#include "troupe/modules/options/choices.hpp"

#include <chrono>
#include <optional>
#include <string>

namespace troupe {

enum class TimerInterval { step, epoch };
TROUPE_CHOICES(TimerInterval, {step, "step"}, {epoch, "epoch"})

/// Names and meanings are Lightning's
/// (https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.Timer.html).
struct TimerOptions {
  /// Training longer than this ends; unset: it only measures. It counts on over resumed runs, which `max_time` does
  /// not.
  std::optional<std::chrono::milliseconds> duration = std::nullopt;
  /// When the time is looked at: after each batch, or each epoch.
  TimerInterval interval = TimerInterval::step;
};

class Timer : public Callback {
 public:
  /// Throws UsageError for a negative duration.
  explicit Timer(TimerOptions options = {});

  /// Time spent in a stage ("fit" with its validations), including earlier runs if one was resumed.
  std::chrono::duration<double> time_elapsed(Stage stage = Stage::fit) const;
  /// Until `duration`; nothing without one.
  std::optional<std::chrono::duration<double>> time_remaining() const;

  std::string state_key() const override;
  nlohmann::json state_dict() const override;
  void load_state_dict(const nlohmann::json& state) override;
  void setup(RunContext& run, Module& module, Stage stage) override;
  void teardown(RunContext& run, Module& module, Stage stage) override;
  void on_train_start(RunContext& run, Module& module) override;
  void on_train_batch_end(RunContext& run, Module& module, const StepOutput& output, const Batch& batch,
                          int64_t batch_idx) override;
  void on_train_epoch_end(RunContext& run, Module& module) override;

 private:
  using Clock = std::chrono::steady_clock;
  void check(RunContext& run) const;

  TimerOptions options_;
  double before_[4] = {};  // seconds of each stage in earlier runs
  std::optional<Clock::time_point> start_;
  Stage stage_ = Stage::fit;
};

}  // namespace troupe
