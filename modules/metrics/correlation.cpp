#include "troupe/modules/metrics/correlation.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/modules/metrics/checks.hpp"
#include "troupe/modules/metrics/r2_score.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

namespace troupe::metrics {

namespace {

constexpr double undefined = std::numeric_limits<double>::quiet_NaN();

// The ranks of each row, 1 to n; equal values share the mean of theirs.
torch::Tensor mean_ranks(const torch::Tensor& rows) {
  const auto sorted = std::get<0>(rows.sort(-1));
  const auto below = torch::searchsorted(sorted, rows);
  const auto up_to = torch::searchsorted(sorted, rows, /*out_int32=*/false, /*right=*/true);
  return (below + up_to + 1).to(torch::kFloat64) / 2;
}

int64_t pairs_of(int64_t n) {
  return n * (n - 1) / 2;
}

// Pairs of equal neighbours in what is sorted.
template <class Equal>
int64_t tied_pairs(std::size_t n, const Equal& equal_to_next) {
  int64_t pairs = 0, run = 1;
  for (std::size_t i = 1; i <= n; ++i) {
    if (i < n && equal_to_next(i - 1)) {
      ++run;
      continue;
    }
    pairs += pairs_of(run);
    run = 1;
  }
  return pairs;
}

// Sorts values[first, last) and returns how many pairs were out of order.
int64_t sort_counting(std::vector<double>& values, std::vector<double>& scratch, std::size_t first, std::size_t last) {
  if (last - first < 2) return 0;
  const std::size_t middle = first + (last - first) / 2;
  int64_t swaps = sort_counting(values, scratch, first, middle) + sort_counting(values, scratch, middle, last);
  std::size_t left = first, right = middle;
  for (std::size_t out = first; out < last; ++out) {
    const bool takes_right = left == middle || (right < last && values[right] < values[left]);
    if (takes_right) swaps += static_cast<int64_t>(middle - left);
    scratch[out] = values[takes_right ? right++ : left++];
  }
  std::copy(scratch.begin() + static_cast<std::ptrdiff_t>(first), scratch.begin() + static_cast<std::ptrdiff_t>(last),
            values.begin() + static_cast<std::ptrdiff_t>(first));
  return swaps;
}

double kendall(const double* x, const double* y, std::size_t n, KendallVariant variant) {
  if (std::any_of(x, x + n, [](double v) { return std::isnan(v); }) ||
      std::any_of(y, y + n, [](double v) { return std::isnan(v); })) {
    return undefined;
  }
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) { return x[a] != x[b] ? x[a] < x[b] : y[a] < y[b]; });
  const auto same_x = [&](std::size_t i) { return x[order[i]] == x[order[i + 1]]; };
  const int64_t ties_x = tied_pairs(n, same_x);
  const int64_t ties_both = tied_pairs(n, [&](std::size_t i) { return same_x(i) && y[order[i]] == y[order[i + 1]]; });
  std::vector<double> sorted_y(n), scratch(n);
  for (std::size_t i = 0; i < n; ++i) sorted_y[i] = y[order[i]];
  const int64_t out_of_order = sort_counting(sorted_y, scratch, 0, n);
  const int64_t ties_y = tied_pairs(n, [&](std::size_t i) { return sorted_y[i] == sorted_y[i + 1]; });

  const int64_t all = pairs_of(static_cast<int64_t>(n)), decided = all - ties_x - ties_y + ties_both;
  const auto difference = static_cast<double>(decided - 2 * out_of_order);
  if (variant == KendallVariant::a) return difference / static_cast<double>(decided);
  if (variant == KendallVariant::b) {
    return difference / std::sqrt(static_cast<double>(all - ties_x) * static_cast<double>(all - ties_y));
  }
  std::size_t different_x = 1, different_y = 1;
  for (std::size_t i = 0; i + 1 < n; ++i) {
    different_x += same_x(i) ? 0 : 1;
    different_y += sorted_y[i] == sorted_y[i + 1] ? 0 : 1;
  }
  const auto shorter = static_cast<double>(std::min(different_x, different_y)), count = static_cast<double>(n);
  return 2 * difference / ((shorter - 1) / shorter * count * count);
}

}  // namespace

// --- Moments ---

void MomentsMetric::add_pairs(const torch::Tensor& x, const torch::Tensor& y) {
  const int64_t count = x.size(0);
  if (count == 0) return;
  if (update_count() == 0) {
    outputs_ = x.sizes().slice(1).vec();
  } else if (outputs_ && x.sizes().slice(1) != *outputs_) {
    throw UsageError(c10::str(class_name(), ": outputs are of shape ", x.sizes().slice(1), ", after batches with ",
                              torch::IntArrayRef(*outputs_)));
  }
  const auto mean_x = x.mean(0), mean_y = y.mean(0), dx = x - mean_x, dy = y - mean_y;
  const auto row =
      torch::stack({torch::full_like(mean_x, static_cast<double>(count)), mean_x, mean_y, dx.square().sum(0),
                    dy.square().sum(0), (dx * dy).sum(0), x.amin(0), x.amax(0), y.amin(0), y.amax(0)});
  append(moments_, row.unsqueeze(0));
}

