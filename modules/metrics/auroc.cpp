#include "troupe/modules/metrics/auroc.hpp"

#include <torch/types.h>
#include <torch/utils.h>

namespace troupe::metrics {

AUROC::AUROC(AUROCOptions options)
    : CurveArea("AUROC", {{options.task, options.num_classes, options.num_labels, options.ignore_index},
                          std::move(options.thresholds),
                          options.average}) {}

// The area is the share of pairs (yes, no) that the scores put in order (Hanley and McNeil 1982), which needs no curve
// and is exact in integers: each yes counts twice the no below it and once those with its score.
torch::Tensor AUROC::exact(const Series& series) const {
  const auto [sorted, order] = series.scores.sort();
  const auto no_up_to = torch::cat({torch::zeros({1}, order.options()), series.no.index_select(0, order).cumsum(0)});
  const auto no_below = no_up_to.index_select(0, torch::searchsorted(sorted, series.scores));
  const auto no_up_to_equal =
      no_up_to.index_select(0, torch::searchsorted(sorted, series.scores, /*out_int32=*/false, /*right=*/true));
  const auto in_order = ((no_below + no_up_to_equal) * series.yes).sum();
  return safe_divide(in_order, 2 * series.yes.sum() * series.no.sum());
}

torch::Tensor AUROC::binned(const Binned& counts) const {
  const auto tpr = safe_divide(counts.tp, counts.yes), fpr = safe_divide(counts.fp, counts.no);
  return torch::trapezoid(tpr.flip(1), fpr.flip(1), 1);
}

torch::Tensor AUROC::is_defined(const torch::Tensor& yes, const torch::Tensor& no) const {
  return (yes > 0) & (no > 0);
}

}  // namespace troupe::metrics
