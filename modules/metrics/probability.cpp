#include "troupe/modules/metrics/probability.hpp"

#include "troupe/modules/metrics/checks.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <limits>

namespace troupe::metrics {

namespace {

double epsilon_of(torch::ScalarType type) {
  return type == torch::kFloat64 ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
}

}  // namespace

void ProbabilityMetric::add_readings(State state, const torch::Tensor& preds, const torch::Tensor& target) {
  const bool has_classes = task() == Task::multiclass;
  const auto given = scored(preds, target);
  const auto scores = has_classes ? given.scores : given.scores.reshape({-1});
  const auto labels = given.target.reshape({-1});
  Scored batch{scores, labels,
               given.counted.defined() ? given.counted.reshape({-1}) : torch::ones_like(labels, torch::kBool)};
  const auto logits = are_logits();
  // Where it is known already that they are logits, the other reading will not be asked for.
  if (!logits.is_cpu() || !logits.item<bool>()) at(state).select(0, 0).add_(measure(batch));
  batch.probabilities = has_classes ? scores.softmax(1) : scores.sigmoid();
  at(state).select(0, 1).add_(measure(batch));
}

// --- CalibrationError ---

CalibrationError::CalibrationError(CalibrationErrorOptions options)
    : ProbabilityMetric("CalibrationError", {without_labels("CalibrationError", options.task), options.num_classes,
                                             std::nullopt, options.ignore_index}),
      n_bins_(options.n_bins),
      norm_(options.norm) {
  check_at_least("CalibrationError", "n_bins", n_bins_, 1);
  // The last bin is that of 1 alone.
  bins_ = add_state("bins", torch::zeros({2, 3, n_bins_ + 1}, torch::kFloat64), Combine::sum);
}

torch::Tensor CalibrationError::measure(const Scored& batch) const {
  auto confidence = batch.probabilities;
  auto is_right = batch.target;
  if (task() == Task::multiclass) {
    const auto [highest, label] = confidence.max(1);
    confidence = highest;
    is_right = label == batch.target;
  }
  const auto edges = torch::linspace(0, 1, n_bins_ + 1, confidence.options());
  const auto bin =
      (torch::bucketize(confidence.contiguous(), edges, /*out_int32=*/false, /*right=*/true) - 1).clamp(0, n_bins_);
  const auto rows = torch::stack(
      {torch::ones_like(confidence, torch::kFloat64), confidence.to(torch::kFloat64), is_right.to(torch::kFloat64)});
  const auto heeded = torch::where(batch.counted, rows, 0.0);
  return torch::zeros({3, n_bins_ + 1}, heeded.options()).index_add_(1, bin, heeded);
}

torch::Tensor CalibrationError::result() const {
  const auto bins = of_reading(at(bins_));
  const auto counts = bins[0], all = counts.sum();
  const auto gap = safe_divide(bins[2] - bins[1], counts).abs();
  auto error = gap.max();
  if (norm_ == CalibrationNorm::l1) error = (gap * counts).sum() / all;
  if (norm_ == CalibrationNorm::l2) error = ((gap.square() * counts).sum() / all).sqrt();
  return unless_nan(torch::where(all == 0, std::numeric_limits<double>::quiet_NaN(), error));
}

// --- HingeLoss ---

HingeLoss::HingeLoss(HingeLossOptions options)
    : ProbabilityMetric("HingeLoss", {without_labels("HingeLoss", options.task), options.num_classes, std::nullopt,
                                      options.ignore_index}),
      squared_(options.squared),
      is_one_vs_all_(options.multiclass_mode == MulticlassMode::one_vs_all) {
  if (is_one_vs_all_ && task() == Task::binary) refuse("multiclass_mode = one-vs-all has no meaning for task = binary");
  losses_ = add_state("losses", torch::zeros({2, 1 + (is_one_vs_all_ ? classes() : 1)}, torch::kFloat64), Combine::sum);
}

// The number of samples, then the losses.
torch::Tensor HingeLoss::measure(const Scored& batch) const {
  const auto scores = batch.probabilities.to(torch::kFloat64);
  torch::Tensor margin;
  if (task() == Task::binary) {
    margin = torch::where(batch.target == 1, scores, -scores).unsqueeze(1);
  } else {
    const auto target = batch.target.unsqueeze(1);
    const auto is_target = torch::arange(classes(), target.options()) == target;
    margin =
        is_one_vs_all_
            ? torch::where(is_target, scores, -scores)
            : scores.gather(1, target) -
                  scores.masked_fill(is_target, -std::numeric_limits<double>::infinity()).amax(1, /*keepdim=*/true);
  }
  auto loss = (1 - margin).clamp_min(0);
  if (squared_) loss = loss.square();
  const auto rows = torch::cat({torch::ones({loss.size(0), 1}, loss.options()), loss}, 1);
  return torch::where(batch.counted.unsqueeze(1), rows, 0.0).sum(0);
}

torch::Tensor HingeLoss::result() const {
  const auto sums = of_reading(at(losses_));
  const auto means = sums.slice(0, 1) / sums[0];
  return unless_nan(is_one_vs_all_ ? means : means.squeeze(0));
}

// --- LogLoss ---

LogLoss::LogLoss(LogLossOptions options)
    : ProbabilityMetric("LogLoss", {options.task, options.num_classes, options.num_labels, options.ignore_index}) {
  losses_ = add_state("losses", torch::zeros({2, 2}, torch::kFloat64), Combine::sum);
}

torch::Tensor LogLoss::measure(const Scored& batch) const {
  const double least = epsilon_of(batch.probabilities.scalar_type());
  const auto scores = batch.probabilities.to(torch::kFloat64);
  torch::Tensor likely;
  if (task() == Task::multiclass) {
    const auto scaled = scores / scores.sum(1, /*keepdim=*/true);
    likely = scaled.gather(1, batch.target.unsqueeze(1)).squeeze(1);
  } else {
    likely = torch::where(batch.target == 1, scores, 1 - scores);
  }
  const auto loss = -likely.clamp(least, 1 - least).log();
  return torch::stack({torch::ones_like(loss), loss}).masked_fill(~batch.counted, 0).sum(1);
}

torch::Tensor LogLoss::result() const {
  const auto sums = of_reading(at(losses_));
  return unless_nan(sums[1] / sums[0]);
}

}  // namespace troupe::metrics
