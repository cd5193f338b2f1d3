// The precision-recall curve and the receiver operating characteristic (ROC) themselves, for a table or a plot.
#pragma once

#include "troupe/modules/metrics/curve_metric.hpp"

namespace troupe::metrics {

/// https://lightning.ai/docs/torchmetrics/stable/classification/precision_recall_curve.html and roc.html
struct CurvePointsOptions {
  Required<Task> task;         ///< as AUROCOptions
  Thresholds thresholds = {};  ///< none: a point for each score that there is
  std::optional<int64_t> num_classes = std::nullopt;
  std::optional<int64_t> num_labels = std::nullopt;
  std::optional<int64_t> ignore_index = std::nullopt;
};

/// The points of a curve, float64: [3, points], or [C, 3, points] of each class or label, in which those with fewer
/// points than others end in NaN. The third row has the thresholds, as probabilities. All is NaN if a score is. It is
/// no scalar, so it cannot be logged. Input as AUROC.
class CurvePoints : public CurveMetric {
 public:
  bool is_scalar() const override { return false; }

 protected:
  CurvePoints(const char* name, CurvePointsOptions options);

  /// Yes and no that have at least the score of each point, from the highest on, [points], and the scores of these
  /// points as probabilities.
  struct Descent {
    torch::Tensor tp, fp, thresholds;
  };
  virtual torch::Tensor exact(const Descent& descent) const = 0;
  /// [labels, 3, points].
  virtual torch::Tensor binned(const Binned& counts) const = 0;

  torch::Tensor result() const override;
};

/// Rows: precision, recall, thresholds, from the lowest threshold on. The last point is precision 1 and recall 0, and
/// has no threshold: NaN. Without a yes recall is 1 at all others; with thresholds, what is 0 / 0 is NaN.
class PrecisionRecallCurve : public CurvePoints {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit PrecisionRecallCurve(CurvePointsOptions options);

 protected:
  torch::Tensor exact(const Descent& descent) const override;
  torch::Tensor binned(const Binned& counts) const override;
};

/// Rows: false positive rate, true positive rate, thresholds, from the highest threshold on. Exact, it begins at (0, 0)
/// with threshold 1. A rate of nothing (no yes, no no) is 0.
class ROC : public CurvePoints {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit ROC(CurvePointsOptions options);

 protected:
  torch::Tensor exact(const Descent& descent) const override;
  torch::Tensor binned(const Binned& counts) const override;
};

}  // namespace troupe::metrics
