#include "troupe/modules/metrics/overlap.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/modules/metrics/checks.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <limits>

namespace troupe::metrics {

namespace {

constexpr int64_t no_label = std::numeric_limits<int64_t>::max();
constexpr double no_value = std::numeric_limits<double>::quiet_NaN();

}  // namespace

JaccardIndex::JaccardIndex(JaccardIndexOptions options)
    : StatScores("JaccardIndex", {{options.task, options.num_classes, options.num_labels, options.ignore_index},
                                  options.threshold,
                                  options.average,
                                  1,
                                  options.zero_division}) {}

torch::Tensor JaccardIndex::score(const Counts& counts) const {
  return safe_divide(counts.tp, counts.tp + counts.fp + counts.fn, static_cast<double>(options().zero_division));
}

// What was taken for the class that is ignored has no part in the union of all.
StatScores::Counts JaccardIndex::of_all(const Counts& counts) const {
  auto all = counts;
  const auto ignored = ignore_index().value_or(-1);
  if (task() == Task::multiclass && ignored >= 0 && ignored < classes()) {
    all.fp = counts.fp.clone();
    all.fp.select(0, ignored).zero_();
  }
  return StatScores::of_all(all);
}

// --- DiceScore ---

DiceScore::DiceScore(DiceScoreOptions options) : options_(options) {
  check_at_least("DiceScore", "num_classes", options_.num_classes, 2);
  counts_ = options_.aggregation_level == AggregationLevel::global
                ? add_state("counts", torch::zeros({1, 3, options_.num_classes}, torch::kLong), Combine::sum)
                : add_list("counts", torch::kLong);
  worst_label_ = add_state("worst_label", torch::full({}, no_label, torch::kLong), Combine::min);
}

void DiceScore::refuse_label(int64_t label) const {
  throw UsageError(
      c10::str("DiceScore: preds or target holds ", label, "; labels are 0 to ", options_.num_classes - 1));
}

void DiceScore::refuse_input(const torch::Tensor& preds, const torch::Tensor& target) const {
  const auto classes = "(N, " + std::to_string(options_.num_classes) + ", ...)";
  const auto needed = options_.input_format == InputFormat::index ? "both must be labels (N, ...) of an integer type"
                      : options_.input_format == InputFormat::mixed
                          ? "one must be labels (N, ...) of an integer type, the other " + classes
                          : "both must be " + classes;
  throw UsageError(c10::str("DiceScore: ", shapes_text(preds, target), ", of ", preds.scalar_type(), " and ",
                            target.scalar_type(), "; with input_format = ", name_of(options_.input_format), " ",
                            needed));
}

void DiceScore::check_labels(const torch::Tensor& labels, int64_t highest) {
  const auto worst = torch::where((labels < 0) | (labels > highest), labels.to(torch::kLong), no_label).min();
  if (!worst.is_cpu()) {
    at(worst_label_) = torch::minimum(at(worst_label_), worst);
  } else if (const auto label = worst.item<int64_t>(); label != no_label) {
    refuse_label(label);
  }
}

// bool, [N, C, pixels].
torch::Tensor DiceScore::one_hot(const torch::Tensor& values, bool is_index) {
  const auto of_labels = [&](const torch::Tensor& labels) {
    return labels.flatten(1).unsqueeze(1) == torch::arange(options_.num_classes, labels.options()).unsqueeze(1);
  };
  if (!is_index && values.is_floating_point()) return of_labels(values.argmax(1));
  check_labels(values, is_index ? options_.num_classes - 1 : 1);
  return is_index ? of_labels(values.to(torch::kLong)) : values.flatten(2) != 0;
}

void DiceScore::add(const torch::Tensor& preds, const torch::Tensor& target) {
  const auto format = options_.input_format;
  const bool mixed_preds = format == InputFormat::mixed && preds.dim() + 1 == target.dim();
  const bool is_index[] = {format == InputFormat::index || mixed_preds,
                           format == InputFormat::index || (format == InputFormat::mixed && !mixed_preds)};
  const auto pixels = [&](const torch::Tensor& values, bool index) {
    auto sizes = values.sizes().vec();
    const bool fits =
        index ? sizes.size() > 1 && !values.is_floating_point() : sizes.size() > 2 && sizes[1] == options_.num_classes;
    if (!fits) refuse_input(preds, target);
    if (!index) sizes.erase(sizes.begin() + 1);
    return sizes;
  };
  if (pixels(preds, is_index[0]) != pixels(target, is_index[1])) refuse_input(preds, target);
  if (preds.numel() == 0) return;
  const auto predicted = one_hot(preds, is_index[0]), actual = one_hot(target, is_index[1]);
  const auto counts = torch::stack({(predicted & actual).sum(2), predicted.sum(2), actual.sum(2)}, 1);
  if (options_.aggregation_level == AggregationLevel::global) {
    at(counts_) += counts.sum(0, /*keepdim=*/true);
  } else {
    append(counts_, counts);
  }
}

void DiceScore::verify() const {
  if (device().is_cpu()) return;
  if (const auto worst = at(worst_label_).item<int64_t>(); worst != no_label) refuse_label(worst);
}

torch::Tensor DiceScore::result() const {
  const int64_t first = options_.include_background ? 0 : 1;
  const auto counts =
      at(counts_).reshape({-1, 3, options_.num_classes}).slice(2, first).to(torch::kFloat64);  // [images, 3, classes]
  const auto share = [](const torch::Tensor& same, const torch::Tensor& both) {
    return safe_divide(2 * same, both, no_value);
  };
  const auto same = counts.select(1, 0), actual = counts.select(1, 2), both = counts.select(1, 1) + actual;
  if (options_.average == Average::micro) return share(same.sum(1), both.sum(1)).nanmean();
  const auto dice = share(same, both);
  if (options_.average == Average::none) return dice.nanmean(0);
  if (options_.average == Average::macro) return dice.nanmean(1).nanmean();
  const auto weights = safe_divide(actual, actual.sum(1, /*keepdim=*/true), no_value);
  const auto weighted = (dice * weights).nansum(1);
  return torch::where(dice.isnan().all(1), no_value, weighted).nanmean();
}

}  // namespace troupe::metrics
