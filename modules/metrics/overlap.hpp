// How much of what was predicted and what was so is the same: the Jaccard index (IoU) and the Dice score.
#pragma once

#include "troupe/modules/metrics/stat_scores.hpp"

namespace troupe::metrics {

/// https://lightning.ai/docs/torchmetrics/stable/classification/jaccard_index.html
struct JaccardIndexOptions {
  Required<Task> task;  ///< as AccuracyOptions
  double threshold = 0.5;
  std::optional<int64_t> num_classes = std::nullopt;
  std::optional<int64_t> num_labels = std::nullopt;
  Average average = Average::macro;  ///< over classes or labels
  std::optional<int64_t> ignore_index = std::nullopt;
  int64_t zero_division = 0;  ///< the value of a class that is nowhere: 0 or 1
};

/// Intersection over union, tp / (tp + fp + fn). Input and value as Accuracy: of a segmentation, with num_classes,
/// labels (N, H, W) or scores (N, C, H, W), and targets (N, H, W). Counted over all pixels of all samples, not image by
/// image.
class JaccardIndex : public StatScores {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit JaccardIndex(JaccardIndexOptions options);

 protected:
  torch::Tensor score(const Counts& counts) const override;
  Counts of_all(const Counts& counts) const override;
};

/// What both tensors of a segmentation are.
enum class InputFormat {
  one_hot,  ///< (N, C, ...)
  index,    ///< labels (N, ...) of an integer type
  mixed,    ///< one of each
};
TROUPE_CHOICES(InputFormat, {one_hot, "one-hot"}, {index, "index"}, {mixed, "mixed"})

enum class AggregationLevel {
  samplewise,  ///< the mean over images
  global,      ///< of all pixels at once
};
TROUPE_CHOICES(AggregationLevel, {samplewise, "samplewise"}, {global, "global"})

/// https://lightning.ai/docs/torchmetrics/stable/segmentation/dice.html
struct DiceScoreOptions {
  int64_t num_classes;               ///< at least 2, the background included
  bool include_background = true;    ///< false: class 0 does not count
  Average average = Average::macro;  ///< over classes
  InputFormat input_format = InputFormat::one_hot;
  AggregationLevel aggregation_level = AggregationLevel::samplewise;
};

/// 2 |predicted and so| / (|predicted| + |so|) of segmentations; (...) is one dimension at least. (N, C, ...) are 0 and
/// 1 of an integer type or bool, or scores of a floating type of which the highest tells the class. A class that is
/// nowhere in an image has no value there, NaN, and no part in a mean; neither has an image without a value.
/// AggregationLevel::samplewise keeps three numbers of each class and image (state counts, joined). Throws UsageError
/// for other shapes and types; for labels out of range at once on the CPU, and from compute() on another device.
class DiceScore : public TargetMetric {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit DiceScore(DiceScoreOptions options);
  bool is_scalar() const override { return options_.average != Average::none; }

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;
  void verify() const override;

 private:
  torch::Tensor one_hot(const torch::Tensor& values, bool is_index);
  void check_labels(const torch::Tensor& labels, int64_t highest);
  [[noreturn]] void refuse_label(int64_t label) const;
  [[noreturn]] void refuse_input(const torch::Tensor& preds, const torch::Tensor& target) const;

  DiceScoreOptions options_;
  State counts_, worst_label_;
};

}  // namespace troupe::metrics
