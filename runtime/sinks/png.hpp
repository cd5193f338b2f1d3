// Images as PNG files.
#pragma once

#include <torch/types.h>

#include <string>

namespace troupe {

/// Encodes an image [C, H, W] on the CPU, C being 1 (grey), 3 (RGB) or 4 (RGBA). uint8 is taken as it is; floating
/// values are clamped to 0..1 (NaN counts as 0) and scaled to 0..255. Throws UsageError naming the shape or the type of
/// anything else. Format: https://www.w3.org/TR/png/.
std::string encode_png(const torch::Tensor& image);

}  // namespace troupe
