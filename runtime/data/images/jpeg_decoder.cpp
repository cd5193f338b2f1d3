#include "troupe/runtime/data/images/jpeg_decoder.hpp"

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <utility>

#include <jpeglib.h>

#include <jerror.h>

namespace troupe {

// In no unnamed namespace, since a member of JpegDecoder holds it.
struct JpegErrors {
  jpeg_error_mgr base;
  std::jmp_buf escape;
  std::array<char, JMSG_LENGTH_MAX> text;
};

namespace {

[[noreturn]] void leave_libjpeg(j_common_ptr info) {
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  errors->base.format_message(info, errors->text.data());
  std::longjmp(errors->escape, 1);
}

// Warnings are about damage that every decoder passes over, such as bytes between two markers; the end of the data is
// an error here.
void ignore_jpeg_message(j_common_ptr, int) {}
void print_no_jpeg_message(j_common_ptr) {}

void start_jpeg_source(j_decompress_ptr) {}
void end_jpeg_source(j_decompress_ptr) {}

boolean no_more_jpeg_data(j_decompress_ptr info) {
  info->err->msg_code = JERR_INPUT_EOF;
  info->err->error_exit(reinterpret_cast<j_common_ptr>(info));
  return FALSE;
}

void skip_jpeg_data(j_decompress_ptr info, long count) {
  if (count <= 0) return;
  auto& source = *info->src;
  if (static_cast<std::size_t>(count) > source.bytes_in_buffer) no_more_jpeg_data(info);
  source.next_input_byte += count;
  source.bytes_in_buffer -= static_cast<std::size_t>(count);
}

// A progressive image is decoded scan by scan, each of which may be a few bytes that cost a pass over all pixels. Those
// of encoders have about ten.
void limit_jpeg_scans(j_common_ptr info) {
  constexpr int most_scans = 500;
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= most_scans) return;
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  std::snprintf(errors->text.data(), errors->text.size(), "it has more than %d scans", most_scans);
  std::longjmp(errors->escape, 1);
}

/// A part of an image is decoded without what comes below it, so the end is looked for before. Within compressed data a
/// byte FF is followed by 00, by a marker of restart or by the end marker.
bool has_end_marker(std::span<const uint8_t> scans) {
  while (scans.size() >= 2) {
    const auto* found = static_cast<const uint8_t*>(memrchr(scans.data() + 1, 0xD9, scans.size() - 1));
    if (!found) return false;
    if (found[-1] == 0xFF) return true;
    scans = scans.first(static_cast<std::size_t>(found - scans.data()));
  }
  return false;
}

/// In place: raw CMYK, which files hold inverted whether or not they say so, to RGB.
void cmyk_row_to_rgb(uint8_t* row, int64_t width) {
  for (int64_t x = 0; x < width; ++x) {
    const unsigned black = row[4 * x + 3];
    for (int64_t c = 0; c < 3; ++c) row[3 * x + c] = static_cast<uint8_t>((row[4 * x + c] * black + 127) / 255);
  }
}

}  // namespace

struct JpegDecoder::State {
  jpeg_decompress_struct info;
  JpegErrors errors;
  jpeg_source_mgr source;
  jpeg_progress_mgr progress;
};

// What libjpeg throws with a jump comes out of here as an exception. `work` and what it calls have no destructors.
template <class Work>
void JpegDecoder::guarded(const Work& work) {
  if (setjmp(state_->errors.escape) == 0) {
    work();
    return;
  }
  jpeg_abort_decompress(&state_->info);
  const bool cut_off = state_->info.err->msg_code == JERR_INPUT_EOF;
  fail(cut_off ? "the JPEG is cut off after " + std::to_string(bytes_.size()) + " bytes"
               : "libjpeg says '" + std::string(state_->errors.text.data()) + "'");
}

void JpegDecoder::fail(const std::string& why) const {
  throw ImageError("cannot decode " + name_ + ": " + why);
}

JpegDecoder::JpegDecoder() : state_(std::make_unique<State>()) {
  auto& info = state_->info;
  info.err = jpeg_std_error(&state_->errors.base);
  state_->errors.base.error_exit = leave_libjpeg;
  state_->errors.base.emit_message = ignore_jpeg_message;
  state_->errors.base.output_message = print_no_jpeg_message;
  state_->source = {.next_input_byte = nullptr,
                    .bytes_in_buffer = 0,
                    .init_source = start_jpeg_source,
                    .fill_input_buffer = no_more_jpeg_data,
                    .skip_input_data = skip_jpeg_data,
                    .resync_to_restart = jpeg_resync_to_restart,
                    .term_source = end_jpeg_source};
  state_->progress.progress_monitor = limit_jpeg_scans;
  guarded([this] { jpeg_create_decompress(&state_->info); });
  info.src = &state_->source;
  info.progress = &state_->progress;
}

