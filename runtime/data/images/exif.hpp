// The orientation that a camera wrote into an image.
#pragma once

#include <cstdint>
#include <span>

namespace troupe {

/// The orientation, 1 to 8, of a TIFF structure as EXIF has it (CIPA DC-008, tag 0x0112); 1, which is upright, if it
/// has none or is damaged: what is beside the pixels makes no image unreadable. Reads the first directory only.
int exif_orientation(std::span<const uint8_t> tiff);
/// The same of a whole JPEG file: its first APP1 segment that begins with "Exif" and stands before the pixels.
int jpeg_orientation(std::span<const uint8_t> jpeg);

/// An orientation as steps: the stored image is transposed, then mirrored.
struct Orientation {
  bool transposed = false;
  bool flipped_horizontally = false;
  bool flipped_vertically = false;

  static Orientation of(int exif);
  bool is_upright() const { return !transposed && !flipped_horizontally && !flipped_vertically; }
};

}  // namespace troupe
