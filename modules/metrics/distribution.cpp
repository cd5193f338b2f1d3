#include "troupe/modules/metrics/distribution.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/modules/metrics/checks.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <limits>

namespace troupe::metrics {

KLDivergence::KLDivergence(KLDivergenceOptions options) : options_(options) {
  measures_ = options_.reduction == Reduction::none
                  ? add_list("measures", torch::kFloat64)
                  : add_state("measures", torch::zeros({}, torch::kFloat64), Combine::sum);
  total_ = add_state("total", torch::zeros({}, torch::kLong), Combine::sum);
}

void KLDivergence::add(const torch::Tensor& preds, const torch::Tensor& target) {
  if (preds.sizes() != target.sizes() || preds.dim() != 2) {
    throw UsageError("KLDivergence: " + shapes_text(preds, target) + "; give both one shape, (N, d)");
  }
  auto p = preds.to(torch::kFloat64), q = target.to(torch::kFloat64);
  torch::Tensor measures;
  if (options_.log_prob) {
    measures = (p.exp() * (p - q)).sum(1);
  } else {
    p = p / p.sum(1, /*keepdim=*/true);
    q = q / q.sum(1, /*keepdim=*/true);
    measures = torch::where(p == 0, 0.0, p * (p / q).log()).sum(1);
  }
  if (options_.reduction == Reduction::none) {
    append(measures_, measures);
  } else {
    at(measures_) += measures.sum();
  }
  at(total_) += measures.size(0);
}

torch::Tensor KLDivergence::result() const {
  return options_.reduction == Reduction::mean ? at(measures_) / at(total_) : at(measures_);
}

WassersteinDistance::WassersteinDistance(WassersteinDistanceOptions) {
  preds_ = add_list("preds", torch::kFloat64);
  target_ = add_list("target", torch::kFloat64);
}

void WassersteinDistance::add(const torch::Tensor& preds, const torch::Tensor& target) {
  const auto own = [](const torch::Tensor& values) {
    return values.to(torch::kFloat64, /*non_blocking=*/false, /*copy=*/true).reshape({-1});
  };
  append(preds_, own(preds));
  append(target_, own(target));
}

void WassersteinDistance::verify() const {
  const auto preds = at(preds_).numel(), target = at(target_).numel();
  if (preds > 0 && target > 0) return;
  throw UsageError(
      c10::str("WassersteinDistance needs values of both, there are ", preds, " of preds and ", target, " of target"));
}

torch::Tensor WassersteinDistance::result() const {
  const auto preds = std::get<0>(at(preds_).sort()), target = std::get<0>(at(target_).sort());
  const auto all = std::get<0>(torch::cat({preds, target}).sort());
  if (preds.numel() == 0 || target.numel() == 0) {
    return torch::full({}, std::numeric_limits<double>::quiet_NaN(), all.options());
  }
  const auto steps = all.diff(), places = all.slice(0, 0, all.size(0) - 1).contiguous();
  const auto share = [&](const torch::Tensor& sorted) {
    const auto up_to = torch::searchsorted(sorted, places, /*out_int32=*/false, /*right=*/true);
    return up_to.to(torch::kFloat64) / sorted.numel();
  };
  const auto distance = ((share(preds) - share(target)).abs() * steps).sum();
  return distance + 0 * all.sum();  // NaN where a value is
}

}  // namespace troupe::metrics
