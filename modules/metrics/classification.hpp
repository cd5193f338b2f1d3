// What the metrics of classification share: tasks, checks of their input, and labels in one form.
#pragma once

#include "troupe/modules/metrics/choices.hpp"
#include "troupe/modules/metrics/metric.hpp"

#include <c10/util/FunctionRef.h>

#include <cstdint>
#include <optional>
#include <string>

namespace troupe::metrics {

/// The options that all of them have, as their constructors were given them; see e.g. AccuracyOptions.
struct TaskOptions {
  Task task;
  std::optional<int64_t> num_classes, num_labels, ignore_index;
};

/// `task` for a metric that knows no labels. Throws UsageError for multilabel.
Task without_labels(const char* metric, Task task);

/// A metric of class labels.
///
/// Scores are probabilities, or logits if any score that counts is outside of 0..1. That is decided of all that was
/// gathered, over batches, replicas and ranks, never of a batch: what a derived class counts per batch it counts in
/// both readings, and of_reading() takes the one that holds. Scores that are NaN make the value NaN. Checks that need
/// values are made at once on the CPU; those of batches on another device are made on that device and reported by
/// compute(), so that update() waits for nothing.
class ClassificationMetric : public TargetMetric {
 public:
  /// Warns if the value is NaN because scores are.
  std::string warning() const override;

 protected:
  /// Throws UsageError for counts that are missing or below 2; `name` is the metric's, for messages.
  ClassificationMetric(const char* name, const TaskOptions& options);

  Task task() const { return task_; }
  /// Classes or labels; 1 of a binary task.
  int64_t classes() const { return classes_; }
  std::optional<int64_t> ignore_index() const { return ignore_index_; }
  /// UsageError with the metric's name in front.
  [[noreturn]] void refuse(const std::string& why) const;
  void check_threshold(double threshold) const;

  /// A batch of a multiclass task as labels of long, [n] each. Labels that do not belong there are replaced by valid
  /// ones after they were noted.
  struct ClassLabels {
    torch::Tensor preds, target;
    torch::Tensor counted;  ///< bool, false if the target is ignored
  };
  /// preds are labels of target's shape (N, ...), or scores (N, C, ...). With `top_k` above 1 a prediction is the
  /// target where that is among the k highest scores, else the class with the highest one.
  ClassLabels class_labels(const torch::Tensor& preds, const torch::Tensor& target, int64_t top_k);

  /// A batch of a binary or multilabel task as bool, [num_labels, n] (binary: [1, n]).
  struct YesOrNo {
    torch::Tensor preds;  ///< [2, num_labels, n]: scores read as probabilities, and as logits
    torch::Tensor target, counted;
  };
  /// preds of target's shape, (N, ...) or (N, num_labels, ...), are labels 0 and 1, or scores that are a yes above
  /// `threshold`.
  YesOrNo threshold_labels(const torch::Tensor& preds, const torch::Tensor& target, double threshold);

  /// The answers of a small batch on the CPU that count, as plain numbers, a few hundred at a time: loops over them
  /// take a tenth of the time of the operators that the tensors above need. False, and nothing taken nor noted, if the
  /// batch is not such a one, or if a label does not belong there: then the functions above take it, or say what is
  /// wrong.
  using TakeClasses = c10::function_ref<void(const int64_t* predicted, const int64_t* actual, int64_t count)>;
  bool for_small_classes(const torch::Tensor& preds, const torch::Tensor& target, TakeClasses take);
  struct LabelAnswer {
    int64_t label;
    bool predicted[2];  ///< the score read as a probability, and as a logit
    bool actual;
  };
  using TakeAnswers = c10::function_ref<void(const LabelAnswer* answers, int64_t count)>;
  bool for_small_answers(const torch::Tensor& preds, const torch::Tensor& target, double threshold, TakeAnswers take);

  /// A batch for metrics that need scores.
  struct ScoredBatch {
    /// [n], of classes or labels [n, C]; in their type, float32 at least. A half where the target is ignored.
    torch::Tensor scores;
    torch::Tensor target;   ///< valid labels of long: [n], of a multilabel task [n, num_labels]
    torch::Tensor counted;  ///< bool of target's shape, false if the target is ignored; undefined if all count
  };
  /// preds are (N, ...), (N, C, ...) or (N, num_labels, ...). What comes back may be memory of the batch.
  ScoredBatch scored(const torch::Tensor& preds, const torch::Tensor& target);

  /// `scores`, with a half, which is a number and a probability, where `counted` (bool, of their shape or one that
  /// expands to it) is false.
  torch::Tensor without_ignored(const torch::Tensor& scores, const torch::Tensor& counted) const;
  /// Notes whether the scores of a batch, all of which count, are numbers and probabilities.
  void note_scores(const torch::Tensor& scores);
  /// bool without dimensions: whether the scores that were gathered are logits.
  torch::Tensor are_logits() const;
  /// The row of `state`, [2, ...], for what the scores are: 0 for probabilities, 1 for logits.
  torch::Tensor of_reading(const torch::Tensor& state) const;
  /// bool without dimensions: whether a score that counts is NaN.
  torch::Tensor has_nan() const;
  /// `value`, or NaN throughout if a score is.
  torch::Tensor unless_nan(const torch::Tensor& value) const;
  /// Notes, or throws for, labels of the target beyond 0..highest that are not ignore_index.
  void check_target(const torch::Tensor& target, int64_t highest);
  void check_shapes(const torch::Tensor& preds, const torch::Tensor& target) const;
  /// bool, false if the target is ignored.
  torch::Tensor counted(const torch::Tensor& target) const;

  void verify() const override;
  /// The options of all: part of a sharing_key.
  std::string task_key() const;

 private:
  void check_labels(const char* what, const torch::Tensor& labels, int64_t highest, State worst, bool may_be_ignored);
  [[noreturn]] void refuse_label(const char* what, double label, int64_t highest, bool may_be_ignored) const;
  bool note_small(const torch::Tensor& preds, const torch::Tensor& target);
  void note_extent(double lowest, double highest);

  const char* name_;
  Task task_;
  int64_t classes_ = 1;
  std::optional<int64_t> ignore_index_;
  State worst_target_, worst_preds_;    // the lowest invalid label, infinity if there is none
  State lowest_score_, highest_score_;  // NaN if a score is; of classes only the highest, which is NaN then too
};

/// How often each of 0..classes-1 stands in `index` (long, [n]) where `counted` (bool) is true: long, [classes].
torch::Tensor count_by(const torch::Tensor& index, const torch::Tensor& counted, int64_t classes);
/// The logit of a probability: infinite of 0 and 1.
double logit(double probability);
/// Scores in half precision as float32, others as they are.
torch::Tensor at_least_float(const torch::Tensor& scores);
/// numerator / denominator in float64, and `otherwise` where the denominator is 0.
torch::Tensor safe_divide(const torch::Tensor& numerator, const torch::Tensor& denominator, double otherwise = 0);

}  // namespace troupe::metrics
