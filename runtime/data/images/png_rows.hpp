// The rows of PNGs of 8 bits a sample, as they are compressed.
#pragma once

#include "troupe/runtime/data/images/pixel_buffer.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace troupe {

/// Inflates and unfilters the rows of PNGs that are not interlaced. libpng asks zlib for one row after another and sets
/// both up anew for each image; libdeflate inflates all of them at once, in half of the time. Belongs to one thread.
class PngRows {
 public:
  PngRows();
  ~PngRows();
  PngRows(const PngRows&) = delete;
  PngRows& operator=(const PngRows&) = delete;

  /// Reads the first `rows` of `height` rows of `row_bytes` each out of the chunks' data; `pixel_bytes` is 1 to 4.
  /// Returns what is wrong, or nothing.
  std::string read(const std::vector<std::span<const uint8_t>>& chunks, int64_t height, int64_t rows,
                   std::size_t row_bytes, std::size_t pixel_bytes);
  /// Row `y` of those; they lie stride() bytes apart.
  const uint8_t* row(int64_t y) { return raw_.data() + static_cast<std::size_t>(y) * stride_ + 1; }
  std::size_t stride() const { return stride_; }

 private:
  struct Inflater;
  std::string inflate_all(const std::vector<std::span<const uint8_t>>& chunks, std::size_t bytes);

  std::unique_ptr<Inflater> inflater_;
  PixelBuffer raw_;  // each row behind the number of its filter
  std::size_t stride_ = 0;
  std::vector<uint8_t> blank_;
};

}  // namespace troupe
