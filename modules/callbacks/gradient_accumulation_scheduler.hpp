// Changes the gradient accumulation by epoch.
#pragma once

#include "troupe/modules/callback.hpp"

#include <cstdint>
#include <map>

namespace troupe {

/// `{{0, 8}, {4, 4}, {8, 1}}`: 8 batches a step from epoch 0 on, 4 from epoch 4, each for itself from epoch 8
/// (https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.GradientAccumulationScheduler.html).
/// Before its first epoch the Trainer's accumulate_grad_batches counts, which must be 1.
class GradientAccumulationScheduler : public Callback {
 public:
  /// Throws UsageError for no entry, a negative epoch and a count below 1.
  explicit GradientAccumulationScheduler(std::map<int64_t, int64_t> scheduling);
  std::shared_ptr<Callback> replicate() const override {
    return std::make_shared<GradientAccumulationScheduler>(*this);
  }
  bool has_batch_hooks() const override { return false; }
  /// Batches of a step from each epoch on.
  const std::map<int64_t, int64_t>& scheduling() const { return scheduling_; }
  void on_fit_start(RunContext& run, Module& module) override;
  void on_train_epoch_start(RunContext& run, Module& module) override;

 private:
  std::map<int64_t, int64_t> scheduling_;
};

}  // namespace troupe
