#include "troupe/runtime/loops/validation_plan.hpp"

#include "troupe/base/failure.hpp"

#include <algorithm>
#include <cmath>

namespace troupe {

ValidationPlan::ValidationPlan(const TrainerOptions& options, std::optional<int64_t> train_batches, bool has_validation)
    : every_epoch_(options.check_val_every_n_epoch), enabled_(has_validation) {
  const Interval& amount = options.val_check_interval;
  if (amount.is_time()) enabled_ = false;
  if (!enabled_) return;
  if (amount.is_count()) {
    interval_ = amount.count();
    if (every_epoch_ && train_batches && *interval_ > *train_batches) {
      throw UsageError("trainer.val_check_interval = " + amount.to_text() + " is more than the " +
                       std::to_string(*train_batches) +
                       " training batches of an epoch; use at most that, or set check_val_every_n_epoch to none");
    }
  } else if (amount.fraction() < 1.0) {
    if (!train_batches) {
      throw UsageError("trainer.val_check_interval = " + amount.to_text() +
                       " is a fraction of an epoch of unknown length; use a count, or 1.0");
    }
    interval_ = std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(*train_batches) * amount.fraction()));
  }
}

bool ValidationPlan::epoch_counts(int64_t epoch) const {
  return !every_epoch_ || (epoch + 1) % *every_epoch_ == 0;
}

std::optional<int64_t> ValidationPlan::next(int64_t epoch, int64_t batch_idx, int64_t total_batches) const {
  if (!enabled_ || !interval_ || !epoch_counts(epoch)) return std::nullopt;
  const int64_t done = every_epoch_ ? batch_idx : total_batches;
  return batch_idx + *interval_ - done % *interval_;
}

bool ValidationPlan::is_due(int64_t epoch, int64_t batch_idx, int64_t total_batches, bool epoch_over) const {
  if (!enabled_ || !epoch_counts(epoch)) return false;
  if (!interval_) return epoch_over;
  const int64_t done = every_epoch_ ? batch_idx : total_batches;
  return done > 0 && done % *interval_ == 0;
}

}  // namespace troupe
