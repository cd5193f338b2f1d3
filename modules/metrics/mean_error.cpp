#include "troupe/modules/metrics/mean_error.hpp"

#include "troupe/modules/metrics/checks.hpp"

#include <torch/types.h>
#include <torch/utils.h>

namespace troupe::metrics {

namespace {

constexpr double smallest_scale = 1.17e-6;  // torchmetrics': what a share is of at least

}  // namespace

MeanError::MeanError(const char* name, const char* sum_name, int64_t num_outputs)
    : name_(name), num_outputs_(num_outputs) {
  check_at_least(name, "num_outputs", num_outputs, 1);
  const auto shape = num_outputs == 1 ? std::vector<int64_t>{} : std::vector<int64_t>{num_outputs};
  sum_ = add_state(sum_name, torch::zeros(shape, torch::kFloat64), Combine::sum);
  total_ = add_state("total", torch::zeros({}, torch::kLong), Combine::sum);
}

void MeanError::add(const torch::Tensor& preds, const torch::Tensor& target) {
  const bool has_outputs = num_outputs_ > 1;
  if (has_outputs) {
    check_outputs(name_, preds, target, num_outputs_);
  } else {
    check_one_shape(name_, preds, target);
  }
  const auto errors = error(preds.to(torch::kFloat64), target.to(torch::kFloat64));
  at(sum_) += has_outputs ? errors.sum(0) : errors.sum();
  at(total_) += has_outputs ? preds.size(0) : preds.numel();
}

torch::Tensor MeanError::result() const {
  return at(sum_) / at(total_);
}

MeanSquaredError::MeanSquaredError(MeanSquaredErrorOptions options)
    : MeanError("MeanSquaredError", "sum_squared_error", options.num_outputs), squared_(options.squared) {}

torch::Tensor MeanSquaredError::error(const torch::Tensor& preds, const torch::Tensor& target) const {
  return (preds - target).square();
}

torch::Tensor MeanSquaredError::result() const {
  return squared_ ? MeanError::result() : MeanError::result().sqrt();
}

MeanAbsoluteError::MeanAbsoluteError(MeanAbsoluteErrorOptions options)
    : MeanError("MeanAbsoluteError", "sum_abs_error", options.num_outputs) {}

torch::Tensor MeanAbsoluteError::error(const torch::Tensor& preds, const torch::Tensor& target) const {
  return (preds - target).abs();
}

MeanAbsolutePercentageError::MeanAbsolutePercentageError(MeanAbsolutePercentageErrorOptions)
    : MeanError("MeanAbsolutePercentageError", "sum_abs_per_error", 1) {}

torch::Tensor MeanAbsolutePercentageError::error(const torch::Tensor& preds, const torch::Tensor& target) const {
  return (preds - target).abs() / target.abs().clamp_min(smallest_scale);
}

SymmetricMeanAbsolutePercentageError::SymmetricMeanAbsolutePercentageError(SymmetricMeanAbsolutePercentageErrorOptions)
    : MeanError("SymmetricMeanAbsolutePercentageError", "sum_abs_per_error", 1) {}

torch::Tensor SymmetricMeanAbsolutePercentageError::error(const torch::Tensor& preds,
                                                          const torch::Tensor& target) const {
  return 2 * (preds - target).abs() / (target.abs() + preds.abs()).clamp_min(smallest_scale);
}

MeanSquaredLogError::MeanSquaredLogError(MeanSquaredLogErrorOptions)
    : MeanError("MeanSquaredLogError", "sum_squared_log_error", 1) {}

torch::Tensor MeanSquaredLogError::error(const torch::Tensor& preds, const torch::Tensor& target) const {
  return (preds.log1p() - target.log1p()).square();
}

WeightedMeanAbsolutePercentageError::WeightedMeanAbsolutePercentageError(WeightedMeanAbsolutePercentageErrorOptions) {
  const auto none = torch::zeros({}, torch::kFloat64);
  sum_abs_error_ = add_state("sum_abs_error", none, Combine::sum);
  sum_scale_ = add_state("sum_scale", none, Combine::sum);
}

void WeightedMeanAbsolutePercentageError::add(const torch::Tensor& preds, const torch::Tensor& target) {
  check_one_shape("WeightedMeanAbsolutePercentageError", preds, target);
  const auto x = preds.to(torch::kFloat64), y = target.to(torch::kFloat64);
  at(sum_abs_error_) += (x - y).abs().sum();
  at(sum_scale_) += y.abs().sum();
}

torch::Tensor WeightedMeanAbsolutePercentageError::result() const {
  return at(sum_abs_error_) / at(sum_scale_).clamp_min(smallest_scale);
}

}  // namespace troupe::metrics
