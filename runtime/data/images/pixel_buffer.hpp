// Memory for the pixels of one image after another.
#pragma once

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

/// Interleaved pixels [height, width, channels] of 8 bits.
struct Pixels {
  const uint8_t* data = nullptr;
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;
  int64_t row_stride = 0;  ///< bytes from row to row
};

}  // namespace troupe
