#include "troupe/modules/metrics/curve_metric.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <limits>

namespace troupe::metrics {

namespace {

// A target that is ignored.
constexpr int64_t ignored = -1;

// The log-odds of each class, from logits [n, classes]: what ranks as its probability does, but of a confident model
// too, whose probabilities are rounded to 1. Within rounding, equal probabilities are equal here.
torch::Tensor log_odds(const torch::Tensor& logits) {
  const auto wide = logits.to(torch::kFloat64);
  const auto [highest, label] = wide.max(1, /*keepdim=*/true);
  const auto others = wide.scatter(1, label, -std::numeric_limits<double>::infinity());
  const auto above = wide - highest;
  const auto odds = above.exp().scatter(1, label, 1.0);  // against the highest
  const auto all = odds.sum(1, /*keepdim=*/true);
  const auto of_highest = highest - others.logsumexp(1, /*keepdim=*/true);
  return (above - (all - odds).log()).scatter(1, label, of_highest).to(logits.scalar_type());
}

}  // namespace

torch::Tensor Thresholds::tensor(const char* metric) const {
  const auto refuse = [&](const std::string& why) { throw UsageError(std::string(metric) + ": thresholds " + why); };
  if (count_) {
    if (*count_ < 2) refuse("= " + std::to_string(*count_) + "; use at least 2");
    return torch::linspace(0, 1, *count_, torch::kFloat32);
  }
  if (values_.empty()) refuse("is an empty list");
  for (std::size_t i = 0; i < values_.size(); ++i) {
    if (!(values_[i] >= 0 && values_[i] <= 1)) refuse("holds " + double_to_text(values_[i]) + "; use 0 to 1");
    if (i > 0 && values_[i] <= values_[i - 1]) {
      refuse("holds " + double_to_text(values_[i]) + " after " + double_to_text(values_[i - 1]) + "; let them rise");
    }
  }
  return torch::tensor(values_, torch::kFloat32);
}

CurveMetric::CurveMetric(const char* name, const TaskOptions& task, const Thresholds& thresholds)
    : ClassificationMetric(name, task), is_exact_(thresholds.is_exact()) {
  if (is_exact_) {
    preds_ = add_list("preds", torch::kFloat32);
    target_ = add_list("target", torch::kLong);
    return;
  }
  const auto at_which = thresholds.tensor(name).to(torch::kFloat64);
  thresholds_ = torch::stack({at_which, at_which.logit()});
  const auto none = torch::zeros({2, classes(), at_which.numel() + 1}, torch::kLong);
  yes_ = add_state("yes", none, Combine::sum);
  no_ = add_state("no", none, Combine::sum);
}

std::string CurveMetric::sharing_key() const {
  std::string key = "CurveMetric " + task_key();
  for (int64_t i = 0; !is_exact_ && i < thresholds_.size(1); ++i) {
    key += " " + double_to_text(thresholds_[0][i].item<double>());
  }
  return key;
}

void CurveMetric::add(const torch::Tensor& preds, const torch::Tensor& target) {
  if (target.is_floating_point()) {
    refuse(c10::str("target holds ", target.scalar_type(), "; labels of an integer type are needed"));
  }
  const auto batch = scored(preds, target);
  const auto labels = batch.counted.defined() ? torch::where(batch.counted, batch.target, ignored) : batch.target;
  if (!is_exact_) return count(batch.scores, labels);
  append_copy(preds_, batch.scores);
  append_copy(target_, labels);
}

// Scores of [n], or [n, labels]; targets of [n], of labels [n, labels], -1 where ignored.
void CurveMetric::count(const torch::Tensor& scores, const torch::Tensor& target) {
  const int64_t bins = thresholds_.size(1) + 1;
  thresholds_ = thresholds_.to(scores.device());
  auto is_yes = target == 1, is_no = target == 0;
  if (task() == Task::multiclass) {
    is_yes = target.unsqueeze(1) == torch::arange(classes(), target.options());
    is_no = ~is_yes & (target != ignored).unsqueeze(1);
  }
  is_yes = is_yes.reshape({-1});
  is_no = is_no.reshape({-1});
  const auto count_reading = [&](int64_t reading, const torch::Tensor& read) {
    // Bin b holds the scores that b thresholds are not above.
    const auto bin = torch::searchsorted(thresholds_[reading].to(read.scalar_type()), read.contiguous(),
                                         /*out_int32=*/false, /*right=*/true);
    const auto column = bin.dim() == 2 ? bin : bin.unsqueeze(1);
    const auto cell = (column + bins * torch::arange(classes(), bin.options())).reshape({-1});
    at(yes_).select(0, reading).add_(count_by(cell, is_yes, classes() * bins).view({classes(), bins}));
    at(no_).select(0, reading).add_(count_by(cell, is_no, classes() * bins).view({classes(), bins}));
  };
  // Where it is known already that they are logits, the other reading will not be asked for.
  const auto logits = are_logits();
  if (!logits.is_cpu() || !logits.item<bool>()) count_reading(0, scores);
  count_reading(1, task() == Task::multiclass ? log_odds(scores) : scores);
}

// What ranks samples as their probabilities do. A score itself does, but for logits of classes.
torch::Tensor CurveMetric::ranks() const {
  const auto scores = at(preds_);
  if (task() != Task::multiclass) return scores;
  const auto logits = are_logits();
  if (logits.is_cpu()) return logits.item<bool>() ? log_odds(scores) : scores;
  return torch::where(logits, log_odds(scores), scores);
}

torch::Tensor CurveMetric::probabilities() const {
  const auto scores = at(preds_);
  return torch::where(are_logits(), task() == Task::multiclass ? scores.softmax(1) : scores.sigmoid(), scores);
}

std::vector<CurveMetric::Series> CurveMetric::series(bool as_one) const {
  const auto scores = ranks(), target = at(target_);
  const auto any_above_zero = (target > 0).any();
  if (task() == Task::binary || as_one) {
    const auto all = target.reshape({-1});
    return {{scores.reshape({-1}), all == 1, all == 0, any_above_zero}};
  }
  std::vector<Series> all;
  const bool is_class = task() == Task::multiclass;
  for (int64_t label = 0; label < classes(); ++label) {
    const auto own = is_class ? target : target.select(1, label);
    const auto is_yes = own == (is_class ? label : 1), is_no = ~is_yes & (own != ignored);
    all.push_back({scores.select(1, label).contiguous(), is_yes, is_no, any_above_zero});
  }
  return all;
}

CurveMetric::Binned CurveMetric::binned_counts(bool as_one) const {
  const auto counts = [&](State state) {
    const auto all = of_reading(at(state));
    return as_one ? all.sum(0, /*keepdim=*/true) : all;
  };
  const auto yes = counts(yes_), no = counts(no_);
  // At least threshold t: all bins from t + 1 on.
  const auto from_bin = [](const torch::Tensor& bins) { return bins.flip(1).cumsum(1).flip(1); };
  const auto all_yes = from_bin(yes), all_no = from_bin(no);
  return {all_yes.slice(1, 1), all_no.slice(1, 1), all_yes.slice(1, 0, 1), all_no.slice(1, 0, 1)};
}

// --- CurveArea ---

CurveArea::CurveArea(const char* name, CurveOptions options)
    : CurveMetric(name, options.task, options.thresholds), average_(options.average) {
  // As in torchmetrics micro is one curve of all labels, which classes do not have.
  if (average_ != Average::micro || task() == Task::multilabel) return;
  refuse("average = " + name_of(average_) + " has no meaning for task = " + name_of(task()) + "; use " +
         name_of(Average::macro) + ", " + name_of(Average::weighted) + " or " + name_of(Average::none));
}

torch::Tensor CurveArea::result() const {
  const bool is_one = task() == Task::binary || average_ == Average::micro;
  if (!is_exact()) {
    const auto counts = binned_counts(is_one);
    const auto values = binned(counts);
    return unless_nan(is_one ? values.squeeze(0) : averaged(values, counts.yes.squeeze(1), counts.no.squeeze(1)));
  }
  std::vector<torch::Tensor> values, yes, no;
  for (const auto& each : series(is_one)) {
    values.push_back(exact(each));
    yes.push_back(each.yes.sum());
    no.push_back(each.no.sum());
  }
  return unless_nan(is_one ? values.front() : averaged(torch::stack(values), torch::stack(yes), torch::stack(no)));
}

// Classes and labels without a value, which have a number all the same, have no part in an average.
torch::Tensor CurveArea::averaged(const torch::Tensor& values, const torch::Tensor& yes,
                                  const torch::Tensor& no) const {
  if (average_ == Average::none) return values;
  const auto counts = is_defined(yes, no);
  const auto weights = average_ == Average::macro ? counts.to(torch::kFloat64) : yes * counts.to(torch::kFloat64);
  return safe_divide((weights * torch::where(counts, values, 0.0)).sum(), weights.sum());
}

}  // namespace troupe::metrics
