// Which class was taken for which.
#pragma once

#include "troupe/modules/metrics/classification.hpp"

namespace troupe::metrics {

/// Counts pairs of a target and a prediction. State: confmat, long, [classes, classes], or [2, labels, 2, 2] of a
/// binary or multilabel task (ClassificationMetric::of_reading).
class ConfusionMetric : public ClassificationMetric {
 protected:
  ConfusionMetric(const char* name, const TaskOptions& options, double threshold);

  /// Rows are targets, columns predictions: [C, C], [2, 2], or [L, 2, 2] for labels.
  torch::Tensor matrix() const;
  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  std::string sharing_key() const override;

 private:
  double threshold_;
  State confmat_;
};

/// What of a confusion matrix sums to 1.
enum class Normalize {
  none,    ///< nothing: it holds counts
  target,  ///< each row; torchmetrics calls it "true"
  pred,    ///< each column
  all,
};
TROUPE_CHOICES(Normalize, {target, "true"}, {pred, "pred"}, {all, "all"}, {none, "none"})

/// https://lightning.ai/docs/torchmetrics/stable/classification/confusion_matrix.html
struct ConfusionMatrixOptions {
  Required<Task> task;  ///< as AccuracyOptions
  double threshold = 0.5;
  std::optional<int64_t> num_classes = std::nullopt;
  std::optional<int64_t> num_labels = std::nullopt;
  Normalize normalize = Normalize::none;
  std::optional<int64_t> ignore_index = std::nullopt;
};

/// Rows are targets, columns predictions: [2, 2], [C, C], or [L, 2, 2] for labels. Counts (long), or float64 if
/// normalized, with 0 in rows or columns that sum to 0. Input as Accuracy; if a score is NaN, compute() throws
/// UsageError. It is no scalar, so it cannot be logged.
class ConfusionMatrix : public ConfusionMetric {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit ConfusionMatrix(ConfusionMatrixOptions options);
  bool is_scalar() const override { return false; }

 protected:
  torch::Tensor result() const override;
  void verify() const override;

 private:
  Normalize normalize_;
};

}  // namespace troupe::metrics
