// The mean squared and the mean absolute error.
#pragma once

#include "troupe/modules/metrics/metric.hpp"

namespace troupe::metrics {

/// The sum of an error over samples, and their number.
class MeanError : public TargetMetric {
 public:
  bool is_scalar() const override { return num_outputs_ == 1; }

 protected:
  MeanError(const char* name, const char* sum_name, int64_t num_outputs);

  /// Of each element, from their difference in float64.
  virtual torch::Tensor error(const torch::Tensor& difference) const = 0;
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
  torch::Tensor error(const torch::Tensor& difference) const override;
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
  torch::Tensor error(const torch::Tensor& difference) const override;
};

}  // namespace troupe::metrics
