// PNG: the usual kinds by libdeflate, all others through libpng.
#pragma once

#include "troupe/runtime/data/images/image_options.hpp"
#include "troupe/runtime/data/images/pixel_buffer.hpp"
#include "troupe/runtime/data/images/png_rows.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// Decodes one PNG after another. Belongs to one thread.
class PngDecoder {
 public:
  static bool is_png(std::span<const uint8_t> bytes);

  /// Reads where the chunks of `bytes` lie, which must stay until after `decode`. Throws ImageError with `name` if it
  /// is cut off, if its header is damaged or claims more than `most_pixels` or than the compressed data can hold.
  void open(std::span<const uint8_t> bytes, int64_t most_pixels, std::string name);
  int64_t height() const { return height_; }
  int64_t width() const { return width_; }
  /// 1 to 8, 1 without a chunk eXIf.
  int orientation() const { return orientation_; }

  /// Decodes the rows and columns of `region`. The pixels are in `buffer`.
  transforms::PixelView decode(const PixelRegion& region, ImageMode mode, PixelBuffer& buffer);

 private:
  [[noreturn]] void fail(const std::string& why) const;
  void take_header(std::span<const uint8_t> data);
  void walk_chunks();
  void take_chunk(std::string_view type, std::span<const uint8_t> data);
  transforms::PixelView decode_rows(const PixelRegion& region, int64_t channels, PixelBuffer& buffer);
  transforms::PixelView decode_by_libpng(const PixelRegion& region, ImageMode mode, PixelBuffer& buffer);
  void check_size(int64_t most_pixels) const;

  std::span<const uint8_t> bytes_;
  std::string name_;
  int64_t height_ = 0;
  int64_t width_ = 0;
  int64_t depth_ = 0;       // bits a sample
  int64_t color_type_ = 0;  // as the header has it
  int64_t data_bytes_ = 0;  // of all chunks IDAT
  bool interlaced_ = false;
  bool has_transparent_color_ = false;  // chunk tRNS
  int orientation_ = 1;
  std::vector<std::span<const uint8_t>> data_;  // of the chunks IDAT, without empty ones
  std::span<const uint8_t> palette_;
  PngRows rows_;
};

}  // namespace troupe
