// Metrics made of true and false positives and negatives: accuracy, precision, recall, specificity, F-beta, IoU.
#pragma once

#include "troupe/modules/metrics/classification.hpp"

namespace troupe::metrics {

/// The options of all of them; each has its own struct with torchmetrics' names and defaults.
struct StatScoresOptions {
  TaskOptions task;
  double threshold = 0.5;
  Average average = Average::micro;
  int64_t top_k = 1;
  int64_t zero_division = 0;
};

/// Counts, for every class or label, what was predicted and what was so. States: tp, fp, tn, fn, long: [classes], or
/// [2, labels] of a binary or multilabel task (ClassificationMetric::of_reading).
class StatScores : public ClassificationMetric {
 public:
  bool is_scalar() const override { return task() == Task::binary || options_.average != Average::none; }

 protected:
  StatScores(const char* name, StatScoresOptions options);

  /// Counts as float64: [classes], [labels], or without dimensions if they are of everything.
  struct Counts {
    torch::Tensor tp, fp, tn, fn;
  };
  /// The metric's value of each class, from its counts.
  virtual torch::Tensor score(const Counts& counts) const = 0;
  /// The counts of everything, for a micro average, from those of each class or label.
  virtual Counts of_all(const Counts& counts) const;
  /// Whether a class that is in no target is left out of a macro average, even if it was predicted.
  virtual bool leaves_out_unseen() const { return options_.top_k > 1; }
  const StatScoresOptions& options() const { return options_; }

  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;
  std::string sharing_key() const override;

 private:
  bool add_small(const torch::Tensor& preds, const torch::Tensor& target);
  torch::Tensor averaged(const torch::Tensor& score, const Counts& counts) const;

  StatScoresOptions options_;
  State tp_, fp_, tn_, fn_;
};

}  // namespace troupe::metrics
