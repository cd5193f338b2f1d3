// Images from JPEG and PNG files.
#pragma once

#include "troupe/runtime/data/files/retry.hpp"
#include "troupe/runtime/data/images/image_options.hpp"

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

namespace troupe {

/// Decodes a JPEG (baseline, progressive, grey, RGB, CMYK, YCCK) or a PNG (every colour type and depth, interlaced or
/// not): uint8 [C, H, W], contiguous. Which of the two it is, the bytes say. Pixels equal Pillow's and
/// torchvision.io's, except that 16-bit PNGs keep the upper 8 bits (Pillow clips 16-bit grey at 255), and that CMYK
/// becomes RGB as by Pillow's convert("RGB"). Gamma, colour profiles and warnings about ancillary data are ignored.
///
/// Throws ImageError, one sentence with the path and the reason, and UsageError for a file that cannot be read. A file
/// that is cut off is refused even if the missing part is only its end marker. A header that claims more than the
/// file's bytes can hold is refused before memory is asked for. Safe to call from several threads.
/// `retry` is for a file that cannot be read for a moment.
torch::Tensor read_image(const std::filesystem::path& path, const ImageOptions& options = {},
                         const RetryPolicy& retry = {});
/// The same of a file in memory; errors call it `name`.
torch::Tensor decode_image(std::span<const uint8_t> bytes, const ImageOptions& options = {},
                           std::string_view name = "the image");

}  // namespace troupe