std::optional<MomentsMetric::Moments> MomentsMetric::moments() const {
  const auto rows = at(moments_);  // [batches, 10, ...]
  if (rows.numel() == 0) return std::nullopt;
  const auto column = [&](int64_t index) { return rows.select(1, index); };
  const auto counts = column(0), total = counts.sum(0);
  const auto off_x = column(1) - (counts * column(1)).sum(0) / total;
  const auto off_y = column(2) - (counts * column(2)).sum(0) / total;
  return Moments{(column(3) + counts * off_x.square()).sum(0), (column(4) + counts * off_y.square()).sum(0),
                 (column(5) + counts * off_x * off_y).sum(0), column(6).amin(0) != column(7).amax(0),
                 column(8).amin(0) != column(9).amax(0)};
}

ExplainedVariance::ExplainedVariance(ExplainedVarianceOptions options) : options_(options) {}

void ExplainedVariance::add(const torch::Tensor& preds, const torch::Tensor& target) {
  check_one_shape("ExplainedVariance", preds, target);
  if (preds.dim() < 1) {
    throw UsageError("ExplainedVariance: " + shapes_text(preds, target) + "; give (N) or (N, outputs)");
  }
  const auto y = target.to(torch::kFloat64);
  add_pairs(y - preds.to(torch::kFloat64), y);
}

torch::Tensor ExplainedVariance::result() const {
  const auto all = moments();
  if (!all) return torch::full({}, undefined, torch::dtype(torch::kFloat64).device(device()));
  const auto explained = 1 - all->squares_x / all->squares_y;
  // NaN where values are.
  const auto of_constant = torch::where(all->x_varies, 0 * all->squares_x, 1.0);
  return over_outputs(options_.multioutput, torch::where(all->x_varies & all->y_varies, explained, of_constant),
                      torch::where(all->y_varies, all->squares_y, 0.0));
}

PearsonCorrCoef::PearsonCorrCoef(PearsonCorrCoefOptions options) : num_outputs_(options.num_outputs) {
  check_at_least("PearsonCorrCoef", "num_outputs", num_outputs_, 1);
}

void PearsonCorrCoef::add(const torch::Tensor& preds, const torch::Tensor& target) {
  check_outputs("PearsonCorrCoef", preds, target, num_outputs_);
  add_pairs(preds.to(torch::kFloat64), target.to(torch::kFloat64));
}

torch::Tensor PearsonCorrCoef::result() const {
  const auto all = moments();
  if (!all) {
    const auto shape = num_outputs_ == 1 ? std::vector<int64_t>{} : std::vector<int64_t>{num_outputs_};
    return torch::full(shape, undefined, torch::dtype(torch::kFloat64).device(device()));
  }
  const auto coefficient = all->products / (all->squares_x.sqrt() * all->squares_y.sqrt());
  return torch::where(all->x_varies & all->y_varies, coefficient.clamp(-1, 1), undefined);
}

// --- Ranks ---

RankCorrelation::RankCorrelation(const char* name, int64_t num_outputs) : name_(name), num_outputs_(num_outputs) {
  check_at_least(name, "num_outputs", num_outputs, 1);
  preds_ = add_list("preds", torch::kFloat64);
  target_ = add_list("target", torch::kFloat64);
}

void RankCorrelation::add(const torch::Tensor& preds, const torch::Tensor& target) {
  check_outputs(name_, preds, target, num_outputs_);
  const auto own = [](const torch::Tensor& values) {
    return values.to(torch::kFloat64, /*non_blocking=*/false, /*copy=*/true);
  };
  append(preds_, own(preds));
  append(target_, own(target));
}

torch::Tensor RankCorrelation::result() const {
  const auto rows = [&](State state) { return at(state).reshape({-1, num_outputs_}).t().contiguous(); };
  const auto preds = rows(preds_), target = rows(target_);
  const auto value = preds.numel() == 0
                         ? torch::full({num_outputs_}, undefined, torch::dtype(torch::kFloat64).device(device()))
                         : coefficients(preds, target);
  return num_outputs_ == 1 ? value.squeeze(0) : value;
}

SpearmanCorrCoef::SpearmanCorrCoef(SpearmanCorrCoefOptions options)
    : RankCorrelation("SpearmanCorrCoef", options.num_outputs) {}

torch::Tensor SpearmanCorrCoef::coefficients(const torch::Tensor& preds, const torch::Tensor& target) const {
  const auto centered = [](const torch::Tensor& rows) {
    return mean_ranks(rows) - static_cast<double>(rows.size(1) + 1) / 2;
  };
  const auto x = centered(preds), y = centered(target);
  const auto scale = (x.square().sum(1) * y.square().sum(1)).sqrt();
  const auto value = torch::where(scale == 0, 0.0, (x * y).sum(1) / scale).clamp(-1, 1);
  return torch::where((preds.isnan() | target.isnan()).any(1), undefined, value);
}

KendallRankCorrCoef::KendallRankCorrCoef(KendallRankCorrCoefOptions options)
    : RankCorrelation("KendallRankCorrCoef", options.num_outputs), variant_(options.variant) {}

torch::Tensor KendallRankCorrCoef::coefficients(const torch::Tensor& preds, const torch::Tensor& target) const {
  const auto x = preds.to(torch::kCPU), y = target.to(torch::kCPU);
  std::vector<double> values;
  for (int64_t row = 0; row < x.size(0); ++row) {
    values.push_back(kendall(x[row].const_data_ptr<double>(), y[row].const_data_ptr<double>(),
                             static_cast<std::size_t>(x.size(1)), variant_));
  }
  return torch::tensor(values, torch::kFloat64).to(preds.device());
}

}  // namespace troupe::metrics
