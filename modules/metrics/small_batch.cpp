// Small batches on the CPU, taken by plain loops. The values are those of the operators in classification.cpp, to the
// bit: the first of equal scores is the highest, a score that is NaN is higher than all, and thresholds are compared in
// the type of the scores.
#include "troupe/modules/metrics/classification.hpp"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

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

constexpr int64_t chunk = 256;  // samples that are treated at a time

// The lowest and the highest score; both NaN if any is.
template <class Score>
struct Extent {
  Score lowest = std::numeric_limits<Score>::infinity(), highest = -lowest;

  void add(Score score) {
    if (score != score || lowest != lowest) {
      lowest = highest = std::numeric_limits<Score>::quiet_NaN();
      return;
    }
    lowest = std::min(lowest, score);
    highest = std::max(highest, score);
  }
};

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

// Several rows at a time, without branches, which nothing would predict. What comes of one that holds NaN is any of its
// labels; whether there is such a row.
template <class Score>
bool highest_of_short_rows(const Score* scores, int64_t rows, int64_t count, int64_t* labels) {
  constexpr int64_t together = 4;
  bool has_nan = false;
  int64_t row = 0;
  for (; row + together <= rows; row += together) {
    const Score* const first = scores + row * count;
    std::array<Score, together> best;
    std::array<int64_t, together> label{};
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
  }
  for (; row < rows; ++row) {
    labels[row] = highest_of_row(scores + row * count, count);
    has_nan |= std::isnan(scores[row * count + labels[row]]);
  }
  return has_nan;
}

#if defined(__SSE2__)

// 16 bytes of scores, as every x86-64 processor has them.
template <class Score>
struct Vector;

template <>
struct Vector<float> {
  using Type = __m128;
  static constexpr int64_t lanes = 4;
  static Type load(const float* scores) { return _mm_loadu_ps(scores); }
  static Type all(float score) { return _mm_set1_ps(score); }
  static Type min(Type a, Type b) { return _mm_min_ps(a, b); }
  static Type max(Type a, Type b) { return _mm_max_ps(a, b); }
  static Type either(Type a, Type b) { return _mm_or_ps(a, b); }
  static Type are_nan(Type a, Type b) { return _mm_cmpunord_ps(a, b); }
  static uint64_t bits(Type mask) { return static_cast<uint64_t>(_mm_movemask_ps(mask)); }
  static uint64_t equal(Type a, Type b) { return bits(_mm_cmpeq_ps(a, b)); }
  static Type other_half(Type a) { return _mm_shuffle_ps(a, a, _MM_SHUFFLE(1, 0, 3, 2)); }
  static Type neighbours(Type a) { return _mm_shuffle_ps(a, a, _MM_SHUFFLE(2, 3, 0, 1)); }
  // In all lanes.
  static Type least_of(Type a) {
    a = min(a, other_half(a));
    return min(a, neighbours(a));
  }
  static Type most_of(Type a) {
    a = max(a, other_half(a));
    return max(a, neighbours(a));
  }
  static float first(Type a) { return _mm_cvtss_f32(a); }
};

template <>
struct Vector<double> {
  using Type = __m128d;
  static constexpr int64_t lanes = 2;
  static Type load(const double* scores) { return _mm_loadu_pd(scores); }
  static Type all(double score) { return _mm_set1_pd(score); }
  static Type min(Type a, Type b) { return _mm_min_pd(a, b); }
  static Type max(Type a, Type b) { return _mm_max_pd(a, b); }
  static Type either(Type a, Type b) { return _mm_or_pd(a, b); }
  static Type are_nan(Type a, Type b) { return _mm_cmpunord_pd(a, b); }
  static uint64_t bits(Type mask) { return static_cast<uint64_t>(_mm_movemask_pd(mask)); }
  static uint64_t equal(Type a, Type b) { return bits(_mm_cmpeq_pd(a, b)); }
  static Type other(Type a) { return _mm_shuffle_pd(a, a, 1); }
  static Type least_of(Type a) { return min(a, other(a)); }
  static Type most_of(Type a) { return max(a, other(a)); }
  static double first(Type a) { return _mm_cvtsd_f64(a); }
};

