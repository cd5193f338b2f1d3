// How much of the targets' variance the predictions explain.
#pragma once

#include "troupe/modules/metrics/choices.hpp"
#include "troupe/modules/metrics/metric.hpp"

namespace troupe::metrics {

/// https://lightning.ai/docs/torchmetrics/stable/regression/r2_score.html
struct R2ScoreOptions {
  int64_t adjusted = 0;  ///< independent regressors to adjust for; no adjustment if there are not more samples
  Multioutput multioutput = Multioutput::uniform_average;
};

/// 1 - residual sum of squares / total sum of squares; preds and target are (N) or (N, outputs), any type, float64
/// inside. If all targets are the same it is 1 if the predictions are too, else 0; sums of squares are not
/// taken for 0 because they are small, so that scaling both changes nothing. Multioutput::variance_weighted is the mean
/// where no output varies. compute() throws UsageError for fewer than two samples; the value of one batch is then NaN.
class R2Score : public TargetMetric {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit R2Score(R2ScoreOptions options = {});
  bool is_scalar() const override { return options_.multioutput != Multioutput::raw_values; }

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;
  void verify() const override;

 private:
  R2ScoreOptions options_;
  State sum_squared_, sum_, residual_, lowest_, highest_, total_;
};

/// Scores of outputs as `multioutput` says: weighted with `weights`, unless they are all 0.
torch::Tensor over_outputs(Multioutput multioutput, const torch::Tensor& scores, const torch::Tensor& weights);

}  // namespace troupe::metrics
