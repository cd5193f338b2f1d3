#include "troupe/modules/metrics/agreement.hpp"

#include <torch/types.h>
#include <torch/utils.h>

namespace troupe::metrics {

MatthewsCorrCoef::MatthewsCorrCoef(MatthewsCorrCoefOptions options)
    : ConfusionMetric("MatthewsCorrCoef", {options.task, options.num_classes, options.num_labels, options.ignore_index},
                      options.threshold) {}

torch::Tensor MatthewsCorrCoef::result() const {
  auto counts = matrix().to(torch::kFloat64);
  if (counts.dim() == 3) counts = counts.sum(0);
  const auto predicted = counts.sum(0), actual = counts.sum(1), all = counts.sum(), right = counts.trace();
  const auto spread = [&](const torch::Tensor& of) { return all.square() - of.square().sum(); };
  const auto scale = spread(predicted) * spread(actual);
  auto degenerate = torch::where(right == all, 1.0, 0.0 * all);
  if (counts.size(0) == 2) degenerate = torch::where(right == 0, -1.0, degenerate);
  degenerate = torch::where(all == 0, 0.0, degenerate);
  const auto value = (right * all - (predicted * actual).sum()) / scale.sqrt();
  return unless_nan(torch::where(scale == 0, degenerate, value));
}

CohenKappa::CohenKappa(CohenKappaOptions options)
    : ConfusionMetric(
          "CohenKappa",
          {without_labels("CohenKappa", options.task), options.num_classes, std::nullopt, options.ignore_index},
          options.threshold),
      weights_(options.weights) {}

torch::Tensor CohenKappa::result() const {
  const auto counts = matrix().to(torch::kFloat64);
  const auto predicted = counts.sum(0, /*keepdim=*/true), actual = counts.sum(1, /*keepdim=*/true);
  const auto by_chance = actual.matmul(predicted) / counts.sum();
  const auto classes = torch::arange(counts.size(0), counts.options());
  const auto distance = (classes.unsqueeze(1) - classes).abs();
  const auto weights = weights_ == KappaWeights::linear      ? distance
                       : weights_ == KappaWeights::quadratic ? distance.square()
                                                             : (distance > 0).to(torch::kFloat64);
  return unless_nan(1 - (weights * counts).sum() / (weights * by_chance).sum());
}

}  // namespace troupe::metrics
