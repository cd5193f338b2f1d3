// Reads image files of both formats into memory that is kept from image to image.
#pragma once

#include "troupe/runtime/data/files/retry.hpp"
#include "troupe/runtime/data/images/exif.hpp"
#include "troupe/runtime/data/images/image_options.hpp"
#include "troupe/runtime/data/images/jpeg_decoder.hpp"
#include "troupe/runtime/data/images/pixel_buffer.hpp"
#include "troupe/runtime/data/images/png_decoder.hpp"

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace troupe {

/// One image at a time: `open`, the size, then `decode` once. Belongs to one thread; a decoder per call would set up
/// libjpeg and ask for memory each time.
class ImageReader {
 public:
  /// Throws UsageError for most_pixels below 1.
  explicit ImageReader(const ImageOptions& options, RetryPolicy retry = {});

  /// Reads the file and the header. Throws what read_image throws.
  void open(const std::filesystem::path& path);
  /// `bytes` must stay until after `decode`; errors call them `name`.
  void open(std::span<const uint8_t> bytes, std::string name);

  /// Of the image as it is decoded: turned, if that is asked for.
  int64_t height() const { return orientation_.transposed ? stored_width() : stored_height(); }
  int64_t width() const { return orientation_.transposed ? stored_height() : stored_width(); }
  /// Whether a denominator above 1 has a meaning.
  bool can_scale() const { return !is_png_; }

  struct Part {
    transforms::PixelView pixels;
    /// Where the first pixel lies in the whole image, in pixels of its full size.
    int64_t top = 0;
    int64_t left = 0;
  };
  /// The smallest part that covers `region`, given in pixels of the full size; each pixel of the result stands for
  /// `denominator` (1, 2, 4 or 8) rows and columns of them. It stays until the next `open`. The same region gives the
  /// same values as the whole image.
  Part decode(const PixelRegion& region, int denominator = 1);

 private:
  int64_t stored_height() const { return is_png_ ? png_.height() : jpeg_.height(); }
  int64_t stored_width() const { return is_png_ ? png_.width() : jpeg_.width(); }
  PixelRegion stored_region(const PixelRegion& region) const;
  transforms::PixelView upright(const transforms::PixelView& stored);

  ImageOptions options_;
  RetryPolicy retry_;
  JpegDecoder jpeg_;
  PngDecoder png_;
  bool is_png_ = false;
  Orientation orientation_;
  PixelBuffer file_;
  PixelBuffer decoded_;
  PixelBuffer turned_;
};

}  // namespace troupe
