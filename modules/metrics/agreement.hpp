// How far predictions agree with targets beyond chance: Matthews' coefficient and Cohen's kappa.
#pragma once

#include "troupe/modules/metrics/confusion_matrix.hpp"

namespace troupe::metrics {

/// https://lightning.ai/docs/torchmetrics/stable/classification/matthews_corr_coef.html
struct MatthewsCorrCoefOptions {
  Required<Task> task;  ///< as AccuracyOptions
  double threshold = 0.5;
  std::optional<int64_t> num_classes = std::nullopt;
  std::optional<int64_t> num_labels = std::nullopt;
  std::optional<int64_t> ignore_index = std::nullopt;
};

/// The correlation of predicted and true classes, -1 to 1 (Gorodkin 2004); of labels, of all of them in one. Input as
/// Accuracy; NaN if a score is. Where it is 0 / 0: 1 if everything is right, -1 of two classes if everything is wrong,
/// else 0 (Chicco and Jurman 2020).
class MatthewsCorrCoef : public ConfusionMetric {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit MatthewsCorrCoef(MatthewsCorrCoefOptions options);

 protected:
  torch::Tensor result() const override;
};

/// What a wrong class weighs.
enum class KappaWeights {
  none,       ///< 1
  linear,     ///< its distance from the right one
  quadratic,  ///< the square of it
};
TROUPE_CHOICES(KappaWeights, {none, "none"}, {linear, "linear"}, {quadratic, "quadratic"})

/// https://lightning.ai/docs/torchmetrics/stable/classification/cohen_kappa.html
struct CohenKappaOptions {
  Required<Task> task;  ///< binary or multiclass
  double threshold = 0.5;
  std::optional<int64_t> num_classes = std::nullopt;
  KappaWeights weights = KappaWeights::none;
  std::optional<int64_t> ignore_index = std::nullopt;
};

/// 1 - disagreement / disagreement by chance. Input as Accuracy; NaN if a score is, and where chance alone agrees: all
/// predictions and targets are of one class.
class CohenKappa : public ConfusionMetric {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit CohenKappa(CohenKappaOptions options);

 protected:
  torch::Tensor result() const override;

 private:
  KappaWeights weights_;
};

}  // namespace troupe::metrics
