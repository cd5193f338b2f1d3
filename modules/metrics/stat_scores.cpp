#include "troupe/modules/metrics/stat_scores.hpp"

#include <c10/util/StringUtil.h>
#include <torch/torch.h>

#include <utility>

namespace troupe::metrics {

StatScores::StatScores(const char* name, StatScoresOptions options)
    : ClassificationMetric(name, options.task), options_(std::move(options)) {
  check_threshold(options_.threshold);
  check_choice("average", options_.average, {"micro", "macro", "weighted", "none"});
  if (options_.top_k < 1) refuse(c10::str("top_k = ", options_.top_k, "; use at least 1"));
  if (options_.top_k > 1 && task() != Task::multiclass) {
    refuse(c10::str("top_k = ", options_.top_k, " has no meaning for task = ", options_.task.task));
  }
  if (options_.top_k > classes()) {
    refuse(c10::str("top_k = ", options_.top_k, " is more than num_classes = ", classes()));
  }
  if (options_.zero_division != 0 && options_.zero_division != 1) {
    refuse(c10::str("zero_division = ", options_.zero_division, "; use 0 or 1"));
  }
  const auto none = torch::zeros({classes()}, torch::kLong);
  tp_ = add_state("tp", none, Combine::sum);
  fp_ = add_state("fp", none, Combine::sum);
  tn_ = add_state("tn", none, Combine::sum);
  fn_ = add_state("fn", none, Combine::sum);
}

void StatScores::add(const torch::Tensor& preds, const torch::Tensor& target) {
  if (task() == Task::multiclass) {
    const auto [predicted, actual, counted] = class_labels(preds, target, options_.top_k);
    const auto tp = count_by(actual, counted & (predicted == actual), classes());
    const auto fp = count_by(predicted, counted, classes()) - tp;
    const auto fn = count_by(actual, counted, classes()) - tp;
    at(tp_) += tp;
    at(fp_) += fp;
    at(fn_) += fn;
    at(tn_) += counted.sum() - tp - fp - fn;
    return;
  }
  const auto [predicted, actual, counted] = threshold_labels(preds, target, options_.threshold, false);
  const auto is_yes = predicted == 1, was_yes = actual == 1;
  at(tp_) += (is_yes & was_yes & counted).sum(1);
  at(fp_) += (is_yes & ~was_yes & counted).sum(1);
  at(fn_) += (~is_yes & was_yes & counted).sum(1);
  at(tn_) += (~is_yes & ~was_yes & counted).sum(1);
}

torch::Tensor StatScores::result() const {
  const bool sums = task() == Task::binary || options_.average == "micro";
  const auto as_counts = [&](State state) {
    const auto counts = at(state).to(torch::kFloat64);
    return sums ? counts.sum() : counts;
  };
  const Counts counts{as_counts(tp_), as_counts(fp_), as_counts(tn_), as_counts(fn_)};
  const auto scores = score(counts);
  return sums ? scores : averaged(scores, counts);
}

// As torchmetrics: classes that neither were there nor were predicted have no part in a macro average; labels always
// have.
torch::Tensor StatScores::averaged(const torch::Tensor& score, const Counts& counts) const {
  if (options_.average == "none") return score;
  torch::Tensor weights = torch::ones_like(score);
  if (options_.average == "weighted") {
    weights = counts.tp + counts.fn;
  } else if (task() == Task::multiclass) {
    const auto seen = counts.tp + counts.fn;
    weights = ((leaves_out_unseen() ? seen : seen + counts.fp) != 0).to(torch::kFloat64);
  }
  return safe_divide(weights * score, weights.sum()).sum();
}

}  // namespace troupe::metrics
