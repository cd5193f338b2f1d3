#include "troupe/modules/metrics/curves.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace troupe::metrics {

namespace {

constexpr double no_point = std::numeric_limits<double>::quiet_NaN();

// [1] of a number.
torch::Tensor point(double value, const torch::Tensor& like) {
  return torch::full({1}, value, like.options().dtype(torch::kFloat64));
}

}  // namespace

CurvePoints::CurvePoints(const char* name, CurvePointsOptions options)
    : CurveMetric(name, {options.task, options.num_classes, options.num_labels, options.ignore_index},
                  options.thresholds) {}

torch::Tensor CurvePoints::result() const {
  if (!is_exact()) {
    const auto all = binned(binned_counts(/*as_one=*/false));
    return unless_nan(task() == Task::binary ? all.squeeze(0) : all);
  }
  const auto all = probabilities().to(torch::kFloat64);
  std::vector<torch::Tensor> curves;
  int64_t longest = 0;
  for (const auto& each : series(/*as_one=*/false)) {
    const auto column = task() == Task::binary ? all.reshape({-1}) : all.select(1, static_cast<int64_t>(curves.size()));
    const auto heeded = (each.yes | each.no).nonzero().squeeze(1);
    const auto scores = each.scores.index_select(0, heeded);
    const auto order = scores.argsort(/*dim=*/0, /*descending=*/true);
    const auto sorted = scores.index_select(0, order);
    // The last one of each score.
    const auto ends = torch::cat({sorted.diff() != 0, torch::ones({std::min<int64_t>(sorted.size(0), 1)},
                                                                  sorted.options().dtype(torch::kBool))})
                          .nonzero()
                          .squeeze(1);
    const auto up_to = [&](const torch::Tensor& which) {
      return which.index_select(0, heeded).index_select(0, order).cumsum(0).index_select(0, ends).to(torch::kFloat64);
    };
    const auto thresholds = column.index_select(0, heeded).index_select(0, order).index_select(0, ends);
    curves.push_back(exact({up_to(each.yes), up_to(each.no), thresholds}));
    longest = std::max(longest, curves.back().size(1));
  }
  if (task() == Task::binary) return unless_nan(curves.front());
  for (auto& curve : curves) curve = torch::constant_pad_nd(curve, {0, longest - curve.size(1)}, no_point);
  return unless_nan(torch::stack(curves));
}

// --- PrecisionRecallCurve ---

PrecisionRecallCurve::PrecisionRecallCurve(CurvePointsOptions options)
    : CurvePoints("PrecisionRecallCurve", std::move(options)) {}

torch::Tensor PrecisionRecallCurve::exact(const Descent& descent) const {
  const auto& [tp, fp, thresholds] = descent;
  const auto recall = safe_divide(tp, tp.slice(0, -1), 1.0);
  return torch::stack({torch::cat({(tp / (tp + fp)).flip(0), point(1, tp)}), torch::cat({recall.flip(0), point(0, tp)}),
                       torch::cat({thresholds.flip(0), point(no_point, tp)})});
}

torch::Tensor PrecisionRecallCurve::binned(const Binned& counts) const {
  const auto precision = safe_divide(counts.tp, counts.tp + counts.fp, no_point);
  const auto recall = safe_divide(counts.tp, counts.yes, no_point);
  const auto own = thresholds().to(recall.device()).expand_as(recall);
  const auto end = [](const torch::Tensor& row, double value) { return torch::constant_pad_nd(row, {0, 1}, value); };
  return torch::stack({end(precision, 1), end(recall, 0), end(own, no_point)}, 1);
}

// --- ROC ---

ROC::ROC(CurvePointsOptions options) : CurvePoints("ROC", std::move(options)) {}

torch::Tensor ROC::exact(const Descent& descent) const {
  const auto& [tp, fp, thresholds] = descent;
  const auto rate = [](const torch::Tensor& hits) {
    return torch::cat({point(0, hits), safe_divide(hits, hits.slice(0, -1))});
  };
  return torch::stack({rate(fp), rate(tp), torch::cat({point(1, tp), thresholds})});
}

torch::Tensor ROC::binned(const Binned& counts) const {
  const auto tpr = safe_divide(counts.tp, counts.yes), fpr = safe_divide(counts.fp, counts.no);
  return torch::stack({fpr, tpr, thresholds().to(tpr.device()).expand_as(tpr)}, 1).flip(2);
}

}  // namespace troupe::metrics
