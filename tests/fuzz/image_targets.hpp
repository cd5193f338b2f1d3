// Readers of images.
#pragma once

#include "tests/fuzz/target.hpp"
#include "tests/support/jpeg_bytes.hpp"
#include "tests/support/png_bytes.hpp"
#include "troupe/runtime/data/images/exif.hpp"
#include "troupe/runtime/data/images/image_reader.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace troupe::fuzz {

/// Reads the whole image and parts of it, in all modes.
inline void read_image_bytes(const std::string& bytes) {
  for (const auto mode : {ImageMode::rgb, ImageMode::grey, ImageMode::unchanged}) {
    ImageReader reader({.mode = mode, .apply_exif_orientation = true, .most_pixels = 1 << 16});
    for (const int by : {1, 2, 8}) {
      reader.open(as_bytes(bytes), "an image");
      if (by > 1 && !reader.can_scale()) continue;
      const int64_t top = by > 1 ? reader.height() / 3 : 0, left = by > 1 ? reader.width() / 3 : 0;
      const auto part = reader.decode({top, left, reader.height() - top, std::max<int64_t>(1, reader.width() / 2)}, by);
      int64_t sum = 0;
      for (int64_t y = 0; y < part.pixels.height; ++y) {
        const auto* row = part.pixels.data + y * part.pixels.row_stride;
        for (int64_t x = 0; x < part.pixels.width * part.pixels.channels; ++x) sum += row[x];
      }
      if (sum < 0) throw std::logic_error("pixels are not negative");
    }
  }
}

inline void add_image_targets(std::vector<Target>& all, const TempDir&) {
  const auto picture = smooth_picture(20, 27);
  all.push_back({"jpeg",
                 {jpeg_bytes(picture), jpeg_bytes(picture, {.progressive = true, .orientation = 6}),
                  jpeg_bytes(picture.slice(2, 0, 1), {.orientation = 3})},
                 read_image_bytes});
  const std::string rows = [] {
    std::string out;  // with each of the filters
    for (int y = 0; y < 5; ++y) out += std::string(1, static_cast<char>(y)) + "abcdefghijklmnopqrstu";
    return out;
  }();
  all.push_back(
      {"png",
       {png_bytes(7, 5, rows), png_bytes(21, 5, rows, {.color_type = 3, .palette = std::string(768, 'x')}),
        png_bytes(21, 5, rows, {.color_type = 0}), png_bytes(2, 2, std::string(4 * 7, '\0'), {.interlaced = true}),
        png_bytes(2, 2, std::string(2 * 13, '\1'), {.depth = 16}),
        png_bytes(9, 2, std::string(2 * 4, '\0'), {.depth = 2, .color_type = 3, .palette = "abcdefghijkl"})},
       // Without its checksums a PNG with a change in it would be refused before anything is read.
       [](const auto& bytes) { read_image_bytes(with_checksums(bytes)); }});
  all.push_back({"exif", {exif_segment(6).substr(6), exif_segment(8).substr(6)}, [](const auto& bytes) {
                   if (exif_orientation(as_bytes(bytes)) == 1) throw UsageError("upright");
                 }});
}

}  // namespace troupe::fuzz
