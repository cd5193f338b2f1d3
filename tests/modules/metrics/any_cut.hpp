// The value of a metric for data that come in any cut.
#pragma once

#include "troupe/modules/metrics/accuracy.hpp"
#include "troupe/modules/metrics/metric.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <functional>
#include <limits>
#include <memory>
#include <vector>

namespace troupe::metrics {

inline constexpr double nan = std::numeric_limits<double>::quiet_NaN();

inline Accuracy three_classes() {
  return Accuracy({.task = Task::multiclass, .num_classes = 3});
}

using Make = std::function<std::unique_ptr<TargetMetric>()>;

template <class M, class Options>
Make making(Options options) {
  return [options] { return std::make_unique<M>(options); };
}

inline torch::Tensor compute_in_parts(const Make& make, const torch::Tensor& preds, const torch::Tensor& target,
                                      int64_t rows) {
  const auto metric = make();
  for (int64_t first = 0; first < preds.size(0); first += rows) {
    metric->update(preds.slice(0, first, first + rows), target.slice(0, first, first + rows));
  }
  return metric->compute();
}

/// The value of all rows at once, which must also be that of any cut, of calls, and of replicas that are merged.
inline torch::Tensor value_of_any_cut(const Make& make, const torch::Tensor& preds, const torch::Tensor& target) {
  const auto value = compute_in_parts(make, preds, target, preds.size(0));
  const auto expect_it = [&](const torch::Tensor& other, const char* how) {
    EXPECT_TRUE(torch::allclose(other.to(torch::kDouble), value.to(torch::kDouble), 1e-9, 1e-12, /*equal_nan=*/true))
        << how << "\n"
        << other << "\nnot " << value;
  };
  for (int64_t rows = 1; rows < preds.size(0); ++rows) {
    expect_it(compute_in_parts(make, preds, target, rows), "in parts");
  }
  const auto called = make();
  std::vector<MetricStates> states;
  for (int64_t row = 0; row < preds.size(0); ++row) {
    const auto x = preds.slice(0, row, row + 1), y = target.slice(0, row, row + 1);
    (*called)(x, y);
    const auto replica = make();
    replica->update(x, y);
    states.push_back(replica->states());
  }
  expect_it(called->compute(), "called");
  const auto all = make();
  all->load_states(merged(states));
  expect_it(all->compute(), "merged");
  return value;
}

}  // namespace troupe::metrics
