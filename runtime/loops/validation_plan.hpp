// When validation is due during training.
#pragma once

#include "troupe/modules/options/trainer_options.hpp"

#include <cstdint>
#include <optional>

namespace troupe {

/// val_check_interval and check_val_every_n_epoch, worked out for an epoch of known or unknown length. As in Lightning
/// a fraction is of the epoch's batches (at least one), a count is of batches; with check_val_every_n_epoch none it is
/// counted over epoch boundaries. A time is the run's to look at (RunState::look_at_times): nothing is planned then.
class ValidationPlan {
 public:
  /// Throws UsageError for an interval longer than the epoch, and for a fraction of a stream of unknown length (1.0, at
  /// its end, excepted).
  ValidationPlan(const TrainerOptions& options, std::optional<int64_t> train_batches, bool has_validation);

  /// The number of finished batches of this epoch at which the next validation is due; nothing when none is before its
  /// end.
  std::optional<int64_t> next(int64_t epoch, int64_t batch_idx, int64_t total_batches) const;
  /// Whether validation is due after `batch_idx` finished batches; `epoch_over` when the data came to its end there.
  bool is_due(int64_t epoch, int64_t batch_idx, int64_t total_batches, bool epoch_over) const;

 private:
  bool epoch_counts(int64_t epoch) const;

  std::optional<int64_t> interval_;     // in batches; nothing: at the epoch's end
  std::optional<int64_t> every_epoch_;  // nothing: counted over epochs
  bool enabled_ = false;
};

}  // namespace troupe
