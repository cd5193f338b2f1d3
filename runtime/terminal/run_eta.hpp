// How long a training run has still to go.
#pragma once

#include "troupe/modules/options/trainer_options.hpp"
#include "troupe/modules/progress.hpp"

#include <cstdint>
#include <optional>

namespace troupe {

/// The speed of the last batches. What was slow at the beginning (a step that is captured, loaders that start) soon
/// counts for nothing: a batch's weight falls by half in a sixth of the time so far, at least in one and at most in 30
/// seconds.
class MovingRate {
 public:
  /// `batches` were finished at `seconds`, of any clock that does not go back.
  void update(double seconds, int64_t batches);
  /// Nothing in the first second after the first update.
  std::optional<double> batches_per_second() const;

 private:
  struct Moment {
    double seconds = 0;
    int64_t batches = 0;
  };
  std::optional<Moment> last_;
  double time_ = 0, batches_ = 0;  // weighted
  double seconds_seen_ = 0;
};

/// Estimates the seconds until the end of a fit, for the progress bar and the run's page; used by one thread, which
/// tells it what it saw.
///
/// Training goes on at the pace of the last batches, and each validation takes as long as those so far on average (the
/// first one is not known before it was there). Whichever of max_epochs, max_steps and max_time comes first is the end;
/// max_time waits for min_epochs and min_steps.
class RunEta {
 public:
  /// Expects resolved options. The time counts from `seconds` on; `train_batches` are those of an epoch, if they can
  /// be counted.
  RunEta(const TrainerOptions& options, double seconds, std::optional<int64_t> train_batches);

  /// After a training batch, now and then.
  void trained(double seconds, const Progress& progress);
  /// A validation of `duration` seconds, or a part of it (one of several loaders), has ended.
  void validated(double duration, const Progress& progress);

  /// Of training alone, validations left out.
  std::optional<double> batches_per_second() const { return rate_.batches_per_second(); }
  /// Nothing while the speed is unknown, and if nothing says how many batches there will be (a stream, max_epochs = -1)
  /// nor how long the run may take.
  std::optional<double> seconds_left() const;
  /// Training batches of the whole run, those that a checkpoint says were made included; nothing if nobody knows.
  std::optional<int64_t> total_batches() const;

 private:
  std::optional<double> batches_until_epoch(int64_t epoch) const;
  double batches_until_step(int64_t step) const;
  std::optional<double> batches_left() const;
  double validations_in(double batches) const;
  std::optional<double> seconds_for(double batches) const;
  std::optional<double> seconds_until_max_time() const;

  std::optional<int64_t> max_epochs_, train_batches_;
  int64_t max_steps_ = -1, min_epochs_ = 0, min_steps_ = 0;
  std::optional<double> end_;                  // by max_time
  std::optional<double> between_validations_;  // batches
  MovingRate rate_;
  double now_ = 0;
  Progress progress_;
  double batches_per_step_ = 1;
  double validation_seconds_ = 0;
  int64_t validations_ = 0;
  std::optional<int64_t> validated_at_;  // in batches of all epochs; before the first validation: the run's beginning
};

}  // namespace troupe
