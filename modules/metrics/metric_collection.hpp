// Metrics of the same predictions and targets, updated together, of which those that gather the same do it once.
#pragma once

#include "troupe/modules/metrics/loggable.hpp"
#include "troupe/modules/metrics/metric.hpp"

#include <concepts>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace troupe::metrics {

/// Metrics under their names (https://lightning.ai/docs/torchmetrics/stable/pages/overview.html#metriccollection).
///
///     auto metrics = MetricCollection("val_")
///                        .add("acc", Accuracy({.task = Task::multiclass, .num_classes = 10}))
///                        .add("f1", F1Score({.task = Task::multiclass, .num_classes = 10, .average = Average::macro}))
///                        .add("auroc", AUROC({.task = Task::multiclass, .num_classes = 10}));
///     metrics.update(preds, target);    // counts once for acc and f1
///     log_dict(metrics.loggable());     // in a module that has registered them: val_acc, val_f1, val_auroc
///
/// Members whose updates are the same share their states: those made of true and false positives and negatives, those
/// made of a confusion matrix, and curves with their areas, each with one task, threshold, top_k and ignore_index (or
/// thresholds). torchmetrics finds such groups by comparing values after the first update; here the options decide.
/// What is done to one of a group, such as reset() or load_states(), is done to all. Update members by the collection
/// alone. Copies stand for the same metrics. Belongs to one thread, as they do.
class MetricCollection {
 public:
  /// `prefix` stands before each name.
  explicit MetricCollection(std::string prefix = "") : prefix_(std::move(prefix)) {}

  /// Throws UsageError for a name that is empty or taken, and after an update.
  template <std::derived_from<TargetMetric> M>
  MetricCollection& add(const std::string& name, M metric) & {
    insert(name, std::make_shared<M>(std::move(metric)));
    return *this;
  }
  template <std::derived_from<TargetMetric> M>
  MetricCollection add(const std::string& name, M metric) && {
    insert(name, std::make_shared<M>(std::move(metric)));
    return std::move(*this);
  }

  /// The values of all members under their names, in the order in which they were added.
  using Values = std::vector<std::pair<std::string, torch::Tensor>>;

  /// Adds a batch to all. Throws what a member throws; groups before it keep the batch.
  void update(const torch::Tensor& preds, const torch::Tensor& target);
  /// Adds a batch and returns the values of it alone.
  Values operator()(const torch::Tensor& preds, const torch::Tensor& target);
  /// The values over everything since the last reset. Throws UsageError if there was no update.
  Values compute() const;
  void reset();

  /// Throws UsageError for a name (without the prefix) that no member has, and names the nearest.
  Metric& operator[](const std::string& name) const;
  std::size_t size() const { return members_.size(); }
  /// How many sets of states there are.
  std::size_t groups() const { return groups_.size(); }
  /// The members under their names with the prefix, for Module::register_metrics and Module::log_dict.
  NamedMetrics members() const;
  std::vector<std::pair<std::string, Loggable>> loggable() const;

 private:
  struct Group {
    std::string key;
    std::vector<std::size_t> members;
  };

  void insert(const std::string& name, std::shared_ptr<TargetMetric> metric);
  std::vector<Metric*> sharing(const Group& group) const;

  std::string prefix_;
  std::vector<std::pair<std::string, std::shared_ptr<TargetMetric>>> members_;
  std::vector<Group> groups_;
};

}  // namespace troupe::metrics
