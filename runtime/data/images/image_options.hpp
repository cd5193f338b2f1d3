// How images are decoded, and what a broken one is.
#pragma once

#include "troupe/base/failure.hpp"

#include <cstdint>

namespace troupe {

/// An image that cannot be decoded: damaged, cut off, too large or of another format. A file that cannot be opened or
/// read is no such error.
class ImageError : public UsageError {
 public:
  using UsageError::UsageError;
};

/// What is done with an image that cannot be decoded (ImageError). What cannot be read ends the run in any case: what
/// stands for which sample must not depend on whether a server answers.
enum class BrokenImages {
  refuse,  ///< the run ends; the error names it
  skip,    ///< the next sample in order that can be decoded stands in for it, with all that is its own
};

/// The channels of a decoded image.
enum class ImageMode {
  /// 3; alpha is dropped, as Pillow's convert("RGB") and torchvision's ImageReadMode.RGB do.
  rgb,
  /// 1. Of a JPEG it is the luma that the file holds (torchvision.io's way), of a PNG Pillow's convert("L").
  grey,
  /// What the file holds: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. Palettes become RGB, or RGB and alpha if
  /// they have transparent colours; CMYK becomes RGB.
  unchanged,
};

struct ImageOptions {
  ImageMode mode = ImageMode::rgb;
  /// Turn and mirror the image as its EXIF tag 0x0112 says, as Pillow's ImageOps.exif_transpose does. Off by default:
  /// torchvision's ImageFolder leaves it out as well.
  bool apply_exif_orientation = false;
  /// Larger images are refused before memory is asked for. Pillow refuses at the same number, 2 * MAX_IMAGE_PIXELS
  /// (https://pillow.readthedocs.io/en/stable/reference/Image.html#PIL.Image.open).
  int64_t most_pixels = 178'956'970;
};

}  // namespace troupe
