// Small batches on the CPU, taken by plain loops. The values are those of the operators in classification.cpp, to the
// bit: the first of equal scores is the highest, a score that is NaN is higher than all, and thresholds are compared in
// the type of the scores.
#include "troupe/modules/metrics/classification.hpp"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>

namespace troupe::metrics {

namespace {

constexpr int64_t most_elements = 1 << 16;  // beyond, operators compute for longer than they take to be called

bool is_plain(const torch::Tensor& tensor) {
  return tensor.device().is_cpu() && tensor.layout() == torch::kStrided && tensor.is_contiguous() && !tensor.is_neg() &&
         !tensor._is_zerotensor() && tensor.numel() > 0 && tensor.numel() <= most_elements;
}

bool are_plain(const torch::Tensor& preds, const torch::Tensor& target) {
  return target.scalar_type() == torch::kLong && is_plain(target) && is_plain(preds);
}

// From the lowest to the highest score; both NaN if any is.
template <class Score>
class Extent {
 public:
  void add(Score score) {
    has_nan_ |= score != score;
    lowest_ = score < lowest_ ? score : lowest_;
    highest_ = score > highest_ ? score : highest_;
  }
  void add(const Extent& other) {
    has_nan_ |= other.has_nan_;
    lowest_ = std::min(lowest_, other.lowest_);
    highest_ = std::max(highest_, other.highest_);
  }
  double lowest() const { return has_nan_ ? std::numeric_limits<double>::quiet_NaN() : double{lowest_}; }
  double highest() const { return has_nan_ ? std::numeric_limits<double>::quiet_NaN() : double{highest_}; }

 private:
  Score lowest_ = std::numeric_limits<Score>::infinity(), highest_ = -lowest_;
  bool has_nan_ = false;
};

// Each comparison waits for the one before it: several at a time, which do not depend on each other, take as long as
// one.
constexpr int64_t lanes = 8;

template <class Score>
Extent<Score> extent_of(const Score* scores, int64_t count) {
  std::array<Extent<Score>, lanes> parts;
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (int64_t lane = 0; lane < lanes; ++lane) parts[static_cast<std::size_t>(lane)].add(scores[i + lane]);
  }
  for (; i < count; ++i) parts[0].add(scores[i]);
  for (int64_t lane = 1; lane < lanes; ++lane) parts[0].add(parts[static_cast<std::size_t>(lane)]);
  return parts[0];
}

// As max(1) does it.
template <class Score>
int64_t highest_of_row(const Score* row, int64_t count) {
  int64_t label = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (row[i] <= row[label]) continue;
    label = i;
    if (std::isnan(row[i])) break;
  }
  return label;
}

// The same of each of `rows` rows, whose results are in `labels`. Without branches, which nothing would predict.
template <class Score>
void highest_of_rows(const Score* scores, int64_t rows, int64_t count, int64_t* labels) {
  constexpr int64_t together = lanes / 2;
  int64_t row = 0;
  for (; row + together <= rows; row += together) {
    const Score* const first = scores + row * count;
    std::array<Score, together> best;
    std::array<int64_t, together> label{};
    bool has_nan = false;
    for (std::size_t r = 0; r < together; ++r) best[r] = first[static_cast<int64_t>(r) * count];
    for (int64_t i = 0; i < count; ++i) {
      for (std::size_t r = 0; r < together; ++r) {
        const Score score = first[static_cast<int64_t>(r) * count + i];
        const auto is_greater = -static_cast<int64_t>(score > best[r]);  // all bits, or none
        has_nan |= score != score;
        best[r] = score > best[r] ? score : best[r];
        label[r] = (i & is_greater) | (label[r] & ~is_greater);
      }
    }
    std::copy(label.begin(), label.end(), labels + row);
    for (int64_t r = row; has_nan && r < row + together; ++r) labels[r] = highest_of_row(scores + r * count, count);
  }
  for (; row < rows; ++row) labels[row] = highest_of_row(scores + row * count, count);
}

// Calls f with a pointer to the elements of `scores`, which are of float or double; false if they are of another type.
template <class F>
bool with_scores(const torch::Tensor& scores, const F& f) {
  if (scores.scalar_type() == torch::kFloat32) return f(scores.const_data_ptr<float>());
  if (scores.scalar_type() == torch::kFloat64) return f(scores.const_data_ptr<double>());
  return false;
}

}  // namespace

void ClassificationMetric::note_extent(double lowest, double highest) {
  double& lowest_so_far = *at(lowest_score_).mutable_data_ptr<double>();
  double& highest_so_far = *at(highest_score_).mutable_data_ptr<double>();
  // NaN stays, from either side.
  if (lowest < lowest_so_far || std::isnan(lowest)) lowest_so_far = lowest;
  if (highest > highest_so_far || std::isnan(highest)) highest_so_far = highest;
}

