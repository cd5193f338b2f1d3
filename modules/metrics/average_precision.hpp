// The area under the steps of the precision-recall curve.
#pragma once

#include "troupe/modules/metrics/curve_metric.hpp"

namespace troupe::metrics {

/// https://lightning.ai/docs/torchmetrics/stable/classification/average_precision.html
struct AveragePrecisionOptions {
  Required<Task> task;  ///< as AUROCOptions
  Thresholds thresholds = {};
  std::optional<int64_t> num_classes = std::nullopt;
  std::optional<int64_t> num_labels = std::nullopt;
  Average average = Average::macro;
  std::optional<int64_t> ignore_index = std::nullopt;
};

/// The mean over the yes of the precision at their scores. Input as AUROC. Without a yes it is 0, of a class NaN (but
/// 0, as in torchmetrics, with thresholds and where all targets are of class 0), and has no part in an average. Where a
/// score is NaN, so is the value.
class AveragePrecision : public CurveArea {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit AveragePrecision(AveragePrecisionOptions options);

 protected:
  torch::Tensor exact(const Series& series) const override;
  torch::Tensor binned(const Binned& counts) const override;
  torch::Tensor is_defined(const torch::Tensor& yes, const torch::Tensor& no) const override;
};

}  // namespace troupe::metrics
