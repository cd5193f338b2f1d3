#include "troupe/modules/metrics/aggregation.hpp"

#include "troupe/base/failure.hpp"

#include <ATen/ExpandUtils.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <limits>

namespace troupe::metrics {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

torch::Tensor scalar(double value) {
  return torch::full({}, value, torch::kFloat64);
}

bool has_strategy(const AggregatorOptions& options, NanStrategy strategy) {
  const auto* const chosen = std::get_if<NanStrategy>(&options.nan_strategy);
  return chosen && *chosen == strategy;
}

}  // namespace

// --- Aggregator ---

Aggregator::Aggregator(const char* name, AggregatorOptions options) : name_(name), options_(options) {
  nans_ = add_state("nans", torch::zeros({}, torch::kLong), Combine::sum);
}

torch::Tensor Aggregator::tensor_of(double value) const {
  return torch::full({}, value, torch::dtype(torch::kFloat64).device(device()));
}

void Aggregator::check_defined(const torch::Tensor& value) const {
  if (!value.defined()) throw UsageError(std::string(name_) + ": the value is undefined");
}

void Aggregator::refuse_nan() const {
  throw UsageError(std::string(name_) + ": a value or weight is nan, and nan_strategy is error");
}

Aggregator::Weighted Aggregator::without_nan(const torch::Tensor& values, const torch::Tensor& weights) {
  Weighted all{values.to(torch::kFloat64), weights.to(torch::kFloat64), {}};
  const auto is_nan = all.values.isnan() | all.weights.isnan();
  all.left_out = torch::zeros_like(is_nan);
  if (const auto* const replacement = std::get_if<double>(&options_.nan_strategy)) {
    all.values = torch::where(is_nan, torch::full_like(all.values, *replacement), all.values);
    all.weights = torch::where(is_nan, torch::ones_like(all.weights), all.weights);
    return all;
  }
  if (has_strategy(options_, NanStrategy::disable)) return all;
  const auto nans = is_nan.sum();
  if (has_strategy(options_, NanStrategy::error) && nans.is_cpu() && nans.item<int64_t>() > 0) refuse_nan();
  at(nans_) += nans;
  all.left_out = is_nan;
  all.values = torch::where(is_nan, torch::zeros_like(all.values), all.values);
  all.weights = torch::where(is_nan, torch::zeros_like(all.weights), all.weights);
  return all;
}

void Aggregator::verify() const {
  if (has_strategy(options_, NanStrategy::error) && !device().is_cpu() && at(nans_).item<int64_t>() > 0) refuse_nan();
}

std::string Aggregator::warning() const {
  if (!has_strategy(options_, NanStrategy::warn)) return "";
  return at(nans_).item<int64_t>() > 0 ? std::string(name_) + " left out values that are nan" : "";
}

// --- Without weights ---

void ValueAggregator::update(const torch::Tensor& value) {
  check_defined(value);
  gather({value}, [this](const Inputs& inputs) { add_unweighted(inputs[0]); });
}

torch::Tensor ValueAggregator::operator()(const torch::Tensor& value) {
  check_defined(value);
  return gather_batch({value}, [this](const Inputs& inputs) { add_unweighted(inputs[0]); });
}

void ValueAggregator::add_unweighted(const torch::Tensor& value) {
  add(without_nan(value, torch::ones_like(value, torch::kFloat64)));
}

SumMetric::SumMetric(AggregatorOptions options) : ValueAggregator("SumMetric", options) {
  sum_ = add_state("sum_value", scalar(0), Combine::sum);
}

void SumMetric::add(const Weighted& values) {
  at(sum_) += values.values.sum();
}

MinMetric::MinMetric(AggregatorOptions options) : ValueAggregator("MinMetric", options) {
  min_ = add_state("min_value", scalar(infinity), Combine::min);
}

void MinMetric::add(const Weighted& values) {
  if (values.values.numel() == 0) return;
  at(min_) = torch::minimum(at(min_), values.values.masked_fill(values.left_out, infinity).min());
}

MaxMetric::MaxMetric(AggregatorOptions options) : ValueAggregator("MaxMetric", options) {
  max_ = add_state("max_value", scalar(-infinity), Combine::max);
}

void MaxMetric::add(const Weighted& values) {
  if (values.values.numel() == 0) return;
  at(max_) = torch::maximum(at(max_), values.values.masked_fill(values.left_out, -infinity).max());
}

// --- MeanMetric ---

MeanMetric::MeanMetric(AggregatorOptions options) : Aggregator("MeanMetric", options) {
  sum_ = add_state("mean_value", scalar(0), Combine::sum);
  weight_ = add_state("weight", scalar(0), Combine::sum);
}

void MeanMetric::add(const torch::Tensor& value, const torch::Tensor& weight) {
  const auto all = without_nan(value, weight.to(value.device()).expand(value.sizes()));
  at(sum_) += (all.values * all.weights).sum();
  at(weight_) += all.weights.sum();
}

void MeanMetric::check(const torch::Tensor& value, const torch::Tensor& weight) const {
  check_defined(value);
  if (weight.defined() && at::is_expandable_to(weight.sizes(), value.sizes())) return;
  throw UsageError(c10::str("MeanMetric: weight is ",
                            weight.defined() ? c10::str("of shape ", weight.sizes()) : "undefined",
                            " and value of shape ", value.sizes()));
}

void MeanMetric::update(const torch::Tensor& value, const torch::Tensor& weight) {
  check(value, weight);
  gather({value, weight}, [this](const Inputs& inputs) { add(inputs[0], inputs[1]); });
}

torch::Tensor MeanMetric::operator()(const torch::Tensor& value, const torch::Tensor& weight) {
  check(value, weight);
  return gather_batch({value, weight}, [this](const Inputs& inputs) { add(inputs[0], inputs[1]); });
}

}  // namespace troupe::metrics
