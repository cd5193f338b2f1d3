// Errors of predictions that are a mean over samples: squared, absolute, of percentages, of logarithms.
#pragma once

#include "troupe/modules/metrics/metric.hpp"

namespace troupe::metrics {

/// The sum of an error over samples, and their number.
class MeanError : public TargetMetric {
 public:
  bool is_scalar() const override { return num_outputs_ == 1; }

 protected:
  MeanError(const char* name, const char* sum_name, int64_t num_outputs);

  /// Of each element; both are float64.
  virtual torch::Tensor error(const torch::Tensor& preds, const torch::Tensor& target) const = 0;
  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;

 private:
  const char* name_;
  int64_t num_outputs_;
  State sum_, total_;
};

/// https://lightning.ai/docs/torchmetrics/stable/regression/mean_squared_error.html
struct MeanSquaredErrorOptions {
  bool squared = true;      ///< false: its square root
  int64_t num_outputs = 1;  ///< above 1: inputs are (N, num_outputs), and the value is that many errors
};

/// preds and target of one shape and any type, float64 inside.
class MeanSquaredError : public MeanError {
 public:
  /// Throws UsageError for num_outputs below 1.
  explicit MeanSquaredError(MeanSquaredErrorOptions options = {});

 protected:
  torch::Tensor error(const torch::Tensor& preds, const torch::Tensor& target) const override;
  torch::Tensor result() const override;

 private:
  bool squared_;
};

/// https://lightning.ai/docs/torchmetrics/stable/regression/mean_absolute_error.html
struct MeanAbsoluteErrorOptions {
  int64_t num_outputs = 1;  ///< as MeanSquaredErrorOptions
};

class MeanAbsoluteError : public MeanError {
 public:
  /// Throws UsageError for num_outputs below 1.
  explicit MeanAbsoluteError(MeanAbsoluteErrorOptions options = {});

 protected:
  torch::Tensor error(const torch::Tensor& preds, const torch::Tensor& target) const override;
};

/// https://lightning.ai/docs/torchmetrics/stable/regression/mean_absolute_percentage_error.html
struct MeanAbsolutePercentageErrorOptions {};

/// The mean of |preds - target| / |target|, as a share and not in percent; a target nearer to 0 than 1.17e-6 counts as
/// that. preds and target of one shape and any type, float64 inside. NaN for no sample.
class MeanAbsolutePercentageError : public MeanError {
 public:
  explicit MeanAbsolutePercentageError(MeanAbsolutePercentageErrorOptions options = {});

 protected:
  torch::Tensor error(const torch::Tensor& preds, const torch::Tensor& target) const override;
};

/// https://lightning.ai/docs/torchmetrics/stable/regression/symmetric_mean_absolute_percentage_error.html
struct SymmetricMeanAbsolutePercentageErrorOptions {};

/// The mean of 2 |preds - target| / (|target| + |preds|), from 0 to 2; a sum of less than 1.17e-6 counts as that. Input
/// as MeanAbsolutePercentageError.
class SymmetricMeanAbsolutePercentageError : public MeanError {
 public:
  explicit SymmetricMeanAbsolutePercentageError(SymmetricMeanAbsolutePercentageErrorOptions options = {});

 protected:
  torch::Tensor error(const torch::Tensor& preds, const torch::Tensor& target) const override;
};

/// https://lightning.ai/docs/torchmetrics/stable/regression/mean_squared_log_error.html
struct MeanSquaredLogErrorOptions {};

/// The mean of (log(1 + preds) - log(1 + target))^2; NaN if a value is below -1. Input as MeanAbsolutePercentageError.
class MeanSquaredLogError : public MeanError {
 public:
  explicit MeanSquaredLogError(MeanSquaredLogErrorOptions options = {});

 protected:
  torch::Tensor error(const torch::Tensor& preds, const torch::Tensor& target) const override;
};

/// https://lightning.ai/docs/torchmetrics/stable/regression/weighted_mean_absolute_percentage_error.html
struct WeightedMeanAbsolutePercentageErrorOptions {};

/// The sum of |preds - target| over the sum of |target|, of which less than 1.17e-6 counts as that. Input as
/// MeanAbsolutePercentageError.
class WeightedMeanAbsolutePercentageError : public TargetMetric {
 public:
  explicit WeightedMeanAbsolutePercentageError(WeightedMeanAbsolutePercentageErrorOptions options = {});

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;

 private:
  State sum_abs_error_, sum_scale_;
};

}  // namespace troupe::metrics
