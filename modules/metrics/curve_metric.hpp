// Metrics of how scores rank yes above no, over all thresholds: curves, and the areas under them.
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

/// Exact, it keeps every score and target (states preds and target, joined): memory grows with the data. With
/// thresholds it counts targets between them (states yes and no, [2, labels, thresholds + 1], summed; see
/// ClassificationMetric::of_reading). Scores are not made probabilities for it, which rounds those of a confident model
/// to 1: logits are compared with the thresholds' logits, and ranked as they are or, of classes, by their log-odds.
class CurveMetric : public ClassificationMetric {
 protected:
  CurveMetric(const char* name, const TaskOptions& task, const Thresholds& thresholds);

  /// One label's samples; those that are neither yes nor no are ignored.
  struct Series {
    torch::Tensor scores;          ///< [n]; they rank as probabilities do
    torch::Tensor yes, no;         ///< [n], bool
    torch::Tensor any_above_zero;  ///< bool, over the targets of all classes
  };
  /// What is at least each threshold, from the lowest on: yes (tp) and no (fp), [labels, thresholds]. `yes` and `no`
  /// are all, [labels, 1].
  struct Binned {
    torch::Tensor tp, fp, yes, no;
  };

  bool is_exact() const { return is_exact_; }
  /// Of each class or label if exact; with `as_one` there is one, of all labels.
  std::vector<Series> series(bool as_one) const;
  /// The same from counts at thresholds.
  Binned binned_counts(bool as_one) const;
  /// All scores as probabilities, [n] or [n, labels], if exact.
  torch::Tensor probabilities() const;
  /// The thresholds, rising, float64 [thresholds]; undefined if exact.
  torch::Tensor thresholds() const { return is_exact_ ? torch::Tensor() : thresholds_[0]; }

  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  std::string sharing_key() const override;

 private:
  void count(const torch::Tensor& scores, const torch::Tensor& target);
  torch::Tensor ranks() const;

  bool is_exact_;
  torch::Tensor thresholds_;  // [2, thresholds], themselves and their logits; undefined if exact
  State preds_, target_, yes_, no_;
};

/// The options of areas.
struct CurveOptions {
  TaskOptions task;
  Thresholds thresholds;
  Average average = Average::macro;
};

/// An area under a curve of each class or label, and their average.
class CurveArea : public CurveMetric {
 public:
  bool is_scalar() const override { return task() == Task::binary || average_ != Average::none; }

 protected:
  CurveArea(const char* name, CurveOptions options);

  /// The metric of one label from all scores: float64 without dimensions.
  virtual torch::Tensor exact(const Series& series) const = 0;
  /// The metric of each label from counts at thresholds.
  virtual torch::Tensor binned(const Binned& counts) const = 0;
  /// Whether a label with these numbers of yes and no has a value; bool, of the shape of both.
  virtual torch::Tensor is_defined(const torch::Tensor& yes, const torch::Tensor& no) const = 0;

  torch::Tensor result() const override;

 private:
  torch::Tensor averaged(const torch::Tensor& values, const torch::Tensor& yes, const torch::Tensor& no) const;

  Average average_;
};

}  // namespace troupe::metrics
