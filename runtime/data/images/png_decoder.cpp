#include "troupe/runtime/data/images/png_decoder.hpp"

#include "troupe/base/text.hpp"
#include "troupe/runtime/data/files/deflate.hpp"
#include "troupe/runtime/data/images/exif.hpp"

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include <libdeflate.h>
#include <png.h>

namespace troupe {

namespace {

constexpr std::array<uint8_t, 8> kPngSignature = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

constexpr std::size_t kMostPaletteBytes = 768;

uint32_t big_endian_32(const uint8_t* at) {
  return uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 | uint32_t{at[2]} << 8 | at[3];
}

int64_t samples_a_pixel(int64_t color_type) {
  switch (color_type) {
    case PNG_COLOR_TYPE_GRAY_ALPHA: return 2;
    case PNG_COLOR_TYPE_RGB: return 3;
    case PNG_COLOR_TYPE_RGB_ALPHA: return 4;
    default: return 1;
  }
}

bool is_png_depth(int64_t color_type, int64_t depth) {
  const bool power = depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16;
  switch (color_type) {
    case PNG_COLOR_TYPE_GRAY: return power;
    case PNG_COLOR_TYPE_PALETTE: return power && depth <= 8;
    case PNG_COLOR_TYPE_RGB:
    case PNG_COLOR_TYPE_GRAY_ALPHA:
    case PNG_COLOR_TYPE_RGB_ALPHA: return depth == 8 || depth == 16;
    default: return false;
  }
}

/// From the samples of a PNG, 8 bits each, to RGB or grey without alpha.
class PngColors {
 public:
  PngColors(int64_t color_type, int64_t channels, std::span<const uint8_t> palette)
      : step_(samples_a_pixel(color_type)),
        colored_((color_type & PNG_COLOR_MASK_COLOR) != 0),
        by_index_(color_type == PNG_COLOR_TYPE_PALETTE),
        channels_(channels) {
    std::ranges::copy(palette, palette_.begin());
  }

  void convert(const uint8_t* from, int64_t width, uint8_t* to) const {
    for (int64_t x = 0; x < width; ++x, from += step_, to += channels_) {
      const uint8_t* color = by_index_ ? palette_.data() + 3 * std::size_t{*from} : from;
      if (channels_ == 1) {
        *to = colored_ ? luma_of(color) : *color;
      } else {
        for (int c = 0; c < 3; ++c) to[c] = color[colored_ ? c : 0];
      }
    }
  }

 private:
  int64_t step_;
  bool colored_;  // palettes are
  bool by_index_;
  int64_t channels_;
  std::array<uint8_t, kMostPaletteBytes> palette_{};  // what it lacks is black, as libpng has it
};

/// What libpng allocates for one image. An error jumps (longjmp) out of libpng to where `guarded` was called, over
/// frames that have no destructors.
class PngRead {
 public:
  explicit PngRead(std::span<const uint8_t> bytes) : rest_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, leave_libpng, ignore_png_warning);
    if (png_) info_ = png_create_info_struct(png_);
    if (!info_) png_destroy_read_struct(&png_, nullptr, nullptr);
    if (!info_) throw std::bad_alloc();
    png_set_read_fn(png_, this, give_png_bytes);
  }
  ~PngRead() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngRead(const PngRead&) = delete;
  PngRead& operator=(const PngRead&) = delete;

  png_structp png() { return png_; }
  png_infop info() { return info_; }
  const char* error() const { return error_.data(); }
  /// False, with error(), if libpng gave up. `work` and what it calls have no destructors.
  template <class Work>
  bool guarded(const Work& work) {
    if (setjmp(escape_) != 0) return false;
    work();
    return true;
  }

 private:
  [[noreturn]] static void leave_libpng(png_structp png, png_const_charp what) {
    auto* self = static_cast<PngRead*>(png_get_error_ptr(png));
    std::strncpy(self->error_.data(), what, self->error_.size() - 1);
    std::longjmp(self->escape_, 1);
  }
  static void ignore_png_warning(png_structp, png_const_charp) {}
  static void give_png_bytes(png_structp png, png_bytep to, png_size_t count) {
    auto* self = static_cast<PngRead*>(png_get_io_ptr(png));
    if (count > self->rest_.size()) png_error(png, "the data is cut off");
    std::memcpy(to, self->rest_.data(), count);
    self->rest_ = self->rest_.subspan(count);
  }

