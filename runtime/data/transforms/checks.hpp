// What the transforms refuse, each with one sentence.
#pragma once

#include "troupe/runtime/data/transforms/geometry.hpp"

#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace troupe::transforms {

/// Throws UsageError unless `image` is [..., C, H, W] of uint8 or a floating-point type. `who` begins the message.
void check_image(const torch::Tensor& image, const char* who);
/// The same, and that it has 1 or 3 channels.
void check_colors(const torch::Tensor& image, const char* who);
void check_probability(double p, const char* who);
/// At least 1 pixel in both directions.
void check_size(Size size, const char* who);
/// That both ends are finite and in order, and `low` is at least `least` (above it if `exclusive`) and `high` at most
/// `most`.
void check_range(Range range, double least, bool exclusive, double most, const char* what);
/// One value or one a channel, which an image of this type can have.
void check_fill(const std::vector<double>& fill, const torch::Tensor& image, const char* who);
/// That `count` values are one, or one for each channel of an image.
void check_channel_values(std::size_t count, int64_t channels, const char* what);
/// "(8, 9)"
std::string size_text(int64_t height, int64_t width);
/// "[3, 8, 9] of Byte"
std::string image_text(const torch::Tensor& image);

}  // namespace troupe::transforms