std::optional<std::vector<ClassificationMetric::ClassAnswer>> ClassificationMetric::small_class_labels(
    const torch::Tensor& preds, const torch::Tensor& target) {
  if (!are_plain(preds, target)) return std::nullopt;
  const int64_t samples = target.numel(), classes = classes_;
  const auto* actual = target.const_data_ptr<int64_t>();
  const auto is_label = [classes](int64_t label) { return label >= 0 && label < classes; };
  std::vector<ClassAnswer> answers;
  answers.reserve(static_cast<std::size_t>(samples));
  const auto add = [&](int64_t sample, int64_t predicted) {
    if (ignore_index_ && actual[sample] == *ignore_index_) return true;
    answers.push_back({predicted, actual[sample]});
    return is_label(actual[sample]);
  };
  if (preds.scalar_type() == torch::kLong) {
    if (preds.sizes() != target.sizes()) return std::nullopt;
    const auto* predicted = preds.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < samples; ++i) {
      if (!is_label(predicted[i]) || !add(i, predicted[i])) return std::nullopt;
    }
    return answers;
  }
  if (preds.dim() != 2 || target.dim() != 1 || preds.size(0) != samples || preds.size(1) != classes)
    return std::nullopt;
  const bool is_taken = with_scores(preds, [&](const auto* scores) {
    using Score = std::remove_cvref_t<decltype(*scores)>;
    std::vector<int64_t> labels(static_cast<std::size_t>(samples));
    highest_of_rows(scores, samples, classes, labels.data());
    Extent<Score> extent;
    for (int64_t i = 0; i < samples; ++i) {
      const int64_t label = labels[static_cast<std::size_t>(i)];
      const std::size_t before = answers.size();
      if (!add(i, label)) return false;
      extent.add(answers.size() > before ? scores[i * classes + label] : Score(0.5));
    }
    note_extent(extent.lowest(), extent.highest());
    return true;
  });
  if (!is_taken) return std::nullopt;
  return answers;
}

std::optional<std::vector<ClassificationMetric::LabelAnswer>> ClassificationMetric::small_threshold_labels(
    const torch::Tensor& preds, const torch::Tensor& target, double threshold) {
  if (!are_plain(preds, target) || preds.sizes() != target.sizes()) return std::nullopt;
  if (task_ == Task::multilabel && (preds.dim() != 2 || preds.size(1) != classes_)) return std::nullopt;
  const auto* actual = target.const_data_ptr<int64_t>();
  std::vector<LabelAnswer> answers;
  answers.reserve(static_cast<std::size_t>(target.numel()));
  // Whether it counts.
  const auto add = [&](int64_t i, bool probable, bool of_logit) {
    if (ignore_index_ && actual[i] == *ignore_index_) return false;
    answers.push_back({task_ == Task::multilabel ? i % classes_ : 0, {probable, of_logit}, actual[i] == 1});
    return true;
  };
  const auto is_bit = [](int64_t label) { return label == 0 || label == 1; };
  if (preds.scalar_type() == torch::kLong) {
    const auto* predicted = preds.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < target.numel(); ++i) {
      if (!is_bit(predicted[i])) return std::nullopt;
      if (add(i, predicted[i] == 1, predicted[i] == 1) && !is_bit(actual[i])) return std::nullopt;
    }
    return answers;
  }
  const bool is_taken = with_scores(preds, [&](const auto* scores) {
    using Score = std::remove_cvref_t<decltype(*scores)>;
    const auto probability = static_cast<Score>(threshold), log_odds = static_cast<Score>(logit(threshold));
    Extent<Score> extent;
    for (int64_t i = 0; i < target.numel(); ++i) {
      const bool counts = add(i, scores[i] > probability, scores[i] > log_odds);
      if (counts && !is_bit(actual[i])) return false;
      extent.add(counts ? scores[i] : Score(0.5));
    }
    note_extent(extent.lowest(), extent.highest());
    return true;
  });
  if (!is_taken) return std::nullopt;
  return answers;
}

// Whether the batch is small, has no target to be ignored and is laid out as scored() gives it; then its scores are
// noted.
bool ClassificationMetric::note_small(const torch::Tensor& preds, const torch::Tensor& target) {
  if (ignore_index_ || !are_plain(preds, target)) return false;
  if (preds.dim() != (task_ == Task::binary ? 1 : 2)) return false;
  const auto* actual = target.const_data_ptr<int64_t>();
  const int64_t highest = task_ == Task::multiclass ? classes_ - 1 : 1;
  if (!std::all_of(actual, actual + target.numel(), [&](int64_t label) { return label >= 0 && label <= highest; }))
    return false;
  return with_scores(preds, [&](const auto* scores) {
    const auto extent = extent_of(scores, preds.numel());
    note_extent(extent.lowest(), extent.highest());
    return true;
  });
}

}  // namespace troupe::metrics
