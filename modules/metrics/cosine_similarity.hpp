// The cosine of the angle between predictions and targets.
#pragma once

#include "troupe/modules/metrics/choices.hpp"
#include "troupe/modules/metrics/metric.hpp"

namespace troupe::metrics {

/// https://lightning.ai/docs/torchmetrics/stable/regression/cosine_similarity.html
struct CosineSimilarityOptions {
  Reduction reduction = Reduction::sum;  ///< over samples
};

/// preds and target are (N, d), any type, float64 inside. NaN if a vector is 0.
class CosineSimilarity : public TargetMetric {
 public:
  explicit CosineSimilarity(CosineSimilarityOptions options = {});
  bool is_scalar() const override { return reduction_ != Reduction::none; }

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;

 private:
  Reduction reduction_;
  State similarity_, total_;
};

}  // namespace troupe::metrics
