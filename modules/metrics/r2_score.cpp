#include "troupe/modules/metrics/r2_score.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/modules/metrics/checks.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <limits>

namespace troupe::metrics {

torch::Tensor over_outputs(Multioutput multioutput, const torch::Tensor& scores, const torch::Tensor& weights) {
  if (multioutput == Multioutput::raw_values) return scores;
  if (multioutput == Multioutput::uniform_average) return scores.mean();
  const auto sum = weights.sum();
  return torch::where(sum == 0, scores.mean(), (weights / sum * scores).sum());
}

R2Score::R2Score(R2ScoreOptions options) : options_(options) {
  check_at_least("R2Score", "adjusted", options_.adjusted, 0);
  const auto none = torch::zeros({}, torch::kFloat64);
  sum_squared_ = add_state("sum_squared_error", none, Combine::sum);  // torchmetrics' names; it is of targets
  sum_ = add_state("sum_error", none, Combine::sum);
  residual_ = add_state("residual", none, Combine::sum);
  const auto infinite = torch::full({}, std::numeric_limits<double>::infinity(), torch::kFloat64);
  lowest_ = add_state("lowest_target", infinite, Combine::min);
  highest_ = add_state("highest_target", -infinite, Combine::max);
  total_ = add_state("total", torch::zeros({}, torch::kLong), Combine::sum);
}

void R2Score::add(const torch::Tensor& preds, const torch::Tensor& target) {
  if (preds.sizes() != target.sizes() || preds.dim() < 1 || preds.dim() > 2) {
    throw UsageError("R2Score: " + shapes_text(preds, target) + "; give both one shape, (N) or (N, outputs)");
  }
  const auto& known = at(residual_);
  const auto outputs = preds.sizes().slice(1);
  if (update_count() > 0 && known.sizes() != outputs) {
    throw UsageError("R2Score: " + shapes_text(preds, target) +
                     c10::str(", after batches with outputs of shape ", known.sizes()));
  }
  const auto y = target.to(torch::kFloat64);
  at(sum_squared_) = at(sum_squared_) + y.square().sum(0);
  at(sum_) = at(sum_) + y.sum(0);
  at(residual_) = at(residual_) + (y - preds.to(torch::kFloat64)).square().sum(0);
  at(total_) += y.size(0);
  const bool is_empty = y.size(0) == 0;
  at(lowest_) = is_empty ? at(lowest_).expand(outputs) : torch::minimum(at(lowest_), y.amin(0));
  at(highest_) = is_empty ? at(highest_).expand(outputs) : torch::maximum(at(highest_), y.amax(0));
}

void R2Score::verify() const {
  const auto samples = at(total_).item<int64_t>();
  if (samples < 2) throw UsageError(c10::str("R2Score needs at least two samples, there are ", samples));
}

torch::Tensor R2Score::result() const {
  const auto count = at(total_).to(torch::kFloat64);
  const auto spread = at(highest_) - at(lowest_);
  const auto is_constant = spread == 0;
  // The difference of two sums is off by their rounding, but not further than what so many targets can make of their
  // spread.
  const auto squares =
      torch::minimum(torch::maximum(at(sum_squared_) - at(sum_) * (at(sum_) / count), spread.square() / 2),
                     spread.square() * count / 4);
  const auto tss = torch::where(is_constant, 0.0, squares);
  const auto& rss = at(residual_);
  const auto of_constant = (rss == 0).to(torch::kFloat64) + 0 * rss;  // NaN where that is
  auto r2 = over_outputs(options_.multioutput, torch::where(is_constant, of_constant, 1 - rss / tss), tss);
  if (options_.adjusted > 0) {
    const auto free = count - options_.adjusted - 1;
    r2 = torch::where(free > 0, 1 - (1 - r2) * (count - 1) / free, r2);
  }
  return torch::where(count < 2, torch::full_like(r2, std::numeric_limits<double>::quiet_NaN()), r2);
}

}  // namespace troupe::metrics