  std::span<const uint8_t> rest_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::jmp_buf escape_;
  std::array<char, 200> error_{};
};

}  // namespace

bool PngDecoder::is_png(std::span<const uint8_t> bytes) {
  return bytes.size() >= kPngSignature.size() && std::equal(kPngSignature.begin(), kPngSignature.end(), bytes.begin());
}

void PngDecoder::fail(const std::string& why) const {
  throw ImageError("cannot decode " + name_ + ": " + why);
}

void PngDecoder::open(std::span<const uint8_t> bytes, int64_t most_pixels, std::string name) {
  bytes_ = bytes;
  name_ = std::move(name);
  data_bytes_ = 0;
  data_.clear();
  palette_ = {};
  has_transparent_color_ = false;
  orientation_ = 1;
  walk_chunks();
  check_size(most_pixels);
  const bool fits = palette_.size() % 3 == 0 && palette_.size() <= kMostPaletteBytes;
  if (!fits || (color_type_ == PNG_COLOR_TYPE_PALETTE && palette_.empty())) {
    fail("the PNG's palette has " + std::to_string(palette_.size()) +
         " bytes; 3 for each of 1 to 256 colors were expected");
  }
}

void PngDecoder::take_header(std::span<const uint8_t> data) {
  if (data.size() != 13) fail("the PNG's header has " + std::to_string(data.size()) + " bytes, not 13");
  width_ = big_endian_32(data.data());
  height_ = big_endian_32(data.data() + 4);
  depth_ = data[8];
  color_type_ = data[9];
  interlaced_ = data[12] != 0;
  if (width_ == 0 || height_ == 0 || width_ > PNG_UINT_31_MAX || height_ > PNG_UINT_31_MAX) {
    fail("the PNG's header says " + std::to_string(width_) + " x " + std::to_string(height_) + " pixels");
  }
  if (!is_png_depth(color_type_, depth_) || data[10] != 0 || data[11] != 0 || data[12] > 1) {
    fail("the PNG's header has color type " + std::to_string(color_type_) + ", bit depth " + std::to_string(depth_) +
         ", compression " + std::to_string(data[10]) + ", filter " + std::to_string(data[11]) + " and interlace " +
         std::to_string(data[12]) + ", which no PNG has together");
  }
}

void PngDecoder::walk_chunks() {
  std::size_t at = kPngSignature.size();
  for (bool first = true;; first = false) {
    constexpr std::size_t frame = 12;  // length, type, checksum
    if (bytes_.size() - at < frame) fail("the PNG is cut off after " + std::to_string(bytes_.size()) + " bytes");
    const std::size_t length = big_endian_32(bytes_.data() + at);
    const std::string_view type(reinterpret_cast<const char*>(bytes_.data()) + at + 4, 4);
    if (length > bytes_.size() - at - frame) {
      fail("the PNG's chunk '" + shown(type) + "' at offset " + std::to_string(at) + " says " + std::to_string(length) +
           " bytes, and the file ends after " + std::to_string(bytes_.size() - at - frame) + " of them");
    }
    const auto data = bytes_.subspan(at + 8, length);
    if (first != (type == "IHDR")) fail("the PNG does not begin with one header");
    if (type != "IHDR" && type != "PLTE" && type != "IDAT" && type != "tRNS" && type != "eXIf" && type != "IEND") {
      at += frame + length;
      continue;
    }
    if (libdeflate_crc32(0, bytes_.data() + at + 4, length + 4) != big_endian_32(bytes_.data() + at + 8 + length)) {
      fail("the PNG's chunk '" + shown(type) + "' at offset " + std::to_string(at) +
           " is damaged: its checksum differs");
    }
    take_chunk(type, data);
    if (type == "IEND") return;
    at += frame + length;
  }
}

void PngDecoder::take_chunk(std::string_view type, std::span<const uint8_t> data) {
  if (type == "IHDR") take_header(data);
  if (type == "PLTE") palette_ = data;
  if (type == "tRNS") has_transparent_color_ = true;
  if (type == "eXIf") orientation_ = exif_orientation(data);
  if (type != "IDAT" || data.empty()) return;
  data_.push_back(data);
  data_bytes_ += static_cast<int64_t>(data.size());
}