JpegDecoder::~JpegDecoder() {
  jpeg_destroy_decompress(&state_->info);
}

void JpegDecoder::open(std::span<const uint8_t> bytes, int64_t most_pixels, std::string name) {
  jpeg_abort_decompress(&state_->info);
  bytes_ = bytes;
  name_ = std::move(name);
  state_->source.next_input_byte = bytes.data();
  state_->source.bytes_in_buffer = bytes.size();
  state_->errors.base.msg_code = 0;
  guarded([this] { jpeg_read_header(&state_->info, TRUE); });
  if (!has_end_marker({state_->source.next_input_byte, state_->source.bytes_in_buffer})) {
    fail("the JPEG is cut off after " + std::to_string(bytes_.size()) + " bytes");
  }
  check_size(most_pixels);
}

void JpegDecoder::check_size(int64_t most_pixels) const {
  const auto text = std::to_string(width()) + " x " + std::to_string(height());
  if (height() * width() > most_pixels) {
    fail("it has " + text + " pixels, more than most_pixels = " + std::to_string(most_pixels));
  }
  // A block of 8 x 8 takes a bit at least, and with odd sampling factors every component may be of a quarter of the
  // size. Arithmetic coding takes less, so small files of it are refused with large blank images.
  constexpr int64_t most_pixels_a_byte = 2048;
  if (height() * width() / most_pixels_a_byte > static_cast<int64_t>(bytes_.size())) {
    fail("its header says " + text + " pixels, which its " + std::to_string(bytes_.size()) + " bytes cannot hold");
  }
}

int64_t JpegDecoder::height() const {
  return state_->info.image_height;
}

int64_t JpegDecoder::width() const {
  return state_->info.image_width;
}

transforms::PixelView JpegDecoder::decode(const PixelRegion& region, int denominator, ImageMode mode,
                                          PixelBuffer& buffer) {
  auto& info = state_->info;
  const bool is_grey =
      mode == ImageMode::grey || (mode == ImageMode::unchanged && info.jpeg_color_space == JCS_GRAYSCALE);
  const int64_t channels = is_grey ? 1 : 3;
  const bool cmyk = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  info.out_color_space = cmyk ? JCS_CMYK : is_grey ? JCS_GRAYSCALE : JCS_RGB;
  info.scale_num = 1;
  info.scale_denom = static_cast<unsigned>(denominator);
  info.dct_method = JDCT_ISLOW;
  info.do_fancy_upsampling = TRUE;
  guarded([&info] { jpeg_start_decompress(&info); });

  // Chroma is interpolated between neighbours: without more columns on either side, those at the edges would differ
  // from the whole image's. libjpeg rounds to whole blocks.
  JDIMENSION first = 0, columns = info.output_width;
  if (region.width < static_cast<int64_t>(info.output_width)) {
    const int64_t margin = std::max(1, 16 / denominator);
    first = static_cast<JDIMENSION>(std::max<int64_t>(0, region.left - margin));
    columns =
        static_cast<JDIMENSION>(std::min<int64_t>(info.output_width, region.left + region.width + margin) - first);
    if (columns < info.output_width) guarded([&] { jpeg_crop_scanline(&info, &first, &columns); });
  }
  const auto stride = static_cast<std::size_t>(info.output_width) * static_cast<std::size_t>(info.output_components);
  uint8_t* const rows = buffer.of_size(stride * static_cast<std::size_t>(region.height));
  const auto top = static_cast<JDIMENSION>(region.top), end = static_cast<JDIMENSION>(region.top + region.height);
  guarded([&info, top, end, rows, stride] {
    if (top > 0) jpeg_skip_scanlines(&info, top);
    while (info.output_scanline < end) {
      constexpr JDIMENSION most = 8;
      JSAMPROW pointers[most];
      const JDIMENSION wanted = std::min(most, end - info.output_scanline);
      for (JDIMENSION i = 0; i < wanted; ++i) pointers[i] = rows + stride * (info.output_scanline - top + i);
      jpeg_read_scanlines(&info, pointers, wanted);
    }
    if (end == info.output_height) jpeg_finish_decompress(&info);
  });
  const int64_t width = info.output_width;
  jpeg_abort_decompress(&info);
  if (cmyk) {
    for (int64_t y = 0; y < region.height; ++y) {
      uint8_t* row = rows + stride * static_cast<std::size_t>(y);
      cmyk_row_to_rgb(row, width);
      if (is_grey) rgb_row_to_luma(row, width);
    }
  }
  return {.data = rows + (region.left - first) * channels,
          .height = region.height,
          .width = region.width,
          .channels = channels,
          .row_stride = static_cast<int64_t>(stride)};
}

}  // namespace troupe
