// Logs how fast training is.
#pragma once

#include "troupe/modules/callback.hpp"

#include <chrono>
#include <cstdint>
#include <deque>

namespace troupe {

/// Logs "train/batches_per_sec" and "train/samples_per_sec" over the last `window_size` batches, or those since the
/// latest validation, as often as metrics are written (log_every_n_steps). With several ranks they are those of the
/// whole run: rank zero's times the number of ranks, which have equally many if the Trainer divides the data.
/// Lightning's ThroughputMonitor
/// (https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.ThroughputMonitor.html), without its
/// counts of floating-point operations.
class ThroughputMonitor : public Callback {
 public:
  /// Throws UsageError for a window below 2.
  explicit ThroughputMonitor(int64_t window_size = 100);
  void on_train_epoch_start(RunContext& run, Module& module) override;
  void on_train_batch_end(RunContext& run, Module& module, const StepOutput& output, const Batch& batch,
                          int64_t batch_idx) override;
  void on_validation_end(RunContext& run, Module& module) override;

 private:
  struct Mark {
    std::chrono::steady_clock::time_point time;
    int64_t batches, samples;  // since the epoch began
  };
  int64_t window_size_;
  std::deque<Mark> marks_;
};

}  // namespace troupe
