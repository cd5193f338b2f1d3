// Logs the learning rates.
#pragma once

#include "troupe/modules/callback.hpp"
#include "troupe/modules/options/choices.hpp"

namespace troupe {

/// When learning rates are logged.
enum class LoggingInterval {
  automatic,  ///< as each scheduler moves on; by steps if the optimizer has none
  step,       ///< before each batch
  epoch,      ///< at the beginning of each epoch
};
TROUPE_CHOICES(LoggingInterval, {automatic, "auto"}, {step, "step"}, {epoch, "epoch"})

/// Names and meanings are Lightning's
/// (https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.LearningRateMonitor.html).
struct LearningRateMonitorOptions {
  LoggingInterval logging_interval = LoggingInterval::automatic;
  /// Also the momentum (the first of Adam's betas), as "<name>-momentum".
  bool log_momentum = false;
};

/// Logs the rate of each optimizer's groups before a batch, or at the beginning of an epoch: "lr-Adam", with several
/// groups "lr-Adam/pg1" and so on; LRSchedulerConfig::name wins over "lr-Adam". Optimizers without a scheduler are
/// logged too. Further optimizers of a class are "lr-Adam-1" and so on, in the order of configure_optimizers; Lightning
/// numbers those with a scheduler first, so its names differ if only a later one has a scheduler.
class LearningRateMonitor : public Callback {
 public:
  explicit LearningRateMonitor(LearningRateMonitorOptions options = {}) : options_(options) {}
  void on_train_epoch_start(RunContext& run, Module& module) override;
  void on_train_batch_start(RunContext& run, Module& module, const Batch& batch, int64_t batch_idx) override;

 private:
  void log(RunContext& run, bool by_step) const;
  LearningRateMonitorOptions options_;
};

}  // namespace troupe
