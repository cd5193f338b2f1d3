// How good probabilities are: whether they are true to what happens (calibration), and what they cost (hinge,
// log-loss).
#pragma once

#include "troupe/modules/metrics/classification.hpp"

namespace troupe::metrics {

/// What metrics of probabilities share: scores are needed, (N, ...), (N, C, ...) or (N, num_labels, ...), and each
/// batch is counted in both readings (ClassificationMetric).
class ProbabilityMetric : public ClassificationMetric {
 protected:
  using ClassificationMetric::ClassificationMetric;

  /// Those of a batch whose target counts.
  struct Scored {
    torch::Tensor probabilities;  ///< [n], or [n, C] of a multiclass task, in the type of the scores, float32 at least
    torch::Tensor target;         ///< [n], long
    torch::Tensor counted;        ///< [n], bool: false if the target is ignored
  };
  /// Adds a batch to `state` [2, ...], which is summed: what measure() makes of it in each reading.
  void add_readings(State state, const torch::Tensor& preds, const torch::Tensor& target);
  /// Summed over the batch, float64.
  virtual torch::Tensor measure(const Scored& batch) const = 0;
};

/// What is taken of the differences of all bins.
enum class CalibrationNorm {
  l1,   ///< their mean
  l2,   ///< the root of the mean of their squares
  max,  ///< the largest
};
TROUPE_CHOICES(CalibrationNorm, {l1, "l1"}, {l2, "l2"}, {max, "max"})

/// https://lightning.ai/docs/torchmetrics/stable/classification/calibration_error.html
struct CalibrationErrorOptions {
  Required<Task> task;  ///< binary or multiclass
  int64_t n_bins = 15;  ///< of equal width
  CalibrationNorm norm = CalibrationNorm::l1;
  std::optional<int64_t> num_classes = std::nullopt;
  std::optional<int64_t> ignore_index = std::nullopt;
};

/// How far apart confidence and accuracy are, bin of confidence by bin (Naeini, Cooper and Hauskrecht 2015). preds are
/// scores, probabilities or logits: (N, ...), multiclass (N, C, ...); target labels. The confidence is the probability
/// itself, of classes the highest. NaN if a score is, and for no sample. It keeps three sums of each bin (state bins).
class CalibrationError : public ProbabilityMetric {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit CalibrationError(CalibrationErrorOptions options);

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override { add_readings(bins_, preds, target); }
  torch::Tensor measure(const Scored& batch) const override;
  torch::Tensor result() const override;

 private:
  int64_t n_bins_;
  CalibrationNorm norm_;
  State bins_;
};

/// What the margin of a class is.
enum class MulticlassMode {
  crammer_singer,  ///< that of the target against the best of the others
  one_vs_all,      ///< that of each class alone; the value is [C]
};
TROUPE_CHOICES(MulticlassMode, {crammer_singer, "crammer-singer"}, {one_vs_all, "one-vs-all"})

/// https://lightning.ai/docs/torchmetrics/stable/classification/hinge_loss.html
struct HingeLossOptions {
  Required<Task> task;  ///< binary or multiclass
  bool squared = false;
  std::optional<int64_t> num_classes = std::nullopt;
  MulticlassMode multiclass_mode = MulticlassMode::crammer_singer;
  std::optional<int64_t> ignore_index = std::nullopt;
};

/// The mean of max(0, 1 - margin), as torchmetrics defines it: of probabilities, which logits are made by sigmoid or
/// softmax. Input as CalibrationError. NaN if a score is, and for no sample.
class HingeLoss : public ProbabilityMetric {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit HingeLoss(HingeLossOptions options);
  bool is_scalar() const override { return !is_one_vs_all_; }

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override { add_readings(losses_, preds, target); }
  torch::Tensor measure(const Scored& batch) const override;
  torch::Tensor result() const override;

 private:
  bool squared_, is_one_vs_all_;
  State losses_;
};

/// https://scikit-learn.org/stable/modules/generated/sklearn.metrics.log_loss.html
struct LogLossOptions {
  Required<Task> task;  ///< as AccuracyOptions
  std::optional<int64_t> num_classes = std::nullopt;
  std::optional<int64_t> num_labels = std::nullopt;
  std::optional<int64_t> ignore_index = std::nullopt;
};

/// The mean of -log of the probability that the target had, over samples, or samples and labels. Input as
/// CalibrationError, of labels (N, num_labels, ...). A probability below the machine epsilon of its type counts as
/// that; those of classes are scaled to sum to 1. NaN if a score is, and for no sample. torchmetrics has none: the
/// definition is scikit-learn's.
class LogLoss : public ProbabilityMetric {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit LogLoss(LogLossOptions options);

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override { add_readings(losses_, preds, target); }
  torch::Tensor measure(const Scored& batch) const override;
  torch::Tensor result() const override;

 private:
  State losses_;
};

}  // namespace troupe::metrics
