// Pixels as a decoder leaves them in memory.
#pragma once

#include <cstdint>

namespace troupe::transforms {

/// Interleaved pixels (height, width, channels) of an image or of a part of one; `row_stride` bytes from row to row.
struct PixelView {
  const uint8_t* data = nullptr;
  int64_t height = 0, width = 0, channels = 0, row_stride = 0;
};

}  // namespace troupe::transforms
