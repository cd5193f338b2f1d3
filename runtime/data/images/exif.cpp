#include "troupe/runtime/data/images/exif.hpp"

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace troupe {

namespace {

/// Numbers of a TIFF structure at offsets that a stranger wrote; what is outside of it reads as 0.
class TiffNumbers {
 public:
  TiffNumbers(std::span<const uint8_t> bytes, bool little) : bytes_(bytes), little_(little) {}

  uint32_t at(std::size_t offset, std::size_t width) const {
    if (offset > bytes_.size() || bytes_.size() - offset < width) return 0;
    uint32_t value = 0;
    for (std::size_t i = 0; i < width; ++i) value = value << 8 | bytes_[offset + (little_ ? width - 1 - i : i)];
    return value;
  }

 private:
  std::span<const uint8_t> bytes_;
  bool little_;
};

bool begins_with(std::span<const uint8_t> bytes, std::string_view text) {
  return bytes.size() >= text.size() &&
         std::equal(text.begin(), text.end(), bytes.begin(), [](char a, uint8_t b) { return uint8_t(a) == b; });
}

}  // namespace

int exif_orientation(std::span<const uint8_t> tiff) {
  constexpr uint32_t orientation_tag = 0x0112, type_short = 3, type_long = 4;
  const bool little = begins_with(tiff, {"II*\0", 4});
  if (!little && !begins_with(tiff, {"MM\0*", 4})) return 1;
  const TiffNumbers numbers(tiff, little);
  const std::size_t directory = numbers.at(4, 4);
  const std::size_t entries = numbers.at(directory, 2);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t entry = directory + 2 + 12 * i;
    if (entry + 12 > tiff.size()) break;
    if (numbers.at(entry, 2) != orientation_tag) continue;
    const uint32_t type = numbers.at(entry + 2, 2);
    const uint32_t value = type == type_short ? numbers.at(entry + 8, 2) : numbers.at(entry + 8, 4);
    const bool fits = (type == type_short || type == type_long) && value >= 1 && value <= 8;
    return fits ? static_cast<int>(value) : 1;
  }
  return 1;
}

int jpeg_orientation(std::span<const uint8_t> jpeg) {
  constexpr uint8_t app1 = 0xE1, start_of_scan = 0xDA, end_of_image = 0xD9;
  std::size_t at = 2;  // after the marker of the start
  while (at + 4 <= jpeg.size() && jpeg[at] == 0xFF) {
    const uint8_t marker = jpeg[at + 1];
    if (marker == 0xFF) {  // a fill byte
      ++at;
      continue;
    }
    if (marker == start_of_scan || marker == end_of_image) break;
    const std::size_t length = std::size_t{jpeg[at + 2]} << 8 | jpeg[at + 3];
    if (length < 2 || length > jpeg.size() - at - 2) break;
    const auto segment = jpeg.subspan(at + 4, length - 2);
    if (marker == app1 && begins_with(segment, {"Exif\0\0", 6})) return exif_orientation(segment.subspan(6));
    at += 2 + length;
  }
  return 1;
}

Orientation Orientation::of(int exif) {
  switch (exif) {
    case 2: return {false, true, false};
    case 3: return {false, true, true};
    case 4: return {false, false, true};
    case 5: return {true, false, false};
    case 6: return {true, true, false};
    case 7: return {true, true, true};
    case 8: return {true, false, true};
    default: return {};
  }
}

}  // namespace troupe
