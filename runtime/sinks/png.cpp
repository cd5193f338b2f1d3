#include "troupe/runtime/sinks/png.hpp"

#include "troupe/base/failure.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <png.h>

#include <cstdint>
#include <limits>
#include <new>
#include <stdexcept>

namespace troupe {
namespace {

[[noreturn]] void refuse_encoding(png_structp, png_const_charp what) {
  throw std::runtime_error("libpng could not encode an image: " + std::string(what));
}

void append_to_png(png_structp png, png_bytep bytes, png_size_t size) {
  static_cast<std::string*>(png_get_io_ptr(png))->append(reinterpret_cast<const char*>(bytes), size);
}

int png_color_type(int64_t channels) {
  if (channels == 1) return PNG_COLOR_TYPE_GRAY;
  return channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_RGB_ALPHA;
}

// What libpng allocates for one image.
class PngWriter {
 public:
  PngWriter() : png_(png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, refuse_encoding, ignore_warning)) {
    if (png_) info_ = png_create_info_struct(png_);
    if (!info_) png_destroy_write_struct(&png_, nullptr);
    if (!info_) throw std::bad_alloc();
  }
  ~PngWriter() { png_destroy_write_struct(&png_, &info_); }
  PngWriter(const PngWriter&) = delete;
  PngWriter& operator=(const PngWriter&) = delete;

  /// `pixels` are [H, W, C] of uint8, contiguous.
  std::string write(const torch::Tensor& pixels) {
    std::string out;
    png_set_write_fn(png_, &out, append_to_png, nullptr);
    // Its default of a million lines is for who reads strangers' files.
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    const auto height = pixels.size(0), row_bytes = pixels.size(1) * pixels.size(2);
    png_set_IHDR(png_, info_, static_cast<png_uint_32>(pixels.size(1)), static_cast<png_uint_32>(height), 8,
                 png_color_type(pixels.size(2)), PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png_, info_);
    for (int64_t y = 0; y < height; ++y) png_write_row(png_, pixels.data_ptr<uint8_t>() + y * row_bytes);
    png_write_end(png_, nullptr);
    return out;
  }

 private:
  static void ignore_warning(png_structp, png_const_charp) {}

  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

void check(const torch::Tensor& image) {
  if (!image.defined()) throw UsageError("an image must be a tensor [C, H, W], got an undefined one");
  bool channels_fit = image.dim() == 3 && (image.size(0) == 1 || image.size(0) == 3 || image.size(0) == 4);
  if (!channels_fit || image.numel() == 0) {
    throw UsageError(
        c10::str("an image must be [C, H, W] with C 1, 3 or 4 and at least one pixel, got ", image.sizes()));
  }
  if (image.scalar_type() != torch::kUInt8 && !image.is_floating_point()) {
    throw UsageError(c10::str("an image must be uint8 in 0..255 or floating in 0..1, got ", image.scalar_type()));
  }
  // Sizes in a PNG are 31-bit numbers.
  if (image.numel() > std::numeric_limits<int32_t>::max() / 2) {
    throw UsageError(c10::str("an image of ", image.sizes(), " is too large for a PNG; make it smaller first"));
  }
}

torch::Tensor to_bytes(const torch::Tensor& image) {
  auto pixels = image.detach().permute({1, 2, 0});
  if (pixels.scalar_type() == torch::kUInt8) return pixels.contiguous();
  return pixels.to(torch::kFloat32).nan_to_num(0).clamp(0, 1).mul(255).round().to(torch::kUInt8).contiguous();
}

}  // namespace

std::string encode_png(const torch::Tensor& image) {
  check(image);
  return PngWriter().write(to_bytes(image));
}

}  // namespace troupe
