// Which class was taken for which.
#pragma once

#include "troupe/modules/metrics/classification.hpp"

namespace troupe::metrics {

/// https://lightning.ai/docs/torchmetrics/stable/classification/confusion_matrix.html
struct ConfusionMatrixOptions {
  std::string task;  ///< as AccuracyOptions
  double threshold = 0.5;
  std::optional<int64_t> num_classes = std::nullopt;
  std::optional<int64_t> num_labels = std::nullopt;
  std::string normalize = "none";  ///< each row ("true"), each column ("pred") or "all" sums to 1
  std::optional<int64_t> ignore_index = std::nullopt;
};

/// Rows are targets, columns predictions: [2, 2], [C, C], or [L, 2, 2] for labels. Counts (long), or float64 if
/// normalized, with 0 in rows or columns that sum to 0. Input as Accuracy; if a score is NaN, compute() throws
/// UsageError. It is no scalar, so it cannot be logged.
class ConfusionMatrix : public ClassificationMetric {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit ConfusionMatrix(ConfusionMatrixOptions options);
  bool is_scalar() const override { return false; }

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;
  void verify() const override;

 private:
  double threshold_;
  std::string normalize_;
  State confmat_;
};

}  // namespace troupe::metrics