// The first of the highest scores of each row, which has at least `lanes`: where it stands is seen by comparing the row
// with its maximum. As highest_of_short_rows().
template <class Score>
bool highest_of_long_rows(const Score* scores, int64_t rows, int64_t count, int64_t* labels) {
  using V = Vector<Score>;
  constexpr int64_t block = 64;  // labels, a bit each
  const int64_t last = count - V::lanes;
  auto nan = V::all(0);
  for (int64_t row = 0; row < rows; ++row, scores += count) {
    auto most = V::load(scores + last);
    nan = V::either(nan, V::are_nan(most, most));
    for (int64_t i = 0; i < last; i += V::lanes) {
      const auto next = V::load(scores + i);
      nan = V::either(nan, V::are_nan(next, next));
      most = V::max(most, next);
    }
    most = V::most_of(most);
    for (int64_t start = 0; start < count; start += block) {
      uint64_t found = 0;
      const int64_t end = std::min(start + block, count);
      for (int64_t i = start; i + V::lanes <= end; i += V::lanes) {
        found |= V::equal(V::load(scores + i), most) << (i - start);
      }
      if (end - start >= V::lanes) {
        found |= V::equal(V::load(scores + end - V::lanes), most) << (end - V::lanes - start);
      } else {
        found |= V::equal(V::load(scores + last), most) >> (start - last);
      }
      labels[row] = start + std::countr_zero(found);
      if (found != 0) break;
    }
  }
  return V::bits(nan) != 0;
}

template <class Score>
Extent<Score> extent_of(const Score* scores, int64_t count) {
  using V = Vector<Score>;
  constexpr std::size_t together = 4;  // a comparison waits for the one before it: several do not
  Extent<Score> extent;
  int64_t i = 0;
  if (count >= V::lanes) {
    typename V::Type lowest[together], highest[together];
    std::fill_n(lowest, together, V::load(scores));
    std::fill_n(highest, together, V::load(scores));
    auto nan = V::all(0);
    const auto add = [&](std::size_t place, const Score* from) {
      const auto next = V::load(from);
      nan = V::either(nan, V::are_nan(next, next));
      lowest[place] = V::min(lowest[place], next);
      highest[place] = V::max(highest[place], next);
    };
    for (; i + static_cast<int64_t>(together) * V::lanes <= count; i += static_cast<int64_t>(together) * V::lanes) {
      for (std::size_t place = 0; place < together; ++place) {
        add(place, scores + i + static_cast<int64_t>(place) * V::lanes);
      }
    }
    for (; i < count; i += V::lanes) add(0, scores + std::min(i, count - V::lanes));
    const auto least = V::min(V::min(lowest[0], lowest[1]), V::min(lowest[2], lowest[3]));
    const auto most = V::max(V::max(highest[0], highest[1]), V::max(highest[2], highest[3]));
    extent = {V::first(V::least_of(least)), V::first(V::most_of(most))};
    if (V::bits(nan) != 0) extent.add(std::numeric_limits<Score>::quiet_NaN());
  }
  for (; i < count; ++i) extent.add(scores[i]);
  return extent;
}

template <class Score>
constexpr int64_t shortest_long_row = Vector<Score>::lanes;

#else

template <class Score>
bool highest_of_long_rows(const Score* scores, int64_t rows, int64_t count, int64_t* labels) {
  return highest_of_short_rows(scores, rows, count, labels);
}

template <class Score>
Extent<Score> extent_of(const Score* scores, int64_t count) {
  Extent<Score> extent;
  for (int64_t i = 0; i < count; ++i) extent.add(scores[i]);
  return extent;
}

template <class Score>
constexpr int64_t shortest_long_row = 1;

#endif

// The label of each of `rows` rows.
template <class Score>
void highest_of_rows(const Score* scores, int64_t rows, int64_t count, int64_t* labels) {
  const bool has_nan = count < shortest_long_row<Score> ? highest_of_short_rows(scores, rows, count, labels)
                                                        : highest_of_long_rows(scores, rows, count, labels);
  for (int64_t row = 0; has_nan && row < rows; ++row) labels[row] = highest_of_row(scores + row * count, count);
}

