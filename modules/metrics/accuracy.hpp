// The share of predictions that are right.
#pragma once

#include "troupe/modules/metrics/stat_scores.hpp"

namespace troupe::metrics {

/// https://lightning.ai/docs/torchmetrics/stable/classification/accuracy.html
struct AccuracyOptions {
  Required<Task> task;
  double threshold = 0.5;                              ///< above which a score is a yes
  std::optional<int64_t> num_classes = std::nullopt;   ///< of a multiclass task, at least 2
  std::optional<int64_t> num_labels = std::nullopt;    ///< of a multilabel task, at least 2
  Average average = Average::micro;                    ///< over classes or labels
  int64_t top_k = 1;                                   ///< right when the target is among the k highest scores
  std::optional<int64_t> ignore_index = std::nullopt;  ///< targets that do not count
};

/// preds are labels of target's shape (N, ...), or scores: probabilities or logits (N, ...) and multiclass
/// (N, C, ...). The value has no dimensions; with Average::none it is [C] or [L], with 0 for classes without a target.
/// If a score is NaN, so is the value. A class that is ignore_index has no part in a macro average.
class Accuracy : public StatScores {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit Accuracy(AccuracyOptions options);

 protected:
  torch::Tensor score(const Counts& counts) const override;
};

}  // namespace troupe::metrics
