// What the metrics of classification share: tasks, checks of their input, and labels in one form.
#pragma once

#include "troupe/modules/metrics/metric.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace troupe::metrics {

/// "binary": one yes or no each; "multiclass": one of num_classes; "multilabel": num_labels yes or no each.
enum class Task { binary, multiclass, multilabel };

/// The options that all of them have, as their constructors were given them; see e.g. AccuracyOptions.
struct TaskOptions {
  std::string task;
  std::optional<int64_t> num_classes, num_labels, ignore_index;
};

/// A metric of class labels. Checks that need values are made at once on the CPU; those of batches on another device
/// are made on that device and reported by compute(), so that update() waits for nothing.
class ClassificationMetric : public TargetMetric {
 protected:
  /// Throws UsageError for a task that is none (naming the nearest) and for counts that are missing or below 2; `name`
  /// is the metric's, for messages.
  ClassificationMetric(const char* name, const TaskOptions& options);

  Task task() const { return task_; }
  /// Classes or labels; 1 of a binary task.
  int64_t classes() const { return classes_; }
  std::optional<int64_t> ignore_index() const { return ignore_index_; }
  /// UsageError with the metric's name in front.
  [[noreturn]] void refuse(const std::string& why) const;
  /// Throws UsageError where `value` is none of `allowed`, and names the nearest.
  void check_choice(const char* option, const std::string& value, const std::vector<std::string>& allowed) const;
  void check_threshold(double threshold) const;

  /// A batch as labels of long: [n] each of a multiclass task, [num_labels, n] else (binary: [1, n]). Labels that do
  /// not belong there are replaced by valid ones after they were noted.
  struct Labels {
    torch::Tensor preds, target;
    torch::Tensor counted;  ///< bool, false where the target is ignored
  };
  /// Binary and multilabel: preds of target's shape, (N, ...) or (N, num_labels, ...), are labels 0 and 1, or scores
  /// that are above `threshold` for 1; scores of which one is outside of 0..1 are logits. `scale_counted`: only scores
  /// whose target is not ignored decide that.
  Labels threshold_labels(const torch::Tensor& preds, const torch::Tensor& target, double threshold,
                          bool scale_counted);
  /// Multiclass: preds are labels of target's shape (N, ...), or scores (N, C, ...). With `top_k` above 1 a prediction
  /// is the target where that is among the k highest scores, else the class with the highest one.
  Labels class_labels(const torch::Tensor& preds, const torch::Tensor& target, int64_t top_k);

  /// Scores as probabilities: where one of those that `counted` marks (undefined: of all) is outside of 0..1, all go
  /// through the sigmoid or the softmax (over dimension 1). Half precision becomes float32. Reads nothing from a
  /// device.
  torch::Tensor as_probabilities(const torch::Tensor& scores, const torch::Tensor& counted) const;
  /// Notes, or throws for, labels of the target beyond 0..highest that are not ignore_index.
  void check_target(const torch::Tensor& target, int64_t highest);
  void check_shapes(const torch::Tensor& preds, const torch::Tensor& target) const;
  /// bool, false where the target is ignored.
  torch::Tensor counted(const torch::Tensor& target) const;

  void verify() const override;

 private:
  void check_labels(const char* what, const torch::Tensor& labels, int64_t highest, State worst, bool may_be_ignored);
  [[noreturn]] void refuse_label(const char* what, double label, int64_t highest, bool may_be_ignored) const;

  const char* name_;
  Task task_;
  int64_t classes_ = 1;
  std::optional<int64_t> ignore_index_;
  State worst_target_, worst_preds_;  // the lowest invalid label, infinity where there is none
};

/// How often each of 0..classes-1 stands in `index` (long, [n]) where `counted` (bool) is true: long, [classes].
torch::Tensor count_by(const torch::Tensor& index, const torch::Tensor& counted, int64_t classes);
/// numerator / denominator in float64, and `otherwise` where the denominator is 0.
torch::Tensor safe_divide(const torch::Tensor& numerator, const torch::Tensor& denominator, double otherwise = 0);

}  // namespace troupe::metrics
