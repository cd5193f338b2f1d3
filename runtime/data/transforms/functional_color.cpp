#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/runtime/data/transforms/checks.hpp"
#include "troupe/runtime/data/transforms/functional.hpp"

#include <ATen/ops/aminmax.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

#include <string>

namespace troupe::transforms::functional {

namespace {

double largest_value(const torch::Tensor& image) {
  return image.is_floating_point() ? 1 : 255;
}

void check_factor(double factor, double least, double most, const char* name) {
  if (factor >= least && factor <= most) return;
  throw UsageError(std::string(name) + " is " + double_to_text(factor) + "; " +
                   (std::isfinite(most) ? "a number from " + double_to_text(least) + " to " + double_to_text(most)
                                        : "a finite number of at least " + double_to_text(least)) +
                   " was expected");
}

/// Luminance of [..., 3, H, W] with its channel dimension, floating point; in whole levels if the image has those.
torch::Tensor luminance(const torch::Tensor& image) {
  const auto channels = image.unbind(-3);
  auto gray = channels[0].mul(0.2989).add_(channels[1], 0.587).add_(channels[2], 0.114).unsqueeze_(-3);
  return image.is_floating_point() ? gray : gray.floor_();
}

/// image * ratio + other * (1 - ratio) in the image's type and range.
torch::Tensor blended(const torch::Tensor& image, const torch::Tensor& other, double ratio) {
  return image.mul(ratio).add_(other, 1 - ratio).clamp_(0, largest_value(image)).to(image.scalar_type());
}

/// The function of torchvision's of this name, which follows Pillow's rgb2hsv_row. Float images, [..., 3, H, W].
torch::Tensor rgb_to_hsv(const torch::Tensor& image) {
  const auto rgb = image.unbind(-3);
  const auto [least, most] = at::aminmax(image, -3);
  const auto is_gray = most == least, red_is_not_most = most != rgb[0], green_is_most = most == rgb[1];
  const auto range = most - least;
  const auto ones = at::ones_like(most);
  const auto saturation = range / at::where(is_gray, ones, most);
  const auto distances = ((most.unsqueeze(-3) - image) / at::where(is_gray, ones, range).unsqueeze_(-3)).unbind(-3);
  const auto &r = distances[0], &g = distances[1], &b = distances[2];
  auto hue = (b - g).mul_(red_is_not_most.logical_not());
  hue.add_(r.add(2.0).sub_(b).mul_(green_is_most.logical_and(red_is_not_most)));
  hue.add_(g.add(4.0).sub_(r).mul_(red_is_not_most.logical_and(green_is_most.logical_not())));
  hue.mul_(1.0 / 6.0).add_(1.0).fmod_(1.0);
  return at::stack({hue, saturation, most}, -3);
}

torch::Tensor hsv_to_rgb(const torch::Tensor& image) {
  const auto hsv = image.unbind(-3);
  auto fraction = hsv[0].mul(6);
  const auto sector = fraction.floor();
  fraction.sub_(sector);
  const auto &s = hsv[1], &v = hsv[2];
  const auto part = s * fraction;
  const auto rest = at::rsub(s, 1.0);
  const auto q = at::rsub(part, 1.0).mul_(v).clamp_(0, 1);
  const auto t = (part + rest).mul_(v).clamp_(0, 1);
  const auto p = (rest * v).clamp_(0, 1);
  // Which of v, p, q, t is red, green and blue in each of the six sectors.
  static const auto choices =
      at::tensor({0, 2, 1, 1, 3, 0, 3, 0, 0, 2, 1, 1, 1, 1, 3, 0, 0, 2}, torch::kInt64).view({3, 6});
  const auto index = sector.to(torch::kInt64).remainder_(6);
  auto chosen = choices.to(image.device()).index_select(1, index.flatten());
  auto shape = index.sizes().vec();
  shape.insert(shape.begin(), 3);
  chosen = chosen.view(shape).movedim(0, -3);
  return at::stack({v, p, q, t}, -3).gather(-3, chosen);
}

}  // namespace

torch::Tensor adjust_brightness(const torch::Tensor& image, double brightness_factor) {
  check_colors(image, "adjust_brightness");
  check_factor(brightness_factor, 0, std::numeric_limits<double>::max(), "brightness_factor");
  return image.mul(brightness_factor).clamp_(0, largest_value(image)).to(image.scalar_type());
}

torch::Tensor adjust_contrast(const torch::Tensor& image, double contrast_factor) {
  check_colors(image, "adjust_contrast");
  check_factor(contrast_factor, 0, std::numeric_limits<double>::max(), "contrast_factor");
  auto gray = image.size(-3) == 3 ? luminance(image) : image;
  if (!gray.is_floating_point()) gray = gray.to(torch::kFloat32);
  return blended(image, gray.mean(at::IntArrayRef{-3, -2, -1}, /*keepdim=*/true), contrast_factor);
}

torch::Tensor adjust_saturation(const torch::Tensor& image, double saturation_factor) {
  check_colors(image, "adjust_saturation");
  check_factor(saturation_factor, 0, std::numeric_limits<double>::max(), "saturation_factor");
  return image.size(-3) == 1 ? image : blended(image, luminance(image), saturation_factor);
}

torch::Tensor adjust_hue(const torch::Tensor& image, double hue_factor) {
  check_colors(image, "adjust_hue");
  check_factor(hue_factor, -0.5, 0.5, "hue_factor");
  if (image.size(-3) == 1 || image.numel() == 0) return image;
  const bool has_levels = image.scalar_type() == torch::kUInt8;
  const auto hsv = rgb_to_hsv(to_float(image));
  hsv.select(-3, 0).add_(hue_factor).remainder_(1.0);
  const auto rgb = hsv_to_rgb(hsv);
  // Slightly less than 256, so that each level gets an equal part of 0 to 1.
  return has_levels ? rgb.mul(256 - 1e-3).to(torch::kUInt8) : rgb.to(image.scalar_type());
}

torch::Tensor rgb_to_grayscale(const torch::Tensor& image, int64_t num_output_channels) {
  check_colors(image, "rgb_to_grayscale");
  if (num_output_channels != 1 && num_output_channels != 3) {
    throw UsageError("num_output_channels is " + std::to_string(num_output_channels) + "; 1 or 3 was expected");
  }
  const auto gray = image.size(-3) == 3 ? luminance(image).to(image.scalar_type()) : image;
  if (num_output_channels == 1) return gray;
  auto shape = gray.sizes().vec();
  shape[shape.size() - 3] = 3;
  return gray.expand(shape).contiguous();
}

}  // namespace troupe::transforms::functional