void PngDecoder::check_size(int64_t most_pixels) const {
  const auto text = std::to_string(width_) + " x " + std::to_string(height_) + " pixels";
  if (width_ > most_pixels / height_) {
    fail("it has " + text + ", more than most_pixels = " + std::to_string(most_pixels));
  }
  const int64_t most_bytes = kMostDeflated * (data_bytes_ + 16);
  if (width_ * samples_a_pixel(color_type_) * depth_ / 8 > most_bytes / height_) {
    fail("its header says " + text + ", which its " + std::to_string(data_bytes_) +
         " bytes of compressed data cannot hold");
  }
}

transforms::PixelView PngDecoder::decode(const PixelRegion& region, ImageMode mode, PixelBuffer& buffer) {
  if (depth_ != 8 || interlaced_ || mode == ImageMode::unchanged) return decode_by_libpng(region, mode, buffer);
  return decode_rows(region, mode == ImageMode::grey ? 1 : 3, buffer);
}

transforms::PixelView PngDecoder::decode_rows(const PixelRegion& region, int64_t channels, PixelBuffer& buffer) {
  const int64_t step = samples_a_pixel(color_type_), end = region.top + region.height;
  const auto wrong =
      rows_.read(data_, height_, end, static_cast<std::size_t>(width_ * step), static_cast<std::size_t>(step));
  if (!wrong.empty()) fail(wrong);
  transforms::PixelView out{.data = rows_.row(region.top) + region.left * step,
                            .height = region.height,
                            .width = region.width,
                            .channels = channels,
                            .row_stride = static_cast<int64_t>(rows_.stride())};
  if (step == channels && color_type_ != PNG_COLOR_TYPE_PALETTE) return out;
  const PngColors colors(color_type_, channels, palette_);
  out.row_stride = region.width * channels;
  uint8_t* to = buffer.of_size(static_cast<std::size_t>(out.row_stride * region.height));
  out.data = to;
  for (int64_t y = region.top; y < end; ++y, to += out.row_stride) {
    colors.convert(rows_.row(y) + region.left * step, region.width, to);
  }
  return out;
}

transforms::PixelView PngDecoder::decode_by_libpng(const PixelRegion& region, ImageMode mode, PixelBuffer& buffer) {
  PngRead read(bytes_);
  const auto png = read.png();
  const auto info = read.info();
  const auto check = [&](bool done) {
    if (!done) fail("libpng says '" + shown(read.error()) + "'");
  };
  check(read.guarded([&] {
    // Nothing but the pixels: neither time nor memory for compressed texts and colour profiles.
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_set_crc_action(png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);  // they were compared
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);     // the size was checked
    png_read_info(png, info);
    png_set_strip_16(png);
    if (color_type_ == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
    if (color_type_ == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png);
    if (mode == ImageMode::unchanged) {
      if (has_transparent_color_) png_set_tRNS_to_alpha(png);
    } else {
      png_set_strip_alpha(png);
    }
    if (mode == ImageMode::rgb) png_set_gray_to_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
  }));
  const auto stride = static_cast<std::size_t>(png_get_rowbytes(png, info));
  int64_t channels = png_get_channels(png, info);
  // An interlaced image is read in seven passes over all rows.
  const int64_t top = interlaced_ ? 0 : region.top;
  const int64_t rows_kept = interlaced_ ? height_ : region.height;
  uint8_t* const rows = buffer.of_size(stride * static_cast<std::size_t>(rows_kept));
  const int passes = interlaced_ ? 7 : 1;
  check(read.guarded([&] {
    for (int pass = 0; pass < passes; ++pass) {
      for (int64_t y = 0; y < top + rows_kept; ++y) {
        png_read_row(png, rows + stride * static_cast<std::size_t>(std::max<int64_t>(0, y - top)), nullptr);
      }
    }
  }));
  if (mode == ImageMode::grey && channels == 3) {
    for (int64_t y = 0; y < rows_kept; ++y) rgb_row_to_luma(rows + stride * static_cast<std::size_t>(y), width_);
    channels = 1;
  }
  return {.data = rows + stride * static_cast<std::size_t>(region.top - top) + region.left * channels,
          .height = region.height,
          .width = region.width,
          .channels = channels,
          .row_stride = static_cast<int64_t>(stride)};
}

}  // namespace troupe
