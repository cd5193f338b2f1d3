// JPEG files of tests' own.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>

#include <jpeglib.h>

namespace troupe {

struct JpegBytesOptions {
  int quality = 90;
  bool progressive = false;
  int orientation = 0;  ///< EXIF, 0: without
};

/// An APP1 segment's content that holds an orientation, as cameras write it.
inline std::string exif_segment(int orientation) {
  std::string out("Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\0\0\0\0\0\0\0\0", 32);
  out[24] = static_cast<char>(orientation);
  return out;
}

/// The file of an image uint8 [H, W, 3] or [H, W, 1].
inline std::string jpeg_bytes(const torch::Tensor& image, const JpegBytesOptions& options = {}) {
  const auto pixels = image.contiguous();
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);  // which ends the process
  jpeg_create_compress(&info);
  unsigned char* data = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &data, &size);
  info.image_height = static_cast<JDIMENSION>(pixels.size(0));
  info.image_width = static_cast<JDIMENSION>(pixels.size(1));
  info.input_components = static_cast<int>(pixels.size(2));
  info.in_color_space = info.input_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, options.quality, TRUE);
  if (options.progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  if (options.orientation > 0) {
    const auto exif = exif_segment(options.orientation);
    jpeg_write_marker(&info, JPEG_APP0 + 1, reinterpret_cast<const JOCTET*>(exif.data()),
                      static_cast<unsigned>(exif.size()));
  }
  for (int64_t y = 0; y < pixels.size(0); ++y) {
    JSAMPROW row = pixels.data_ptr<uint8_t>() + y * pixels.size(1) * pixels.size(2);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  std::string out(reinterpret_cast<const char*>(data), size);
  jpeg_destroy_compress(&info);
  std::free(data);
  return out;
}

/// A smooth picture [height, width, 3] that is different for each `seed`.
inline torch::Tensor smooth_picture(int64_t height, int64_t width, int seed = 0) {
  const auto y = torch::arange(height, torch::kFloat).view({height, 1, 1}) / 17;
  const auto x = torch::arange(width, torch::kFloat).view({1, width, 1}) / 23;
  const auto c = torch::arange(3, torch::kFloat).view({1, 1, 3});
  return ((x + c + seed).sin() * (y + 2 * c + seed).cos() * 120 + 128).to(torch::kByte);
}

inline std::span<const uint8_t> as_bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace troupe
