#include "troupe/modules/metrics/accuracy.hpp"

namespace troupe::metrics {

Accuracy::Accuracy(AccuracyOptions options)
    : StatScores("Accuracy", {{options.task, options.num_classes, options.num_labels, options.ignore_index},
                              options.threshold,
                              options.average,
                              options.top_k}) {}

torch::Tensor Accuracy::score(const Counts& counts) const {
  const auto& [tp, fp, tn, fn] = counts;
  return task() == Task::multiclass ? safe_divide(tp, tp + fn) : safe_divide(tp + tn, tp + tn + fp + fn);
}

}  // namespace troupe::metrics
