// How far two distributions are apart: the Kullback-Leibler divergence and the Wasserstein distance.
#pragma once

#include "troupe/modules/metrics/choices.hpp"
#include "troupe/modules/metrics/metric.hpp"

namespace troupe::metrics {

/// https://lightning.ai/docs/torchmetrics/stable/regression/kl_divergence.html
struct KLDivergenceOptions {
  bool log_prob = false;  ///< inputs are log-probabilities, taken as they are; else they are scaled to sum to 1
  Reduction reduction = Reduction::mean;  ///< over samples
};

/// The sum of p log(p / q) of each sample. The first tensor, preds, is p, the distribution of the data; the second,
/// target, is q, which stands for it: both (N, d), any type, float64 inside. Infinite where q is 0 and p is not.
class KLDivergence : public TargetMetric {
 public:
  explicit KLDivergence(KLDivergenceOptions options = {});
  bool is_scalar() const override { return options_.reduction != Reduction::none; }

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;

 private:
  KLDivergenceOptions options_;
  State measures_, total_;
};

/// https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.wasserstein_distance.html
struct WassersteinDistanceOptions {};

/// How far the values of preds must be moved, on average, to be distributed as those of target: the area between their
/// cumulative distributions. Both of any shape and type, and of any numbers of values, float64 inside. It keeps all of
/// them (states preds and target, joined). compute() throws UsageError if either has none; the value of one batch is
/// then NaN, as it is for a value that is NaN. torchmetrics has none: the definition is scipy's.
class WassersteinDistance : public TargetMetric {
 public:
  explicit WassersteinDistance(WassersteinDistanceOptions options = {});

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;
  void verify() const override;

 private:
  State preds_, target_;
};

}  // namespace troupe::metrics
