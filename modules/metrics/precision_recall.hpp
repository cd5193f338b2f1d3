// How many of those predicted are right (precision), how many of those that are there were predicted (recall), and how
// many of those that are not there were not (specificity).
#pragma once

#include "troupe/modules/metrics/stat_scores.hpp"

namespace troupe::metrics {

/// https://lightning.ai/docs/torchmetrics/stable/classification/precision.html and recall.html
struct PrecisionRecallOptions {
  Required<Task> task;  ///< as AccuracyOptions
  double threshold = 0.5;
  std::optional<int64_t> num_classes = std::nullopt;
  std::optional<int64_t> num_labels = std::nullopt;
  Average average = Average::micro;
  int64_t top_k = 1;
  std::optional<int64_t> ignore_index = std::nullopt;
  int64_t zero_division = 0;  ///< the value of a class without what it is a share of: 0 or 1
};

/// tp / (tp + fp). Input and value as Accuracy. Shares its name with an enumeration of the library: write
/// metrics::Precision.
class Precision : public StatScores {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit Precision(PrecisionRecallOptions options);

 protected:
  torch::Tensor score(const Counts& counts) const override;
};

/// tp / (tp + fn). Input and value as Accuracy.
class Recall : public StatScores {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit Recall(PrecisionRecallOptions options);

 protected:
  torch::Tensor score(const Counts& counts) const override;
};

/// https://lightning.ai/docs/torchmetrics/stable/classification/specificity.html
struct SpecificityOptions {
  Required<Task> task;  ///< as AccuracyOptions
  double threshold = 0.5;
  std::optional<int64_t> num_classes = std::nullopt;
  std::optional<int64_t> num_labels = std::nullopt;
  Average average = Average::micro;
  int64_t top_k = 1;
  std::optional<int64_t> ignore_index = std::nullopt;
};

/// tn / (tn + fp), 0 without a no. Input and value as Accuracy.
class Specificity : public StatScores {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit Specificity(SpecificityOptions options);

 protected:
  torch::Tensor score(const Counts& counts) const override;
  bool leaves_out_unseen() const override { return false; }
};

}  // namespace troupe::metrics
