// Metrics of how scores rank yes above no, over all thresholds: AUROC and average precision.
#pragma once

#include "troupe/modules/metrics/classification.hpp"

#include <initializer_list>

namespace troupe::metrics {

/// At which scores a curve is looked at: none (the default) for every score that there is, a number of them evenly from
/// 0 to 1, or a list.
///
///     .thresholds = 200
///     .thresholds = {0.25, 0.5, 0.75}
class Thresholds {
 public:
  Thresholds() = default;
  Thresholds(int count) : count_(count) {}
  Thresholds(std::initializer_list<double> values) : values_(values), is_list_(true) {}
  Thresholds(std::vector<double> values) : values_(std::move(values)), is_list_(true) {}

  bool is_exact() const { return !count_ && !is_list_; }
  /// Rising, float32. Throws UsageError ("<metric>: ...") for fewer than 2 of a count, none of a list, values beyond
  /// 0..1 or not in rising order.
  torch::Tensor tensor(const char* metric) const;

 private:
  std::optional<int> count_;
  std::vector<double> values_;
  bool is_list_ = false;
};

/// The options of both.
struct CurveOptions {
  TaskOptions task;
  Thresholds thresholds;
  std::string average = "macro";
};

/// Exact, it keeps every score and target (states preds and target, joined): memory grows with the data. With
/// thresholds it counts targets between them (states yes and no, [2, labels, thresholds + 1], summed; see
/// ClassificationMetric::of_reading). Scores are not made probabilities for it, which rounds those of a confident model
/// to 1: logits are compared with the thresholds' logits, and ranked as they are or, of classes, by their log-odds.
class CurveMetric : public ClassificationMetric {
 public:
  bool is_scalar() const override { return task() == Task::binary || average_ != "none"; }

 protected:
  CurveMetric(const char* name, CurveOptions options);

  /// One label's samples; those that are neither yes nor no are ignored.
  struct Series {
    torch::Tensor scores;          ///< [n]
    torch::Tensor yes, no;         ///< [n], bool
    torch::Tensor any_above_zero;  ///< bool, over the targets of all classes
  };
  /// The metric of one label from all scores: float64 without dimensions.
  virtual torch::Tensor exact(const Series& series) const = 0;
  /// The metric of each label from counts at thresholds, [labels, thresholds] from the lowest on: `tp` and `fp` are the
  /// yes and no with a score of at least the threshold. `yes` and `no` are all, [labels, 1].
  virtual torch::Tensor binned(const torch::Tensor& tp, const torch::Tensor& fp, const torch::Tensor& yes,
                               const torch::Tensor& no) const = 0;

  /// Whether a label with these numbers of yes and no has a value; bool, of the shape of both.
  virtual torch::Tensor is_defined(const torch::Tensor& yes, const torch::Tensor& no) const = 0;

  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;

 private:
  void check_scores(const torch::Tensor& preds, const torch::Tensor& target) const;
  void count(const torch::Tensor& scores, const torch::Tensor& target);
  torch::Tensor ranks() const;
  torch::Tensor exact_result() const;
  torch::Tensor binned_result() const;
  torch::Tensor averaged(const torch::Tensor& values, const torch::Tensor& yes, const torch::Tensor& no) const;

  std::string average_;
  bool is_exact_;
  torch::Tensor thresholds_;  // [2, thresholds], themselves and their logits; undefined if exact
  State preds_, target_, yes_, no_;
};

}  // namespace troupe::metrics
