// The transforms' functions of an image and given parameters: torchvision.transforms.v2.functional, version 0.26.
//
// `image` is [..., C, H, W], uint8 or floating point. Results may share its memory. All throw UsageError for other
// tensors and for parameters that have no meaning, naming the value.
#pragma once

#include "troupe/runtime/data/transforms/geometry.hpp"

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace troupe::transforms::functional {

/// Antialiased bilinear.
torch::Tensor resize(const torch::Tensor& image, Size size);
/// A crop that reaches beyond the image is filled up with 0 there.
torch::Tensor crop(const torch::Tensor& image, int64_t top, int64_t left, int64_t height, int64_t width);
torch::Tensor center_crop(const torch::Tensor& image, Size size);
torch::Tensor resized_crop(const torch::Tensor& image, int64_t top, int64_t left, int64_t height, int64_t width,
                           Size size);
torch::Tensor pad(const torch::Tensor& image, const Padding& padding, const std::vector<double>& fill = {0},
                  PaddingMode mode = PaddingMode::constant);
torch::Tensor horizontal_flip(const torch::Tensor& image);
torch::Tensor vertical_flip(const torch::Tensor& image);

/// Images of 1 or 3 channels. Factors are at least 0; 0 is black, 1 the image itself.
torch::Tensor adjust_brightness(const torch::Tensor& image, double brightness_factor);
/// 0 is the mean luminance everywhere.
torch::Tensor adjust_contrast(const torch::Tensor& image, double contrast_factor);
/// 0 is grey. An image of one channel stays as it is.
torch::Tensor adjust_saturation(const torch::Tensor& image, double saturation_factor);
/// Turns the colour circle by a part of it, from -0.5 to 0.5. An image of one channel stays as it is.
torch::Tensor adjust_hue(const torch::Tensor& image, double hue_factor);
/// To 1 or 3 channels.
torch::Tensor rgb_to_grayscale(const torch::Tensor& image, int64_t num_output_channels = 1);

/// float32, levels divided by 255.
torch::Tensor to_float(const torch::Tensor& image);
/// Floating-point images only.
torch::Tensor normalize(const torch::Tensor& image, const std::vector<double>& mean, const std::vector<double>& std);
/// Copies the image; `value` broadcasts to the region.
torch::Tensor erase(const torch::Tensor& image, const Crop& region, const torch::Tensor& value);

}  // namespace troupe::transforms::functional
