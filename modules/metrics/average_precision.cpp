#include "troupe/modules/metrics/average_precision.hpp"

#include <torch/types.h>
#include <torch/utils.h>

namespace troupe::metrics {

AveragePrecision::AveragePrecision(AveragePrecisionOptions options)
    : CurveArea("AveragePrecision", {{options.task, options.num_classes, options.num_labels, options.ignore_index},
                                     std::move(options.thresholds),
                                     options.average}) {}

// Recall rises at the scores of the yes alone, by one over their number each.
torch::Tensor AveragePrecision::exact(const Series& series) const {
  const auto [sorted, order] = series.scores.sort();
  const auto below = torch::searchsorted(sorted, series.scores);
  const auto at_least = [&, &order = order](const torch::Tensor& which) {
    const auto up_to = torch::cat({torch::zeros({1}, order.options()), which.index_select(0, order).cumsum(0)});
    return which.sum() - up_to.index_select(0, below);
  };
  const auto tp = at_least(series.yes), fp = at_least(series.no);
  const auto precision = safe_divide(tp, tp + fp);
  const auto mean = (precision * series.yes).sum() / series.yes.sum();
  if (task() != Task::multiclass) return mean.nan_to_num(0);
  return torch::where(series.any_above_zero, mean, mean.nan_to_num(0));
}

torch::Tensor AveragePrecision::binned(const Binned& counts) const {
  const auto& [tp, fp, yes, no] = counts;
  const auto precision = safe_divide(tp, tp + fp), recall = safe_divide(tp, yes);
  const auto next = torch::cat({recall.slice(1, 1), torch::zeros_like(yes, recall.options())}, 1);
  return ((recall - next) * precision).sum(1);
}

torch::Tensor AveragePrecision::is_defined(const torch::Tensor& yes, const torch::Tensor&) const {
  return yes > 0;
}

}  // namespace troupe::metrics
