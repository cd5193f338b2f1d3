#include "troupe/runtime/data/transforms/values.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/runtime/data/transforms/checks.hpp"
#include "troupe/runtime/data/transforms/draws.hpp"
#include "troupe/runtime/data/transforms/functional.hpp"
#include "troupe/runtime/data/transforms/placement.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>

namespace troupe::transforms {

namespace {

void check_normalization(const std::vector<double>& mean, const std::vector<double>& std, const char* who) {
  if (mean.empty() || std.empty() || (mean.size() != std.size() && mean.size() != 1 && std.size() != 1)) {
    throw UsageError(std::string(who) + ": " + std::to_string(mean.size()) + " means and " +
                     std::to_string(std.size()) +
                     " standard deviations; one each, or one for each channel, was expected");
  }
  for (std::size_t i = 0; i < std.size(); ++i) {
    if (std[i] != 0 && std::isfinite(std[i])) continue;
    throw UsageError(std::string(who) + ": std of channel " + std::to_string(i) + " is " + double_to_text(std[i]) +
                     "; a finite number other than 0 was expected");
  }
}

}  // namespace

namespace functional {

torch::Tensor to_float(const torch::Tensor& image) {
  check_image(image, "to_float");
  if (image.is_floating_point()) return image.to(torch::kFloat32);
  return image.to(torch::kFloat32).mul_(1.0 / 255);
}

torch::Tensor normalize(const torch::Tensor& image, const std::vector<double>& mean, const std::vector<double>& std) {
  check_image(image, "normalize");
  check_normalization(mean, std, "normalize");
  if (!image.is_floating_point()) {
    throw UsageError("normalize takes floating-point images, not " + image_text(image) + "; ToFloat makes them");
  }
  for (const auto* list : {&mean, &std}) check_channel_values(list->size(), image.size(-3), "normalize");
  const auto values = [&](const std::vector<double>& list) {
    return at::tensor(list, image.options()).view({-1, 1, 1});
  };
  return image.sub(values(mean)).div_(values(std));
}

torch::Tensor erase(const torch::Tensor& image, const Crop& region, const torch::Tensor& value) {
  check_image(image, "erase");
  const auto [top, left, height, width] = region;
  if (top < 0 || left < 0 || height < 0 || width < 0 || top + height > image.size(-2) ||
      left + width > image.size(-1)) {
    throw UsageError("erase: the region of " + size_text(height, width) + " at " + size_text(top, left) +
                     " reaches beyond the image of " + size_text(image.size(-2), image.size(-1)));
  }
  auto result = image.clone();
  result.slice(-2, top, top + height).slice(-1, left, left + width).copy_(value);
  return result;
}

}  // namespace functional

torch::Tensor ToFloat::operator()(const torch::Tensor& image) const {
  return functional::to_float(image);
}

Normalize::Normalize(std::vector<double> mean, std::vector<double> std) : mean_(std::move(mean)), std_(std::move(std)) {
  check_normalization(mean_, std_, "Normalize");
}

torch::Tensor Normalize::operator()(const torch::Tensor& image) const {
  return functional::normalize(image, mean_, std_);
}

RandomErasing::RandomErasing(RandomErasingOptions options)
    : options_(std::move(options)),
      log_low_(std::log(static_cast<float>(options_.ratio.low))),
      log_high_(std::log(static_cast<float>(options_.ratio.high))) {
  check_probability(options_.p, "RandomErasing");
  check_range(options_.scale, 0, false, 1, "RandomErasing: scale");
  check_range(options_.ratio, 0, true, std::numeric_limits<double>::infinity(), "RandomErasing: ratio");
}

std::optional<RandomErasing::Parameters> RandomErasing::draw(int64_t channels, int64_t height, int64_t width) const {
  if (!draw_chance(options_.p)) return std::nullopt;
  const auto area = static_cast<double>(height * width);
  constexpr int tries = 10;
  for (int i = 0; i < tries; ++i) {
    const double erased = area * draw_uniform(options_.scale.low, options_.scale.high);
    const double aspect_ratio = std::exp(draw_uniform(log_low_, log_high_));
    const int64_t h = python_round(std::sqrt(erased * aspect_ratio));
    const int64_t w = python_round(std::sqrt(erased / aspect_ratio));
    if (h >= height || w >= width) continue;
    Parameters drawn;
    drawn.value = options_.value.empty() ? at::empty({channels, h, w}, torch::kFloat32).normal_()
                                         : at::tensor(options_.value, torch::kFloat32).view({-1, 1, 1});
    const int64_t top = draw_index(height - h + 1), left = draw_index(width - w + 1);
    drawn.region = {top, left, h, w};
    return drawn;
  }
  return std::nullopt;
}

torch::Tensor RandomErasing::operator()(const torch::Tensor& image) const {
  check_image(image, "RandomErasing");
  if (!options_.value.empty()) {
    check_fill(options_.value, image, "RandomErasing");
  } else if (!image.is_floating_point()) {
    throw UsageError("RandomErasing writes noise into floating-point images, not " + image_text(image) +
                     "; ToFloat makes them, or give a value");
  }
  const auto drawn = draw(image.size(-3), image.size(-2), image.size(-1));
  return drawn ? functional::erase(image, drawn->region, drawn->value) : image;
}

}  // namespace troupe::transforms
