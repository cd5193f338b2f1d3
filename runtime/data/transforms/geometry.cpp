#include "troupe/runtime/data/transforms/geometry.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/transforms/checks.hpp"
#include "troupe/runtime/data/transforms/draws.hpp"
#include "troupe/runtime/data/transforms/functional.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace troupe::transforms {

Resize::Resize(int64_t size, ResizeOptions options) : size_(size), shorter_(true), max_size_(options.max_size) {
  check_size(size_, "Resize");
  if (!max_size_ || *max_size_ > size) return;
  throw UsageError("Resize: max_size is " + std::to_string(*max_size_) + "; more than the size, " +
                   std::to_string(size) + ", was expected");
}

Resize::Resize(Size size) : size_(size), shorter_(false) {
  check_size(size_, "Resize");
}

Size Resize::output_size(int64_t height, int64_t width) const {
  if (!shorter_) return size_;
  if (height < 1 || width < 1) throw UsageError("Resize: an image of " + size_text(height, width) + " has no pixels");
  int64_t short_side = size_.height;
  // As torchvision computes it: doubles, rounded down.
  auto long_side = static_cast<int64_t>(static_cast<double>(short_side * std::max(height, width)) /
                                        static_cast<double>(std::min(height, width)));
  if (max_size_ && long_side > *max_size_) {
    short_side = static_cast<int64_t>(static_cast<double>(*max_size_ * short_side) / static_cast<double>(long_side));
    long_side = *max_size_;
  }
  if (short_side < 1) {
    throw UsageError("Resize: max_size " + std::to_string(*max_size_) +
                     " leaves no pixel of the shorter side of an image of " + size_text(height, width) +
                     "; a larger one was expected");
  }
  return width <= height ? Size(long_side, short_side) : Size(short_side, long_side);
}

torch::Tensor Resize::operator()(const torch::Tensor& image) const {
  check_image(image, "Resize");
  return functional::resize(image, output_size(image.size(-2), image.size(-1)));
}

CenterCrop::CenterCrop(Size size) : size_(size) {
  check_size(size_, "CenterCrop");
}

torch::Tensor CenterCrop::operator()(const torch::Tensor& image) const {
  return functional::center_crop(image, size_);
}

Pad::Pad(Padding padding, PadOptions options) : padding_(padding), options_(std::move(options)) {
  if (options_.fill.empty()) throw UsageError("Pad: the fill has no values; one, or one a channel, was expected");
}

torch::Tensor Pad::operator()(const torch::Tensor& image) const {
  return functional::pad(image, padding_, options_.fill, options_.padding_mode);
}

RandomHorizontalFlip::RandomHorizontalFlip(double p) : p_(p) {
  check_probability(p, "RandomHorizontalFlip");
}

torch::Tensor RandomHorizontalFlip::operator()(const torch::Tensor& image) const {
  check_image(image, "RandomHorizontalFlip");
  return draw() ? functional::horizontal_flip(image) : image;
}

bool RandomHorizontalFlip::draw() const {
  return draw_chance(p_);
}

RandomVerticalFlip::RandomVerticalFlip(double p) : p_(p) {
  check_probability(p, "RandomVerticalFlip");
}

torch::Tensor RandomVerticalFlip::operator()(const torch::Tensor& image) const {
  check_image(image, "RandomVerticalFlip");
  return draw() ? functional::vertical_flip(image) : image;
}

bool RandomVerticalFlip::draw() const {
  return draw_chance(p_);
}

}  // namespace troupe::transforms
