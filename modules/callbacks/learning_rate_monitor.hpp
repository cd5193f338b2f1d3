// Logs the learning rates.
#pragma once

#include "troupe/modules/callback.hpp"

#include <string>

namespace troupe {

/// Names and meanings are Lightning's
/// (https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.LearningRateMonitor.html).
struct LearningRateMonitorOptions {
  /// "step", "epoch", or empty: as each scheduler moves on (by steps if the optimizer has none).
  std::string logging_interval = "";
  /// Also the momentum (the first of Adam's betas), as "<name>-momentum".
  bool log_momentum = false;
};

/// Logs the rate of each optimizer's groups before a batch, or at the beginning of an epoch: "lr-Adam", with several
/// groups "lr-Adam/pg1" and so on; LRSchedulerConfig::name wins over "lr-Adam". Optimizers without a scheduler are
/// logged too. Further optimizers of a class are "lr-Adam-1" and so on, in the order of configure_optimizers; Lightning
/// numbers those with a scheduler first, so its names differ if only a later one has a scheduler.
class LearningRateMonitor : public Callback {
 public:
  /// Throws UsageError for another interval.
  explicit LearningRateMonitor(LearningRateMonitorOptions options = {});
  void on_train_epoch_start(RunContext& run, Module& module) override;
  void on_train_batch_start(RunContext& run, Module& module, const Batch& batch, int64_t batch_idx) override;

 private:
  void log(RunContext& run, bool by_step) const;
  LearningRateMonitorOptions options_;
};

}  // namespace troupe
