#include "troupe/runtime/sinks/histogram.hpp"

#include "troupe/base/failure.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <span>

namespace troupe {
namespace {

constexpr int kBuckets = 30;

void count_values(Histogram& histogram, std::span<const double> values) {
  int buckets = histogram.min == histogram.max ? 1 : kBuckets;
  // Halves keep the range finite for values near the largest double.
  double half_range = histogram.max / 2 - histogram.min / 2;
  std::vector<double>& limits = histogram.bucket_limit;
  for (int i = 0; i <= buckets; ++i) {
    double share = static_cast<double>(i) / buckets;
    limits.push_back(histogram.min * (1 - share) + histogram.max * share);
  }
  limits.back() = histogram.max;
  histogram.bucket.assign(limits.size(), 0);
  for (double value : values) {
    double fraction = half_range > 0 ? (value / 2 - histogram.min / 2) / half_range : 0;
    auto position = static_cast<std::size_t>(fraction * buckets);
    histogram.bucket[1 + std::min<std::size_t>(position, buckets - 1)] += 1;
  }
}

}  // namespace

Histogram make_histogram(const torch::Tensor& values) {
  if (!values.defined()) throw UsageError("a histogram needs a tensor, got an undefined one");
  if (values.is_complex()) throw UsageError("a histogram needs real values, got complex ones; log their abs()");
  auto numbers = values.detach().to(torch::kFloat64).flatten();
  numbers = numbers.masked_select(numbers.isfinite()).contiguous();
  Histogram histogram;
  if (numbers.numel() == 0) return histogram;
  histogram.min = numbers.min().item<double>();
  histogram.max = numbers.max().item<double>();
  histogram.count = static_cast<double>(numbers.numel());
  histogram.sum = numbers.sum().item<double>();
  histogram.sum_squares = numbers.square().sum().item<double>();
  count_values(histogram, {numbers.data_ptr<double>(), static_cast<std::size_t>(numbers.numel())});
  return histogram;
}

}  // namespace troupe
