// JPEG through libjpeg-turbo.
#pragma once

#include "troupe/runtime/data/images/image_options.hpp"
#include "troupe/runtime/data/images/pixel_buffer.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace troupe {

/// Decodes one JPEG after another, each as a whole, in part or at 1/2, 1/4 or 1/8 of its size. Belongs to one thread.
///
/// libjpeg reports errors by a call that must not return: it jumps (longjmp) back to where the library was called, over
/// frames of libjpeg and of functions here that have no destructors.
class JpegDecoder {
 public:
  JpegDecoder();
  ~JpegDecoder();
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  /// Reads the header of `bytes`, which must stay until after `decode`. Throws ImageError with `name` if it is damaged,
  /// the end marker is missing or the image has more than `most_pixels`.
  void open(std::span<const uint8_t> bytes, int64_t most_pixels, std::string name);
  int64_t height() const;
  int64_t width() const;

  /// Decodes the rows and columns of `region`, pixels of the image at 1/`denominator` (1, 2, 4 or 8) of its size, which
  /// is rounded up. What lies in it has the same values for every region. The pixels are in `buffer`. To be called once
  /// after `open`.
  transforms::PixelView decode(const PixelRegion& region, int denominator, ImageMode mode, PixelBuffer& buffer);

 private:
  struct State;
  template <class Work>
  void guarded(const Work& work);
  [[noreturn]] void fail(const std::string& why) const;
  void check_size(int64_t most_pixels) const;

  std::unique_ptr<State> state_;
  std::span<const uint8_t> bytes_;
  std::string name_;
};

}  // namespace troupe
