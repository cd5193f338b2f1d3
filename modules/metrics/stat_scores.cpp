#include "troupe/modules/metrics/stat_scores.hpp"

#include "troupe/base/number_text.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace troupe::metrics {

StatScores::StatScores(const char* name, StatScoresOptions options)
    : ClassificationMetric(name, options.task), options_(options) {
  check_threshold(options_.threshold);
  if (options_.top_k < 1) refuse(c10::str("top_k = ", options_.top_k, "; use at least 1"));
  if (options_.top_k > 1 && task() != Task::multiclass) {
    refuse(c10::str("top_k = ", options_.top_k, " has no meaning for task = ", name_of(task())));
  }
  if (options_.top_k > classes()) {
    refuse(c10::str("top_k = ", options_.top_k, " is more than num_classes = ", classes()));
  }
  if (options_.zero_division != 0 && options_.zero_division != 1) {
    refuse(c10::str("zero_division = ", options_.zero_division, "; use 0 or 1"));
  }
  auto shape = std::vector<int64_t>{classes()};
  if (task() != Task::multiclass) shape.insert(shape.begin(), 2);  // scores read as probabilities, and as logits
  const auto none = torch::zeros(shape, torch::kLong);
  tp_ = add_state("tp", none, Combine::sum);
  fp_ = add_state("fp", none, Combine::sum);
  tn_ = add_state("tn", none, Combine::sum);
  fn_ = add_state("fn", none, Combine::sum);
}

void StatScores::add(const torch::Tensor& preds, const torch::Tensor& target) {
  if (add_small(preds, target)) return;
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
  const auto [predicted, actual, counted] = threshold_labels(preds, target, options_.threshold);
  const auto said = predicted & counted, so = actual & counted;
  const auto tp = (said & so).sum(2), all_said = said.sum(2), all_so = so.sum(1);
  at(tp_) += tp;
  at(fp_) += all_said - tp;
  at(fn_) += all_so - tp;
  at(tn_) += counted.sum(1) - all_so - all_said + tp;
}

bool StatScores::add_small(const torch::Tensor& preds, const torch::Tensor& target) {
  auto* const tp = at(tp_).mutable_data_ptr<int64_t>();
  auto* const fp = at(fp_).mutable_data_ptr<int64_t>();
  auto* const tn = at(tn_).mutable_data_ptr<int64_t>();
  auto* const fn = at(fn_).mutable_data_ptr<int64_t>();
  if (task() != Task::multiclass) {
    return for_small_answers(preds, target, options_.threshold, [&](const LabelAnswer* answers, int64_t number) {
      for (int64_t i = 0; i < number; ++i) {
        const auto& [label, predicted, actual] = answers[i];
        for (int64_t reading = 0; reading < 2; ++reading) {
          auto* const count = predicted[reading] ? (actual ? tp : fp) : (actual ? fn : tn);
          ++count[reading * classes() + label];
        }
      }
    });
  }
  if (options_.top_k > 1) return false;
  return for_small_classes(preds, target, [&](const int64_t* predicted, const int64_t* actual, int64_t samples) {
    // Each answer is a true negative of all classes but the one or two that it is about.
    for (int64_t label = 0; label < classes(); ++label) tn[label] += samples;
    for (int64_t i = 0; i < samples; ++i) {
      const int64_t said = predicted[i], so = actual[i];
      const int64_t is_wrong = said != so ? 1 : 0;
      tp[so] += 1 - is_wrong;
      fn[so] += is_wrong;
      fp[said] += is_wrong;
      --tn[so];
      tn[said] -= is_wrong;
    }
  });
}

std::string StatScores::sharing_key() const {
  return "StatScores " + task_key() + " " + double_to_text(options_.threshold) + " " + std::to_string(options_.top_k);
}

torch::Tensor StatScores::result() const {
  const bool sums = task() == Task::binary || options_.average == Average::micro;
  const auto as_counts = [&](State state) {
    return (task() == Task::multiclass ? at(state) : of_reading(at(state))).to(torch::kFloat64);
  };
  Counts counts{as_counts(tp_), as_counts(fp_), as_counts(tn_), as_counts(fn_)};
  if (sums) counts = of_all(counts);
  const auto scores = score(counts);
  return unless_nan(sums ? scores : averaged(scores, counts));
}

StatScores::Counts StatScores::of_all(const Counts& counts) const {
  return {counts.tp.sum(), counts.fp.sum(), counts.tn.sum(), counts.fn.sum()};
}

// A macro average is over classes that were there or were predicted, as in torchmetrics, and never over the one that is
// ignored; over labels that had a sample that counts.
torch::Tensor StatScores::averaged(const torch::Tensor& score, const Counts& counts) const {
  if (options_.average == Average::none) return score;
  const auto seen = counts.tp + counts.fn;
  torch::Tensor weights = seen;
  if (options_.average == Average::macro) {
    auto basis = seen + counts.fp;
    if (task() == Task::multilabel) basis = basis + counts.tn;
    if (task() == Task::multiclass && leaves_out_unseen()) basis = seen;
    weights = (basis != 0).to(torch::kFloat64);
    const auto ignored = ignore_index().value_or(-1);
    if (task() == Task::multiclass && ignored >= 0 && ignored < classes()) weights.select(0, ignored).zero_();
  }
  return safe_divide(weights * score, weights.sum()).sum();
}

}  // namespace troupe::metrics
