#include "troupe/modules/metrics/image.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/modules/metrics/checks.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace troupe::metrics {

namespace {

// Throws UsageError unless `value` is above `lowest` and finite.
void check_above(const char* metric, const char* option, double value, double lowest) {
  if (value > lowest && std::isfinite(value)) return;
  throw UsageError(std::string(metric) + ": " + option + " = " + double_to_text(value) + "; use a number above " +
                   double_to_text(lowest));
}

}  // namespace

torch::Tensor DataRange::clamped(const torch::Tensor& images) const {
  return lowest_ ? images.clamp(*lowest_, *highest_) : images;
}

void DataRange::check(const char* metric) const {
  check_above(metric, "data_range", width_, 0);
}

// --- PeakSignalNoiseRatio ---

PeakSignalNoiseRatio::PeakSignalNoiseRatio(PeakSignalNoiseRatioOptions options) : options_(options) {
  options_.data_range.check("PeakSignalNoiseRatio");
  check_above("PeakSignalNoiseRatio", "base", options_.base, 1);
  sum_squared_error_ = add_state("sum_squared_error", torch::zeros({}, torch::kFloat64), Combine::sum);
  total_ = add_state("total", torch::zeros({}, torch::kLong), Combine::sum);
}

void PeakSignalNoiseRatio::add(const torch::Tensor& preds, const torch::Tensor& target) {
  check_one_shape("PeakSignalNoiseRatio", preds, target);
  const auto images = [&](const torch::Tensor& each) { return options_.data_range.clamped(each.to(torch::kFloat64)); };
  at(sum_squared_error_) += (images(preds) - images(target)).square().sum();
  at(total_) += target.numel();
}

torch::Tensor PeakSignalNoiseRatio::result() const {
  const auto error = at(sum_squared_error_) / at(total_);
  return (2 * std::log(options_.data_range.width()) - error.log()) * (10 / std::log(options_.base));
}

// --- StructuralSimilarityIndexMeasure ---

StructuralSimilarityIndexMeasure::StructuralSimilarityIndexMeasure(StructuralSimilarityIndexMeasureOptions options)
    : options_(options) {
  const char* name = "StructuralSimilarityIndexMeasure";
  check_above(name, "sigma", options_.sigma, 0);
  check_at_least(name, "kernel_size", options_.kernel_size, 1);
  if (options_.kernel_size % 2 == 0) {
    throw UsageError(c10::str(name, ": kernel_size = ", options_.kernel_size, "; use an odd number"));
  }
  if (options_.data_range) options_.data_range->check(name);
  if (options_.gaussian_kernel) {
    const auto reach = static_cast<int64_t>(3.5 * options_.sigma + 0.5);
    const auto weights = (-(torch::arange(-reach, reach + 1, torch::kFloat64) / options_.sigma).square() / 2).exp();
    window_ = weights / weights.sum();
  } else {
    window_ = torch::full({options_.kernel_size}, 1 / static_cast<double>(options_.kernel_size), torch::kFloat64);
  }
  similarity_ = options_.reduction == Reduction::none
                    ? add_list("similarity", torch::kFloat64)
                    : add_state("similarity", torch::zeros({}, torch::kFloat64), Combine::sum);
  total_ = add_state("total", torch::zeros({}, torch::kLong), Combine::sum);
}

// The mean of each pixel's window, every channel alone: windows of depth, rows and columns, whose product is that of
// all.
torch::Tensor StructuralSimilarityIndexMeasure::smooth(const torch::Tensor& images) const {
  const int64_t reach = window_.size(0) / 2;
  const auto window = window_.to(images.device());
  torch::Tensor single;
  if (images.dim() == 5) {
    const auto padded = torch::reflection_pad3d(images, {reach, reach, reach, reach, reach, reach});
    const auto depths = torch::conv2d(padded.flatten(3).flatten(0, 1).unsqueeze(1), window.view({1, 1, -1, 1}));
    single = depths.reshape({-1, 1, padded.size(3), padded.size(4)});
  } else {
    single = torch::reflection_pad2d(images, {reach, reach, reach, reach}).flatten(0, 1).unsqueeze(1);
  }
  const auto rows = torch::conv2d(single, window.view({1, 1, 1, -1}));
  return torch::conv2d(rows, window.view({1, 1, -1, 1})).view(images.sizes());
}

// [N]
torch::Tensor StructuralSimilarityIndexMeasure::similarity(const torch::Tensor& preds,
                                                           const torch::Tensor& target) const {
  auto x = preds.to(torch::kFloat64), y = target.to(torch::kFloat64);
  torch::Tensor width;
  if (options_.data_range) {
    x = options_.data_range->clamped(x);
    y = options_.data_range->clamped(y);
    width = torch::full({}, options_.data_range->width(), x.options());
  } else {
    width = torch::maximum(x.max() - x.min(), y.max() - y.min());
  }
  const auto mean_x = smooth(x), mean_y = smooth(y);
  const auto var_x = (smooth(x * x) - mean_x.square()).clamp_min(0);
  const auto var_y = (smooth(y * y) - mean_y.square()).clamp_min(0);
  const auto both = smooth(x * y) - mean_x * mean_y;
  const auto c1 = (options_.k1 * width).square(), c2 = (options_.k2 * width).square();
  const auto each = ((2 * mean_x * mean_y + c1) * (2 * both + c2)) /
                    ((mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2));
  return each.flatten(1).mean(1);
}

