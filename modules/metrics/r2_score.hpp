// How much of the targets' variance the predictions explain.
#pragma once

#include "troupe/modules/metrics/metric.hpp"

namespace troupe::metrics {

/// https://lightning.ai/docs/torchmetrics/stable/regression/r2_score.html
struct R2ScoreOptions {
  int64_t adjusted = 0;  ///< independent regressors to adjust for; no adjustment where there are not more samples
  /// Over outputs: "uniform_average", "variance_weighted", or "raw_values" for all of them.
  std::string multioutput = "uniform_average";
};

/// 1 - residual sum of squares / total sum of squares; preds and target are (N) or (N, outputs), any type, float64
/// inside. As in torchmetrics sums of squares up to 1e-4 are taken for 0: 1 without residuals, 0 without variance.
/// compute() throws UsageError for fewer than two samples; the value of one batch is then NaN.
class R2Score : public TargetMetric {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit R2Score(R2ScoreOptions options = {});
  bool is_scalar() const override { return options_.multioutput != "raw_values"; }

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;
  void verify() const override;

 private:
  torch::Tensor over_outputs(const torch::Tensor& scores, const torch::Tensor& tss) const;

  R2ScoreOptions options_;
  State sum_squared_, sum_, residual_, total_;
};

}  // namespace troupe::metrics
