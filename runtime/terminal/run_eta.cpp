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
  const Amount& interval = options.val_check_interval;
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
      between_validations_(batches_between_validations(options, train_batches)),
      now_(seconds),
      batches_per_step_(static_cast<double>(options.accumulate_grad_batches)) {
  if (options.max_epochs.value_or(-1) >= 0) max_epochs_ = options.max_epochs;
  if (const auto max_time = max_time_of(options)) end_ = seconds + static_cast<double>(max_time->count());
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

// Of what ends the run, whatever comes first.
std::optional<double> RunEta::batches_left() const {
  std::optional<double> left;
  if (max_epochs_ && train_batches_) {
    const int64_t epochs = std::max<int64_t>(0, *max_epochs_ - progress_.epoch);
    left = static_cast<double>(epochs) * static_cast<double>(*train_batches_) -
           static_cast<double>(epochs > 0 ? progress_.batch_idx : 0);
  }
  if (max_steps_ >= 0) {
    const auto steps = static_cast<double>(max_steps_ - progress_.global_step);
    const bool is_known = progress_.global_step >= kStepsToMeasure;
    const double measured = static_cast<double>(progress_.total_batches) / static_cast<double>(progress_.global_step);
    left = std::min(left.value_or(HUGE_VAL), steps * (is_known ? measured : batches_per_step_));
  }
  if (!left) return std::nullopt;
  return std::max(0.0, *left);
}

double RunEta::validations_in(double batches) const {
  if (validations_ == 0 || !between_validations_ || *between_validations_ < 1) return 0;
  const auto done = static_cast<double>(validated_at_.value_or(0));
  const double end = static_cast<double>(progress_.total_batches) + batches;
  constexpr double rounding = 1e-6;
  const auto until = [&](double batch) { return std::floor(batch / *between_validations_ + rounding); };
  return std::max(0.0, until(end) - until(done));
}

std::optional<double> RunEta::seconds_left() const {
  std::optional<double> left;
  if (end_) left = std::max(0.0, *end_ - now_);
  const auto batches = batches_left();
  const auto rate = rate_.batches_per_second();
  if (batches && rate) {
    const double validation = validations_ > 0 ? validation_seconds_ / static_cast<double>(validations_) : 0;
    left = std::min(left.value_or(HUGE_VAL), *batches / *rate + validations_in(*batches) * validation);
  }
  return left;
}

}  // namespace troupe