void StructuralSimilarityIndexMeasure::add(const torch::Tensor& preds, const torch::Tensor& target) {
  if (preds.sizes() != target.sizes() || (preds.dim() != 4 && preds.dim() != 5)) {
    throw UsageError("StructuralSimilarityIndexMeasure: " + shapes_text(preds, target) +
                     "; give both one shape, (N, C, H, W) or (N, C, D, H, W)");
  }
  const int64_t reach = window_.size(0) / 2;
  const auto sizes = preds.sizes().slice(2);
  if (std::ranges::any_of(sizes, [reach](int64_t size) { return size <= reach; })) {
    throw UsageError(c10::str("StructuralSimilarityIndexMeasure: images are ", c10::Join(" x ", sizes),
                              "; with a window of ", window_.size(0), " they must be larger than ",
                              c10::Join(" x ", std::vector<int64_t>(sizes.size(), reach))));
  }
  if (preds.numel() == 0) return;
  const auto each = similarity(preds, target);
  if (options_.reduction == Reduction::none) {
    append(similarity_, each);
  } else {
    at(similarity_) += each.sum();
  }
  at(total_) += each.size(0);
}

torch::Tensor StructuralSimilarityIndexMeasure::result() const {
  return options_.reduction == Reduction::elementwise_mean ? at(similarity_) / at(total_) : at(similarity_);
}

// --- FrechetInceptionDistance ---

FrechetInceptionDistance::FrechetInceptionDistance(FrechetInceptionDistanceOptions options)
    : num_features_(options.num_features) {
  check_at_least("FrechetInceptionDistance", "num_features", num_features_, 1);
  real_ = declare("real_features_");
  fake_ = declare("fake_features_");
}

FrechetInceptionDistance::Sums FrechetInceptionDistance::declare(const std::string& prefix) {
  Sums sums;
  sums.sum = add_state(prefix + "sum", torch::zeros({num_features_}, torch::kFloat64), Combine::sum);
  sums.products =
      add_state(prefix + "cov_sum", torch::zeros({num_features_, num_features_}, torch::kFloat64), Combine::sum);
  sums.count = add_state(prefix + "num_samples", torch::zeros({}, torch::kLong), Combine::sum);
  return sums;
}

void FrechetInceptionDistance::check(const torch::Tensor& features) const {
  if (!features.defined()) throw UsageError("FrechetInceptionDistance: features is undefined");
  if (features.dim() == 2 && features.size(1) == num_features_) return;
  throw UsageError(
      c10::str("FrechetInceptionDistance: features is of shape ", features.sizes(), "; give (N, ", num_features_, ")"));
}

void FrechetInceptionDistance::add(const Sums& sums, const torch::Tensor& features) {
  const auto values = features.to(torch::kFloat64);
  at(sums.sum) += values.sum(0);
  at(sums.products) += values.t().mm(values);
  at(sums.count) += values.size(0);
}

void FrechetInceptionDistance::update(const torch::Tensor& features, bool real) {
  check(features);
  gather({features}, [this, real](const Inputs& inputs) { add(real ? real_ : fake_, inputs[0]); });
}

torch::Tensor FrechetInceptionDistance::operator()(const torch::Tensor& features, bool real) {
  check(features);
  return gather_batch({features}, [this, real](const Inputs& inputs) { add(real ? real_ : fake_, inputs[0]); });
}

void FrechetInceptionDistance::verify() const {
  const auto real = at(real_.count).item<int64_t>(), fake = at(fake_.count).item<int64_t>();
  if (real >= 2 && fake >= 2) return;
  throw UsageError(c10::str("FrechetInceptionDistance needs two samples of both, there are ", real,
                            " of real images and ", fake, " of others"));
}

torch::Tensor FrechetInceptionDistance::result() const {
  const auto undecided = torch::full({}, std::numeric_limits<double>::quiet_NaN(), at(real_.sum).options());
  const auto mean_and_covariance = [this](const Sums& sums) {
    const auto count = at(sums.count).to(torch::kFloat64), mean = at(sums.sum) / count;
    return std::pair{mean, (at(sums.products) - count * mean.outer(mean)) / (count - 1)};
  };
  const auto [real_mean, real_spread] = mean_and_covariance(real_);
  const auto [fake_mean, fake_spread] = mean_and_covariance(fake_);
  const auto product = real_spread.mm(fake_spread);
  // Eigenvalues are not defined of what is not finite.
  if (!product.isfinite().all().item<bool>()) return undecided;
  const auto roots = torch::real(torch::linalg_eigvals(product).sqrt()).sum();
  return (real_mean - fake_mean).square().sum() + real_spread.trace() + fake_spread.trace() - 2 * roots;
}

}  // namespace troupe::metrics
