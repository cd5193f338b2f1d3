// A distribution reduced to counts, as TensorBoard shows it.
#pragma once

#include <torch/types.h>

#include <vector>

namespace troupe {

/// `bucket[i]` values lie in (bucket_limit[i - 1], bucket_limit[i]]. The first bucket is empty and only gives the left
/// edge of the second. All fields are 0 or empty if there was nothing to count.
struct Histogram {
  double min = 0, max = 0;
  double count = 0, sum = 0, sum_squares = 0;
  std::vector<double> bucket_limit, bucket;
};

/// Counts `values` (any shape, real or boolean, on the CPU) in 30 even buckets from the smallest to the largest, or in
/// one if all are equal. Values that are not finite are left out: one NaN in the weights must not hide the rest.
/// Throws UsageError for an undefined or complex tensor.
Histogram make_histogram(const torch::Tensor& values);

}  // namespace troupe
