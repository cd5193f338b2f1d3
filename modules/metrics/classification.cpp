#include "troupe/modules/metrics/classification.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <limits>

namespace troupe::metrics {

namespace {

constexpr double unbounded = std::numeric_limits<double>::infinity();

std::string label_text(double label) {
  const bool is_whole = label == std::floor(label) && std::abs(label) <= 0x1p62;
  return is_whole || label == -0x1p63 ? std::to_string(static_cast<int64_t>(label)) : double_to_text(label);
}

// The highest label of a task: 0 and 1 but for classes.
int64_t highest_of(Task task, int64_t classes) {
  return task == Task::multiclass ? classes - 1 : 1;
}

}  // namespace

torch::Tensor count_by(const torch::Tensor& index, const torch::Tensor& counted, int64_t classes) {
  return torch::zeros({classes}, index.options()).scatter_add_(0, index, counted.to(torch::kLong));
}

double logit(double probability) {
  return std::log(probability / (1 - probability));
}

torch::Tensor at_least_float(const torch::Tensor& scores) {
  const bool is_half = scores.scalar_type() == torch::kHalf || scores.scalar_type() == torch::kBFloat16;
  return is_half ? scores.to(torch::kFloat32) : scores;
}

torch::Tensor safe_divide(const torch::Tensor& numerator, const torch::Tensor& denominator, double otherwise) {
  const auto ratio = numerator.to(torch::kFloat64) / denominator.to(torch::kFloat64);
  return torch::where(denominator != 0, ratio, torch::full_like(ratio, otherwise));
}

Task without_labels(const char* metric, Task task) {
  if (task != Task::multilabel) return task;
  throw UsageError(std::string(metric) + ": task = " + name_of(task) + "; use " + name_of(Task::binary) + " or " +
                   name_of(Task::multiclass));
}

ClassificationMetric::ClassificationMetric(const char* name, const TaskOptions& options)
    : name_(name), task_(options.task), ignore_index_(options.ignore_index) {
  const auto check_count = [&](const char* option, const std::optional<int64_t>& count, bool is_needed) {
    if (!is_needed && count) refuse(c10::str(option, " has no meaning for task = ", name_of(task_)));
    if (is_needed && !count) refuse(c10::str("task = ", name_of(task_), " needs ", option));
    if (is_needed && *count < 2) refuse(c10::str(option, " = ", *count, "; use at least 2"));
    if (is_needed) classes_ = *count;
  };
  check_count("num_classes", options.num_classes, task_ == Task::multiclass);
  check_count("num_labels", options.num_labels, task_ == Task::multilabel);
  const auto none = torch::full({}, unbounded, torch::kFloat64);
  worst_target_ = add_state("worst_target", none, Combine::min);
  worst_preds_ = add_state("worst_preds", none, Combine::min);
  lowest_score_ = add_state("lowest_score", none, Combine::min);
  highest_score_ = add_state("highest_score", -none, Combine::max);
}

void ClassificationMetric::refuse(const std::string& why) const {
  throw UsageError(std::string(name_) + ": " + why);
}

std::string ClassificationMetric::task_key() const {
  return c10::str(name_of(task_), " ", classes_, " ", ignore_index_ ? std::to_string(*ignore_index_) : "none");
}

void ClassificationMetric::check_threshold(double threshold) const {
  if (threshold >= 0 && threshold <= 1) return;
  refuse("threshold = " + double_to_text(threshold) + "; use a number from 0 to 1");
}

// --- Checks of a batch ---

void ClassificationMetric::check_shapes(const torch::Tensor& preds, const torch::Tensor& target) const {
  const auto shapes = [&] {
    return c10::str("preds is of shape ", preds.sizes(), " and target of shape ", target.sizes());
  };
  if (task_ != Task::multiclass) {
    if (preds.sizes() != target.sizes()) refuse(shapes() + "; give both one shape");
    if (task_ == Task::multilabel && (preds.dim() < 2 || preds.size(1) != classes_)) {
      refuse(c10::str(shapes(), "; with num_labels = ", classes_, " it must be (N, ", classes_, ", ...)"));
    }
    return;
  }
  if (preds.sizes() == target.sizes()) {
    if (preds.is_floating_point()) {
      refuse(c10::str(shapes(), ", but preds holds ", preds.scalar_type(), ": give scores of shape (N, ", classes_,
                      ", ...), or labels of an integer type"));
    }
    return;
  }
  auto of_target = preds.sizes().vec();
  if (preds.dim() > 1) of_target.erase(of_target.begin() + 1);
  if (preds.dim() != target.dim() + 1 || preds.dim() < 2 || preds.size(1) != classes_ ||
      of_target != target.sizes().vec()) {
    refuse(c10::str(shapes(), "; with num_classes = ", classes_, " preds must be scores of shape (N, ", classes_,
                    ", ...) or labels of target's shape (N, ...)"));
  }
  if (!preds.is_floating_point()) {
    refuse(c10::str(shapes(), ", but preds holds ", preds.scalar_type(), ": scores must be of a floating type"));
  }
}

void ClassificationMetric::refuse_label(const char* what, double label, int64_t highest, bool may_be_ignored) const {
  const auto ignored = may_be_ignored && ignore_index_ ? c10::str(", or ignore_index = ", *ignore_index_) : "";
  refuse(std::string(what) + " holds " + label_text(label) + "; labels are " +
         (highest == 1 ? "0 and 1" : c10::str("0 to ", highest)) + ignored);
}

void ClassificationMetric::check_labels(const char* what, const torch::Tensor& labels, int64_t highest, State worst,
                                        bool may_be_ignored) {
  if (labels.numel() == 0 || labels.scalar_type() == torch::kBool) return;
  const bool is_here = labels.is_cpu();
  if (is_here && !labels.is_floating_point()) {
    const auto [lowest, greatest] = labels.aminmax();
    if (lowest.item().toLong() >= 0 && greatest.item().toLong() <= highest) return;
  }
  auto invalid = (labels < 0) | (labels > highest);
  if (labels.is_floating_point()) invalid = invalid | (labels != labels.floor());
  if (may_be_ignored && ignore_index_) invalid = invalid & (labels != *ignore_index_);
  const auto values = labels.to(torch::kFloat64);
  const auto found = torch::where(invalid, values, torch::full_like(values, unbounded)).min();
  if (!is_here) {
    at(worst) = torch::minimum(at(worst), found);
  } else if (const double label = found.item<double>(); label != unbounded) {
    refuse_label(what, label, highest, may_be_ignored);
  }
}

void ClassificationMetric::check_target(const torch::Tensor& target, int64_t highest) {
  check_labels("target", target, highest, worst_target_, true);
}

void ClassificationMetric::verify() const {
  if (device().is_cpu()) return;
  const auto worst = torch::stack({at(worst_target_), at(worst_preds_)}).to(torch::kCPU);
  const int64_t highest = highest_of(task_, classes_);
  const double target = worst[0].item<double>(), preds = worst[1].item<double>();
  if (target != unbounded) refuse_label("target", target, highest, true);
  if (preds != unbounded) refuse_label("preds", preds, highest, false);
}

// --- What scores are ---

torch::Tensor ClassificationMetric::without_ignored(const torch::Tensor& scores, const torch::Tensor& counted) const {
  return ignore_index_ ? torch::where(counted, scores, 0.5) : scores;
}

void ClassificationMetric::note_scores(const torch::Tensor& scores) {
  if (scores.numel() == 0) return;
  const auto [lowest, highest] = at_least_float(scores).aminmax();  // both NaN where any score is
  at(lowest_score_) = torch::minimum(at(lowest_score_), lowest.to(torch::kFloat64));
  at(highest_score_) = torch::maximum(at(highest_score_), highest.to(torch::kFloat64));
}

torch::Tensor ClassificationMetric::are_logits() const {
  return (at(lowest_score_) < 0) | (at(highest_score_) > 1);
}

torch::Tensor ClassificationMetric::of_reading(const torch::Tensor& state) const {
  return torch::where(are_logits(), state[1], state[0]);
}

torch::Tensor ClassificationMetric::has_nan() const {
  return at(highest_score_).isnan();
}

torch::Tensor ClassificationMetric::unless_nan(const torch::Tensor& value) const {
  return torch::where(has_nan(), std::numeric_limits<double>::quiet_NaN(), value);
}

std::string ClassificationMetric::warning() const {
  return has_nan().item<bool>() ? std::string(name_) + " is nan, since predictions are" : "";
}

// --- Batches in one form ---

torch::Tensor ClassificationMetric::counted(const torch::Tensor& target) const {
  return ignore_index_ ? target != *ignore_index_ : torch::ones_like(target, torch::kBool);
}

ClassificationMetric::YesOrNo ClassificationMetric::threshold_labels(const torch::Tensor& preds,
                                                                     const torch::Tensor& target, double threshold) {
  check_shapes(preds, target);
  check_target(target, 1);
  YesOrNo labels{{}, target == 1, counted(target)};
  if (preds.is_floating_point()) {
    const auto scores = at_least_float(preds);
    note_scores(without_ignored(scores, labels.counted));
    labels.preds = torch::stack({scores > threshold, scores > logit(threshold)});  // the sigmoid rises
  } else {
    check_labels("preds", preds, 1, worst_preds_, false);
    const auto is_yes = preds == 1;
    labels.preds = torch::stack({is_yes, is_yes});
  }
  const bool has_labels = task_ == Task::multilabel;
  for (auto* tensor : {&labels.target, &labels.counted}) {
    *tensor = has_labels ? tensor->transpose(0, 1).reshape({classes_, -1}) : tensor->reshape({1, -1});
  }
  labels.preds =
      has_labels ? labels.preds.transpose(1, 2).reshape({2, classes_, -1}) : labels.preds.reshape({2, 1, -1});
  return labels;
}

ClassificationMetric::ClassLabels ClassificationMetric::class_labels(const torch::Tensor& preds,
                                                                     const torch::Tensor& target, int64_t top_k) {
  check_shapes(preds, target);
  check_target(target, classes_ - 1);
  const auto valid = [&](const torch::Tensor& labels) { return labels.to(torch::kLong).clamp(0, classes_ - 1); };
  ClassLabels labels;
  labels.counted = counted(target);
  labels.target = valid(target);
  if (!preds.is_floating_point()) {
    if (top_k > 1) refuse(c10::str("top_k = ", top_k, " needs scores (N, ", classes_, ", ...), preds holds labels"));
    check_labels("preds", preds, classes_ - 1, worst_preds_, false);
    labels.preds = valid(preds);
  } else if (top_k == 1) {
    const auto [score, label] = preds.max(1);  // the score is NaN where any of its classes' is
    note_scores(without_ignored(score, labels.counted));
    labels.preds = label;
  } else {
    const auto [scores, highest] = preds.topk(top_k, 1);
    note_scores(without_ignored(scores.select(1, 0), labels.counted));
    const auto hit = (highest == labels.target.unsqueeze(1)).any(1);
    labels.preds = torch::where(hit, labels.target, highest.select(1, 0));
  }
  for (auto* tensor : {&labels.preds, &labels.target, &labels.counted}) *tensor = tensor->reshape({-1});
  return labels;
}

ClassificationMetric::ScoredBatch ClassificationMetric::scored(const torch::Tensor& preds,
                                                               const torch::Tensor& target) {
  const bool has_classes = task_ == Task::multiclass;
  if (!preds.is_floating_point() || (has_classes && preds.dim() != target.dim() + 1)) {
    refuse(c10::str("preds holds ", preds.scalar_type(), " of shape ", preds.sizes(),
                    "; scores of a floating type are needed", has_classes ? ", (N, C, ...)" : ""));
  }
  check_shapes(preds, target);
  if (note_small(preds, target)) return {preds, target, {}};
  const int64_t highest = highest_of(task_, classes_);
  check_target(target, highest);
  const auto is_counted = counted(target);
  auto scores = without_ignored(at_least_float(preds), has_classes ? is_counted.unsqueeze(1) : is_counted);
  note_scores(scores);
  scores = task_ == Task::binary ? scores.reshape({-1}) : scores.movedim(1, -1).reshape({-1, classes_});
  const auto of_samples = [&](const torch::Tensor& labels) {
    return task_ == Task::multilabel ? labels.movedim(1, -1).reshape({-1, classes_}) : labels.reshape({-1});
  };
  return {scores, of_samples(target.to(torch::kLong).clamp(0, highest)), of_samples(is_counted)};
}

}  // namespace troupe::metrics
