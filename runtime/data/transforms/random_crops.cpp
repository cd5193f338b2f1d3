#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/transforms/checks.hpp"
#include "troupe/runtime/data/transforms/draws.hpp"
#include "troupe/runtime/data/transforms/functional.hpp"
#include "troupe/runtime/data/transforms/geometry.hpp"
#include "troupe/runtime/data/transforms/placement.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

namespace troupe::transforms {

RandomCrop::RandomCrop(Size size, RandomCropOptions options) : size_(size), options_(std::move(options)) {
  check_size(size_, "RandomCrop");
  if (options_.fill.empty())
    throw UsageError("RandomCrop: the fill has no values; one, or one a channel, was expected");
  const auto& [left, top, right, bottom] = options_.padding;
  if (const int64_t least = std::min({left, top, right, bottom}); least < 0) {
    throw UsageError("RandomCrop: the padding is " + std::to_string(least) + "; at least 0 was expected");
  }
}

RandomCrop::Parameters RandomCrop::draw(int64_t height, int64_t width) const {
  Parameters drawn{options_.padding, {0, 0, size_.height, size_.width}};
  auto& [left, top, right, bottom] = drawn.padding;
  const auto pad_if_needed = [&](int64_t size, int64_t wanted, int64_t& before, int64_t& after) {
    const int64_t lacking = wanted - (size + before + after);
    if (!options_.pad_if_needed || lacking <= 0) return;
    before += lacking;
    after += lacking;
  };
  pad_if_needed(height, size_.height, top, bottom);
  pad_if_needed(width, size_.width, left, right);
  const int64_t more_rows = height + top + bottom - size_.height, more_columns = width + left + right - size_.width;
  if (more_rows < 0 || more_columns < 0) {
    throw UsageError("RandomCrop: an image of " + size_text(height, width) +
                     (options_.padding.empty() ? "" : " with its padding") + " is smaller than the crop of " +
                     size_text(size_.height, size_.width) + "; .pad_if_needed = true pads it");
  }
  if (more_rows > 0) drawn.crop.top = draw_index(more_rows + 1);
  if (more_columns > 0) drawn.crop.left = draw_index(more_columns + 1);
  return drawn;
}

torch::Tensor RandomCrop::operator()(const torch::Tensor& image) const {
  check_image(image, "RandomCrop");
  const auto [padding, crop] = draw(image.size(-2), image.size(-1));
  const auto padded = padding.empty() ? image : functional::pad(image, padding, options_.fill, options_.padding_mode);
  return functional::crop(padded, crop.top, crop.left, crop.height, crop.width);
}

RandomResizedCrop::RandomResizedCrop(Size size, RandomResizedCropOptions options)
    : size_(size),
      options_(options),
      log_low_(std::log(static_cast<float>(options.ratio.low))),
      log_high_(std::log(static_cast<float>(options.ratio.high))) {
  check_size(size_, "RandomResizedCrop");
  check_range(options.scale, 0, true, std::numeric_limits<double>::infinity(), "RandomResizedCrop: scale");
  check_range(options.ratio, 0, true, std::numeric_limits<double>::infinity(), "RandomResizedCrop: ratio");
}

Crop RandomResizedCrop::draw(int64_t height, int64_t width) const {
  const auto area = static_cast<double>(height * width);
  constexpr int tries = 10;
  for (int i = 0; i < tries; ++i) {
    const double target_area = area * draw_uniform(options_.scale.low, options_.scale.high);
    const double aspect_ratio = std::exp(draw_uniform(log_low_, log_high_));
    const int64_t w = python_round(std::sqrt(target_area * aspect_ratio));
    const int64_t h = python_round(std::sqrt(target_area / aspect_ratio));
    if (w < 1 || w > width || h < 1 || h > height) continue;
    const int64_t top = draw_index(height - h + 1), left = draw_index(width - w + 1);
    return {top, left, h, w};
  }
  int64_t w = width, h = height;
  const double in_ratio = static_cast<double>(width) / static_cast<double>(height);
  if (in_ratio < options_.ratio.low) {
    h = python_round(static_cast<double>(w) / options_.ratio.low);
  } else if (in_ratio > options_.ratio.high) {
    w = python_round(static_cast<double>(h) * options_.ratio.high);
  }
  return {(height - h) / 2, (width - w) / 2, h, w};
}

torch::Tensor RandomResizedCrop::operator()(const torch::Tensor& image) const {
  check_image(image, "RandomResizedCrop");
  const auto [top, left, height, width] = draw(image.size(-2), image.size(-1));
  return functional::resized_crop(image, top, left, height, width, size_);
}

}  // namespace troupe::transforms
