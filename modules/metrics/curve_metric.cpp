#include "troupe/modules/metrics/curve_metric.hpp"

#include "troupe/modules/failure.hpp"
#include "troupe/modules/number_text.hpp"

#include <c10/util/StringUtil.h>
#include <torch/torch.h>

#include <utility>

namespace troupe::metrics {

namespace {

// A target that is ignored.
constexpr int64_t ignored = -1;

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

CurveMetric::CurveMetric(const char* name, CurveOptions options)
    : ClassificationMetric(name, options.task),
      average_(std::move(options.average)),
      is_exact_(options.thresholds.is_exact()) {
  // As in torchmetrics "micro" is one curve of all labels, which classes do not have.
  check_choice("average", average_,
               task() == Task::multilabel ? std::vector<std::string>{"micro", "macro", "weighted", "none"}
                                          : std::vector<std::string>{"macro", "weighted", "none"});
  if (is_exact_) {
    preds_ = add_list("preds", torch::kFloat32);
    target_ = add_list("target", torch::kLong);
    return;
  }
  thresholds_ = options.thresholds.tensor(name);
  const auto none = torch::zeros({classes(), thresholds_.numel() + 1}, torch::kLong);
  yes_ = add_state("yes", none, Combine::sum);
  no_ = add_state("no", none, Combine::sum);
}

void CurveMetric::check_scores(const torch::Tensor& preds, const torch::Tensor& target) const {
  const bool has_scores = task() != Task::multiclass || preds.dim() == target.dim() + 1;
  if (!preds.is_floating_point() || !has_scores) {
    refuse(c10::str("preds holds ", preds.scalar_type(), " of shape ", preds.sizes(),
                    "; scores of a floating type are needed", task() == Task::multiclass ? ", (N, C, ...)" : ""));
  }
  if (target.is_floating_point()) {
    refuse(c10::str("target holds ", target.scalar_type(), "; labels of an integer type are needed"));
  }
}

// Scores of [n], or [n, labels]; targets as long of [n], of labels [n, labels], -1 where ignored.
void CurveMetric::add(const torch::Tensor& preds, const torch::Tensor& target) {
  check_scores(preds, target);
  check_shapes(preds, target);
  check_target(target, task() == Task::multiclass ? classes() - 1 : 1);
  const auto is_counted = counted(target);
  // As in torchmetrics, what a label ignores has a say in whether its scores are logits; else it has none.
  torch::Tensor deciding;
  if (task() == Task::binary) deciding = is_counted;
  if (task() == Task::multiclass) deciding = is_counted.unsqueeze(1);
  auto scores = as_probabilities(preds, deciding);
  auto labels = torch::where(is_counted, target.to(torch::kLong), torch::full_like(target, ignored, torch::kLong));
  scores = task() == Task::binary ? scores.reshape({-1}) : scores.movedim(1, -1).reshape({-1, classes()});
  labels = task() == Task::multilabel ? labels.movedim(1, -1).reshape({-1, classes()}) : labels.reshape({-1});
  if (!is_exact_) return count(scores, labels);
  // The batch's own memory may be written to once the step is over.
  append(preds_, scores.is_alias_of(preds) ? scores.clone() : scores);
  append(target_, labels);
}

void CurveMetric::count(const torch::Tensor& scores, const torch::Tensor& target) {
  const int64_t bins = thresholds_.numel() + 1;
  thresholds_ = thresholds_.to(scores.device());
  // Bin b holds the scores that b thresholds are not above.
  const auto bin = torch::searchsorted(thresholds_.to(scores.scalar_type()), scores.contiguous(), /*out_int32=*/false,
                                       /*right=*/true);
  const auto column = bin.dim() == 2 ? bin : bin.unsqueeze(1);
  const auto cell = (column + bins * torch::arange(classes(), bin.options())).reshape({-1});
  auto is_yes = target == 1, is_no = target == 0;
  if (task() == Task::multiclass) {
    is_yes = target.unsqueeze(1) == torch::arange(classes(), target.options());
    is_no = ~is_yes & (target != ignored).unsqueeze(1);
  }
  at(yes_) += count_by(cell, is_yes.reshape({-1}), classes() * bins).view({classes(), bins});
  at(no_) += count_by(cell, is_no.reshape({-1}), classes() * bins).view({classes(), bins});
}

torch::Tensor CurveMetric::result() const {
  return is_exact_ ? exact_result() : binned_result();
}

torch::Tensor CurveMetric::exact_result() const {
  const auto scores = at(preds_), target = at(target_);
  const auto any_above_zero = (target > 0).any();
  if (task() == Task::binary || average_ == "micro") {
    const auto all = target.reshape({-1});
    return exact({scores.reshape({-1}), all == 1, all == 0, any_above_zero});
  }
  std::vector<torch::Tensor> values, yes;
  for (int64_t label = 0; label < classes(); ++label) {
    const bool is_class = task() == Task::multiclass;
    const auto own = is_class ? target : target.select(1, label);
    const auto is_yes = own == (is_class ? label : 1);
    values.push_back(exact({scores.select(1, label).contiguous(), is_yes, ~is_yes & (own != ignored), any_above_zero}));
    yes.push_back(is_yes.sum());
  }
  return averaged(torch::stack(values), torch::stack(yes));
}

torch::Tensor CurveMetric::binned_result() const {
  const bool is_one = task() == Task::binary || average_ == "micro";
  const auto counts = [&](State state) { return is_one ? at(state).sum(0, /*keepdim=*/true) : at(state); };
  const auto yes = counts(yes_), no = counts(no_);
  // At least threshold t: all bins from t + 1 on.
  const auto from_bin = [](const torch::Tensor& bins) { return bins.flip(1).cumsum(1).flip(1); };
  const auto all_yes = from_bin(yes), all_no = from_bin(no);
  const auto values = binned(all_yes.slice(1, 1), all_no.slice(1, 1), all_yes.slice(1, 0, 1), all_no.slice(1, 0, 1));
  return is_one ? values.squeeze(0) : averaged(values, yes.sum(1));
}

// Labels whose value is not a number have no part in an average.
torch::Tensor CurveMetric::averaged(const torch::Tensor& values, const torch::Tensor& yes) const {
  if (average_ == "none") return values;
  const auto is_number = ~values.isnan();
  const auto numbers = torch::where(is_number, values, torch::zeros_like(values));
  if (average_ == "macro") return numbers.sum() / is_number.sum();
  const auto weights = yes.to(torch::kFloat64) * is_number;
  return safe_divide(weights * numbers, weights.sum()).sum();
}

}  // namespace troupe::metrics
