// The mean, sum, smallest and largest of values: of losses that are known batch by batch, of lengths, of rewards.
#pragma once

#include "troupe/modules/metrics/metric.hpp"
#include "troupe/modules/options/choices.hpp"

#include <variant>

namespace troupe::metrics {

/// What becomes of values and weights that are NaN.
enum class NanStrategy {
  warn,     ///< they are left out, with a warning at the end of the epoch
  ignore,   ///< they are left out
  error,    ///< UsageError, on a GPU from compute()
  disable,  ///< they are let through
};
TROUPE_CHOICES(NanStrategy, {warn, "warn"}, {ignore, "ignore"}, {error, "error"}, {disable, "disable"})

/// https://lightning.ai/docs/torchmetrics/stable/aggregation/mean.html and its siblings
struct AggregatorOptions {
  /// What becomes of NaN; a number is taken instead of it, with weight 1: `.nan_strategy = 0.0`.
  std::variant<NanStrategy, double> nan_strategy = NanStrategy::warn;
};

/// A tensor of values of any shape and type, or a number; float64 inside.
class Aggregator : public Metric {
 public:
  std::string warning() const override;

 protected:
  Aggregator(const char* name, AggregatorOptions options);

  /// float64 of one shape; a NaN that is left out has weight 0 and value 0.
  struct Weighted {
    torch::Tensor values, weights;
    torch::Tensor left_out;  ///< bool
  };
  Weighted without_nan(const torch::Tensor& values, const torch::Tensor& weights);
  torch::Tensor tensor_of(double value) const;
  /// A value that the host has.
  torch::Tensor number(double value) const {
    refuse_number();
    return tensor_of(value);
  }
  void check_defined(const torch::Tensor& value) const;
  void verify() const override;

 private:
  [[noreturn]] void refuse_nan() const;

  const char* name_;
  AggregatorOptions options_;
  State nans_;
};

/// An aggregator of values without weights.
class ValueAggregator : public Aggregator {
 public:
  void update(const torch::Tensor& value);
  void update(double value) { update(number(value)); }
  /// Adds values and returns what they give alone.
  torch::Tensor operator()(const torch::Tensor& value);
  torch::Tensor operator()(double value) { return (*this)(number(value)); }

 protected:
  using Aggregator::Aggregator;
  virtual void add(const Weighted& values) = 0;

 private:
  void add_unweighted(const torch::Tensor& value);
};

/// 0 for no value.
class SumMetric : public ValueAggregator {
 public:
  explicit SumMetric(AggregatorOptions options = {});

 protected:
  void add(const Weighted& values) override;
  torch::Tensor result() const override { return at(sum_); }

 private:
  State sum_;
};

/// Infinity for no value.
class MinMetric : public ValueAggregator {
 public:
  explicit MinMetric(AggregatorOptions options = {});

 protected:
  void add(const Weighted& values) override;
  torch::Tensor result() const override { return at(min_); }

 private:
  State min_;
};

/// Minus infinity for no value.
class MaxMetric : public ValueAggregator {
 public:
  explicit MaxMetric(AggregatorOptions options = {});

 protected:
  void add(const Weighted& values) override;
  torch::Tensor result() const override { return at(max_); }

 private:
  State max_;
};

/// The weighted mean; NaN for a weight of 0.
class MeanMetric : public Aggregator {
 public:
  explicit MeanMetric(AggregatorOptions options = {});
  /// `weight` is of a shape that broadcasts to the value's. Throws UsageError if it does not.
  void update(const torch::Tensor& value, const torch::Tensor& weight);
  void update(const torch::Tensor& value, double weight = 1) { update(value, tensor_of(weight)); }
  void update(double value, double weight = 1) { update(number(value), tensor_of(weight)); }
  /// Adds values and returns their mean alone.
  torch::Tensor operator()(const torch::Tensor& value, const torch::Tensor& weight);
  torch::Tensor operator()(const torch::Tensor& value, double weight = 1) { return (*this)(value, tensor_of(weight)); }
  torch::Tensor operator()(double value, double weight = 1) { return (*this)(number(value), tensor_of(weight)); }

 protected:
  torch::Tensor result() const override { return at(sum_) / at(weight_); }

 private:
  void check(const torch::Tensor& value, const torch::Tensor& weight) const;
  void add(const torch::Tensor& value, const torch::Tensor& weight);

  State sum_, weight_;
};

}  // namespace troupe::metrics
