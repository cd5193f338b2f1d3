#include "troupe/runtime/terminal/run_eta.hpp"

#include <algorithm>
#include <cmath>

namespace troupe {

namespace {

constexpr double kShortestHalf = 1, kLongestHalf = 30;  // seconds in which a batch's weight falls by half
constexpr double kHalfOfTime = 1.0 / 6;
constexpr double kLeastSeconds = 1;
constexpr int64_t kStepsToMeasure = 10;  // several optimizers make several steps with a batch

std::optional<double> batches_between_validations(const TrainerOptions& options, std::optional<int64_t> train_batches) {
  const Interval& interval = options.val_check_interval;
  if (interval.is_time()) return std::nullopt;
  if (!options.check_val_every_n_epoch) {
    if (interval.is_count()) return static_cast<double>(interval.count());
    if (!train_batches) return std::nullopt;
    return interval.fraction() * static_cast<double>(*train_batches);
  }
  if (!train_batches) return std::nullopt;
  const auto batches = static_cast<double>(*train_batches);
  const double wanted = interval.is_count() ? static_cast<double>(interval.count()) : interval.fraction() * batches;
  const double in_epoch = wanted >= 1 ? std::max(1.0, std::floor(batches / wanted)) : 1;
  return batches / in_epoch * static_cast<double>(std::max<int64_t>(1, *options.check_val_every_n_epoch));
}

}  // namespace

void MovingRate::update(double seconds, int64_t batches) {
  if (last_ && seconds > last_->seconds && batches >= last_->batches) {
    const double passed = seconds - last_->seconds;
    seconds_seen_ += passed;
    const double half = std::clamp(seconds_seen_ * kHalfOfTime, kShortestHalf, kLongestHalf);
    const double kept = std::exp2(-passed / half);
    time_ = time_ * kept + passed;
    batches_ = batches_ * kept + static_cast<double>(batches - last_->batches);
  }
  last_ = Moment{seconds, batches};
}

std::optional<double> MovingRate::batches_per_second() const {
  if (seconds_seen_ < kLeastSeconds || batches_ <= 0) return std::nullopt;
  return batches_ / time_;
}

RunEta::RunEta(const TrainerOptions& options, double seconds, std::optional<int64_t> train_batches)
    : train_batches_(train_batches),
      max_steps_(options.max_steps),
      min_epochs_(options.min_epochs.value_or(0)),
      min_steps_(options.min_steps.value_or(0)),
      between_validations_(batches_between_validations(options, train_batches)),
      now_(seconds),
      batches_per_step_(static_cast<double>(options.accumulate_grad_batches)) {
  if (options.max_epochs.value_or(-1) >= 0) max_epochs_ = options.max_epochs;
  if (const auto max_time = max_time_of(options)) end_ = seconds + std::chrono::duration<double>(*max_time).count();
}

void RunEta::trained(double seconds, const Progress& progress) {
  now_ = seconds;
  progress_ = progress;
  if (!validated_at_) validated_at_ = progress.total_batches;
  rate_.update(seconds - validation_seconds_, progress.total_batches);
}

void RunEta::validated(double duration, const Progress& progress) {
  validation_seconds_ += duration;
  now_ += duration;
  if (validations_ == 0 || validated_at_ != progress.total_batches) ++validations_;
  validated_at_ = progress.total_batches;
}

// Nothing if nobody knows how many batches an epoch has.
std::optional<double> RunEta::batches_until_epoch(int64_t epoch) const {
  const int64_t epochs = epoch - progress_.epoch;
  if (epochs <= 0) return 0;
  if (!train_batches_) return std::nullopt;
  const double batches = static_cast<double>(epochs) * static_cast<double>(*train_batches_);
  return std::max(0.0, batches - static_cast<double>(progress_.batch_idx));
}

double RunEta::batches_until_step(int64_t step) const {
  const auto steps = static_cast<double>(std::max<int64_t>(0, step - progress_.global_step));
  const bool is_known = progress_.global_step >= kStepsToMeasure;
  const double measured = static_cast<double>(progress_.total_batches) / static_cast<double>(progress_.global_step);
  return steps * (is_known ? measured : batches_per_step_);
}

// Of max_epochs and max_steps, whatever comes first.
std::optional<double> RunEta::batches_left() const {
  std::optional<double> left;
  if (max_epochs_) left = batches_until_epoch(*max_epochs_);
  if (max_steps_ >= 0) left = std::min(left.value_or(HUGE_VAL), batches_until_step(max_steps_));
  return left;
}

double RunEta::validations_in(double batches) const {
  if (validations_ == 0 || !between_validations_ || *between_validations_ < 1) return 0;
  const auto done = static_cast<double>(validated_at_.value_or(0));
  const double end = static_cast<double>(progress_.total_batches) + batches;
  constexpr double rounding = 1e-6;
  const auto until = [&](double batch) { return std::floor(batch / *between_validations_ + rounding); };
  return std::max(0.0, until(end) - until(done));
}

// With the validations that fall due on the way.
std::optional<double> RunEta::seconds_for(double batches) const {
  const auto rate = rate_.batches_per_second();
  if (batches > 0 && !rate) return std::nullopt;
  const double validation = validations_ > 0 ? validation_seconds_ / static_cast<double>(validations_) : 0;
  const double training = batches > 0 ? batches / *rate : 0;
  return training + validations_in(batches) * validation;
}

std::optional<double> RunEta::seconds_until_max_time() const {
  if (!end_) return std::nullopt;
  const auto epochs = batches_until_epoch(min_epochs_);
  if (!epochs) return std::nullopt;
  const auto minimum = seconds_for(std::max(*epochs, batches_until_step(min_steps_)));
  if (!minimum) return std::nullopt;
  return std::max({0.0, *end_ - now_, *minimum});
}

std::optional<double> RunEta::seconds_left() const {
  std::optional<double> left = seconds_until_max_time();
  const auto batches = batches_left();
  const auto seconds = batches ? seconds_for(*batches) : std::nullopt;
  if (seconds) left = std::min(left.value_or(HUGE_VAL), *seconds);
  return left;
}

std::optional<int64_t> RunEta::total_batches() const {
  auto left = batches_left();
  const auto until_max_time = seconds_until_max_time();
  const auto rate = rate_.batches_per_second();
  const auto seconds = left ? seconds_for(*left) : std::nullopt;
  if (until_max_time && rate && (!seconds || *until_max_time < *seconds)) left = *until_max_time * *rate;
  const bool may_end_before = end_ && !rate;
  if (!left || (may_end_before && *left > 0)) return std::nullopt;
  return progress_.total_batches + std::llround(*left);
}

}  // namespace troupe