// Whether all that are not `ignored` are from 0 to `highest`. A number is negative or above it if it, or what is left
// to that, has the sign bit.
bool are_labels(const int64_t* labels, int64_t count, int64_t highest, std::optional<int64_t> ignored) {
  uint64_t signs = 0;
  const auto most = static_cast<uint64_t>(highest);
  for (int64_t i = 0; i < count; ++i) {
    const auto label = static_cast<uint64_t>(labels[i]);
    const uint64_t sign = label | (most - label);
    signs |= ignored && labels[i] == *ignored ? 0 : sign;
  }
  return static_cast<int64_t>(signs) >= 0;
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

bool ClassificationMetric::for_small_classes(const torch::Tensor& preds, const torch::Tensor& target,
                                             TakeClasses take) {
  if (!are_plain(preds, target)) return false;
  const int64_t samples = target.numel(), classes = classes_;
  const auto* const actual = target.const_data_ptr<int64_t>();
  if (!are_labels(actual, samples, classes - 1, ignore_index_)) return false;
  std::array<int64_t, chunk> labels, counted;
  // `predicted` may be `labels`.
  const auto give = [&](const int64_t* predicted, int64_t start, int64_t count) {
    if (!ignore_index_) return take(predicted, actual + start, count);
    int64_t kept = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (actual[start + i] == *ignore_index_) continue;
      labels[static_cast<std::size_t>(kept)] = predicted[i];
      counted[static_cast<std::size_t>(kept++)] = actual[start + i];
    }
    take(labels.data(), counted.data(), kept);
  };
  if (preds.scalar_type() == torch::kLong) {
    const auto* const predicted = preds.const_data_ptr<int64_t>();
    if (preds.sizes() != target.sizes() || !are_labels(predicted, samples, classes - 1, {})) return false;
    for (int64_t start = 0; start < samples; start += chunk) {
      give(predicted + start, start, std::min(chunk, samples - start));
    }
    return true;
  }
  if (preds.dim() != 2 || target.dim() != 1 || preds.size(0) != samples || preds.size(1) != classes) return false;
  return with_scores(preds, [&](const auto* scores) {
    using Score = std::remove_cvref_t<decltype(*scores)>;
    std::array<Score, chunk> best;
    for (int64_t start = 0; start < samples; start += chunk) {
      const int64_t count = std::min(chunk, samples - start);
      const Score* const rows = scores + start * classes;
      highest_of_rows(rows, count, classes, labels.data());
      for (int64_t i = 0; i < count; ++i) {
        const Score score = rows[i * classes + labels[static_cast<std::size_t>(i)]];
        best[static_cast<std::size_t>(i)] = ignore_index_ && actual[start + i] == *ignore_index_ ? Score(0.5) : score;
      }
      const auto extent = extent_of(best.data(), count);
      note_extent(extent.lowest, extent.highest);
      give(labels.data(), start, count);
    }
    return true;
  });
}

bool ClassificationMetric::for_small_answers(const torch::Tensor& preds, const torch::Tensor& target, double threshold,
                                             TakeAnswers take) {
  if (!are_plain(preds, target) || preds.sizes() != target.sizes()) return false;
  if (task_ == Task::multilabel && (preds.dim() != 2 || preds.size(1) != classes_)) return false;
  const int64_t count = target.numel();
  const auto* const actual = target.const_data_ptr<int64_t>();
  if (!are_labels(actual, count, 1, ignore_index_)) return false;
  std::array<LabelAnswer, chunk> answers;
  std::size_t filled = 0;
  int64_t label = 0;
  // Whether it counts.
  const auto add = [&](int64_t i, bool probable, bool of_logit) {
    const int64_t own = label;
    if (++label == classes_) label = 0;
    if (ignore_index_ && actual[i] == *ignore_index_) return false;
    answers[filled++] = {own, {probable, of_logit}, actual[i] == 1};
    if (filled == answers.size()) take(answers.data(), static_cast<int64_t>(std::exchange(filled, 0)));
    return true;
  };
  const auto end = [&] {
    take(answers.data(), static_cast<int64_t>(filled));
    return true;
  };
  if (preds.scalar_type() == torch::kLong) {
    const auto* const predicted = preds.const_data_ptr<int64_t>();
    if (!are_labels(predicted, count, 1, {})) return false;
    for (int64_t i = 0; i < count; ++i) add(i, predicted[i] == 1, predicted[i] == 1);
    return end();
  }
  return with_scores(preds, [&](const auto* scores) {
    using Score = std::remove_cvref_t<decltype(*scores)>;
    const auto probability = static_cast<Score>(threshold), log_odds = static_cast<Score>(logit(threshold));
    bool has_ignored = false;
    for (int64_t i = 0; i < count; ++i) {
      has_ignored |= !add(i, scores[i] > probability, scores[i] > log_odds);
    }
    Extent<Score> extent;
    if (!has_ignored) extent = extent_of(scores, count);
    for (int64_t i = 0; has_ignored && i < count; ++i) {
      extent.add(actual[i] == *ignore_index_ ? Score(0.5) : scores[i]);
    }
    note_extent(extent.lowest, extent.highest);
    return end();
  });
}

// Whether the batch is small, has no target to be ignored and is laid out as scored() gives it; then its scores are
// noted.
bool ClassificationMetric::note_small(const torch::Tensor& preds, const torch::Tensor& target) {
  if (ignore_index_ || !are_plain(preds, target)) return false;
  if (preds.dim() != (task_ == Task::binary ? 1 : 2)) return false;
  const int64_t highest = task_ == Task::multiclass ? classes_ - 1 : 1;
  if (!are_labels(target.const_data_ptr<int64_t>(), target.numel(), highest, {})) return false;
  return with_scores(preds, [&](const auto* scores) {
    const auto extent = extent_of(scores, preds.numel());
    note_extent(extent.lowest, extent.highest);
    return true;
  });
}

}  // namespace troupe::metrics
