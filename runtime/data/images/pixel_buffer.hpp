// Memory for the pixels of one image after another.
#pragma once

#include "troupe/runtime/data/transforms/pixel_view.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace troupe {

/// Uninitialised bytes that are kept from image to image. Belongs to one thread.
class PixelBuffer {
 public:
  /// At least `bytes`; what was there before is lost. Memory of an unusually large image is given back at the next
  /// image of usual size.
  uint8_t* of_size(std::size_t bytes) {
    if (bytes > capacity_ || (capacity_ > kKept && capacity_ / 4 > bytes)) {
      data_.reset();
      capacity_ = 0;
      data_ = std::make_unique_for_overwrite<uint8_t[]>(bytes);
      capacity_ = bytes;
    }
    return data_.get();
  }
  uint8_t* data() { return data_.get(); }

 private:
  static constexpr std::size_t kKept = std::size_t{64} << 20;
  std::unique_ptr<uint8_t[]> data_;
  std::size_t capacity_ = 0;
};

/// What part of an image a decoder is to give, in pixels.
struct PixelRegion {
  int64_t top = 0;
  int64_t left = 0;
  int64_t height = 0;
  int64_t width = 0;
};

/// Pillow's convert("L") of an RGB pixel.
inline uint8_t luma_of(const uint8_t* rgb) {
  return static_cast<uint8_t>((rgb[0] * 19595U + rgb[1] * 38470U + rgb[2] * 7471U + 0x8000U) >> 16);
}

/// The same of a row, in place.
inline void rgb_row_to_luma(uint8_t* row, int64_t width) {
  for (int64_t x = 0; x < width; ++x) row[x] = luma_of(row + 3 * x);
}

}  // namespace troupe
