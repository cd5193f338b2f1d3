#include "troupe/modules/metrics/precision_recall.hpp"

namespace troupe::metrics {

namespace {

StatScoresOptions general(const PrecisionRecallOptions& options) {
  return {{options.task, options.num_classes, options.num_labels, options.ignore_index},
          options.threshold,
          options.average,
          options.top_k,
          options.zero_division};
}

}  // namespace

Precision::Precision(PrecisionRecallOptions options) : StatScores("Precision", general(options)) {}

torch::Tensor Precision::score(const Counts& counts) const {
  return safe_divide(counts.tp, counts.tp + counts.fp, static_cast<double>(options().zero_division));
}

Recall::Recall(PrecisionRecallOptions options) : StatScores("Recall", general(options)) {}

torch::Tensor Recall::score(const Counts& counts) const {
  return safe_divide(counts.tp, counts.tp + counts.fn, static_cast<double>(options().zero_division));
}

Specificity::Specificity(SpecificityOptions options)
    : StatScores("Specificity", {{options.task, options.num_classes, options.num_labels, options.ignore_index},
                                 options.threshold,
                                 options.average,
                                 options.top_k}) {}

torch::Tensor Specificity::score(const Counts& counts) const {
  return safe_divide(counts.tn, counts.tn + counts.fp);
}

}  // namespace troupe::metrics
