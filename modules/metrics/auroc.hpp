// The area under the receiver operating characteristic: how often a yes has a higher score than a no.
#pragma once

#include "troupe/modules/metrics/curve_metric.hpp"

namespace troupe::metrics {

/// https://lightning.ai/docs/torchmetrics/stable/classification/auroc.html
struct AUROCOptions {
  Required<Task> task;                                 ///< of classes each is judged against the others
  Thresholds thresholds = {};                          ///< none: exact, keeps all scores
  std::optional<int64_t> num_classes = std::nullopt;   ///< of a multiclass task, at least 2
  std::optional<int64_t> num_labels = std::nullopt;    ///< of a multilabel task, at least 2
  Average average = Average::macro;                    ///< micro of labels only
  std::optional<int64_t> ignore_index = std::nullopt;  ///< targets that do not count
};

/// preds are scores, probabilities or logits: (N, ...), multiclass (N, C, ...); target labels of an integer type. A
/// class without a yes, or without a no, has 0, and no part in an average. Scores that are equal count half. Where a
/// score is NaN, so is the value.
class AUROC : public CurveArea {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit AUROC(AUROCOptions options);

 protected:
  torch::Tensor exact(const Series& series) const override;
  torch::Tensor binned(const Binned& counts) const override;
  torch::Tensor is_defined(const torch::Tensor& yes, const torch::Tensor& no) const override;
};

}  // namespace troupe::metrics
