#include "troupe/runtime/data/transforms/color.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/runtime/data/transforms/checks.hpp"
#include "troupe/runtime/data/transforms/draws.hpp"
#include "troupe/runtime/data/transforms/functional.hpp"

#include <ATen/ops/randperm.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace troupe::transforms {

namespace {

/// The range that a jitter stands for.
Range jitter_range(const Jitter& jitter, double center, double least, double most, const std::string& name) {
  const std::string who = "ColorJitter: " + name;
  if (!jitter.is_amount) {
    check_range({jitter.low, jitter.high}, least, false, most, who.c_str());
    return {jitter.low, jitter.high};
  }
  const double most_amount = std::isfinite(most) ? most : std::numeric_limits<double>::max();
  if (!(jitter.low >= 0 && jitter.low <= most_amount)) {
    throw UsageError(who + " is " + double_to_text(jitter.low) + "; a number from 0" +
                     (std::isfinite(most) ? " to " + double_to_text(most) : " on") + " was expected");
  }
  return {std::max(least, center - jitter.low), center + jitter.low};
}

}  // namespace

ColorJitter::ColorJitter(const ColorJitterOptions& options) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const auto set = [&](Property property, Range range, double center) {
    if (range.low != center || range.high != center) ranges_[property] = Factors{range.low, range.high};
  };
  set(brightness, jitter_range(options.brightness, 1, 0, infinity, "brightness"), 1);
  set(contrast, jitter_range(options.contrast, 1, 0, infinity, "contrast"), 1);
  set(saturation, jitter_range(options.saturation, 1, 0, infinity, "saturation"), 1);
  set(hue, jitter_range(options.hue, 0, -0.5, 0.5, "hue"), 0);
}

ColorJitter::Parameters ColorJitter::draw() const {
  Parameters drawn;
  const auto order = at::randperm(4);
  for (std::size_t i = 0; i < 4; ++i) drawn.order[i] = static_cast<int>(order.const_data_ptr<int64_t>()[i]);
  for (std::size_t i = 0; i < 4; ++i) {
    if (ranges_[i]) drawn.factors[i] = draw_uniform(ranges_[i]->low, ranges_[i]->high);
  }
  return drawn;
}

torch::Tensor ColorJitter::apply(const torch::Tensor& image, const Parameters& parameters) {
  constexpr std::array functions = {functional::adjust_brightness, functional::adjust_contrast,
                                    functional::adjust_saturation, functional::adjust_hue};
  torch::Tensor result = image;
  for (const int property : parameters.order) {
    const auto at = static_cast<std::size_t>(property);
    if (const auto factor = parameters.factors.at(at)) result = functions.at(at)(result, *factor);
  }
  return result;
}

torch::Tensor ColorJitter::operator()(const torch::Tensor& image) const {
  check_colors(image, "ColorJitter");
  return apply(image, draw());
}

Grayscale::Grayscale(int64_t num_output_channels) : channels_(num_output_channels) {
  if (channels_ == 1 || channels_ == 3) return;
  throw UsageError("Grayscale: num_output_channels is " + std::to_string(channels_) + "; 1 or 3 was expected");
}

torch::Tensor Grayscale::operator()(const torch::Tensor& image) const {
  return functional::rgb_to_grayscale(image, channels_);
}

RandomGrayscale::RandomGrayscale(double p) : p_(p) {
  check_probability(p, "RandomGrayscale");
}

torch::Tensor RandomGrayscale::operator()(const torch::Tensor& image) const {
  check_colors(image, "RandomGrayscale");
  return draw() ? functional::rgb_to_grayscale(image, image.size(-3)) : image;
}

bool RandomGrayscale::draw() const {
  return draw_chance(p_);
}

}  // namespace troupe::transforms
