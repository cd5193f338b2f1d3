#include "troupe/runtime/data/images/image_reader.hpp"

#include "troupe/base/text.hpp"
#include "troupe/runtime/data/files/file_reader.hpp"

#include <algorithm>
#include <utility>

namespace troupe {

namespace {

std::string first_bytes_text(std::span<const uint8_t> bytes) {
  if (bytes.empty()) return "it is empty";
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 8));
  return "it is neither a JPEG nor a PNG, but begins with '" + shown(text) + "'";
}

}  // namespace

ImageReader::ImageReader(const ImageOptions& options, RetryPolicy retry) : options_(options), retry_(std::move(retry)) {
  if (options.most_pixels < 1) {
    throw UsageError("most_pixels is " + std::to_string(options.most_pixels) + "; it must be at least 1");
  }
}

void ImageReader::open(const std::filesystem::path& path) {
  const FileReader file(path, retry_);
  // A file may claim any size too, as one with holes does.
  constexpr int64_t most_bytes = int64_t{1} << 30;
  if (file.size() > most_bytes) {
    throw ImageError("cannot decode " + path.string() + ": it has " + std::to_string(file.size()) +
                     " bytes, more than 1 GiB");
  }
  const auto size = static_cast<std::size_t>(file.size());
  uint8_t* const bytes = file_.of_size(std::max<std::size_t>(1, size));
  file.read_at(0, bytes, size);
  open({bytes, size}, path.string());
}

void ImageReader::open(std::span<const uint8_t> bytes, std::string name) {
  is_png_ = PngDecoder::is_png(bytes);
  const bool is_jpeg = bytes.size() >= 2 && bytes[0] == 0xFF && bytes[1] == 0xD8;
  if (!is_png_ && !is_jpeg) throw ImageError("cannot decode " + name + ": " + first_bytes_text(bytes));
  if (is_png_) {
    png_.open(bytes, options_.most_pixels, std::move(name));
  } else {
    jpeg_.open(bytes, options_.most_pixels, std::move(name));
  }
  orientation_ = {};
  if (options_.apply_exif_orientation) {
    orientation_ = Orientation::of(is_png_ ? png_.orientation() : jpeg_orientation(bytes));
  }
}

PixelRegion ImageReader::stored_region(const PixelRegion& region) const {
  PixelRegion stored = region;
  if (orientation_.flipped_vertically) stored.top = height() - region.top - region.height;
  if (orientation_.flipped_horizontally) stored.left = width() - region.left - region.width;
  if (orientation_.transposed) {
    std::swap(stored.top, stored.left);
    std::swap(stored.height, stored.width);
  }
  return stored;
}

ImageReader::Part ImageReader::decode(const PixelRegion& region, int denominator) {
  const PixelRegion stored = stored_region(region);
  const int64_t top = stored.top / denominator, left = stored.left / denominator;
  const PixelRegion scaled{.top = top,
                           .left = left,
                           .height = (stored.top + stored.height + denominator - 1) / denominator - top,
                           .width = (stored.left + stored.width + denominator - 1) / denominator - left};
  const transforms::PixelView pixels = is_png_ ? png_.decode(scaled, options_.mode, decoded_)
                                               : jpeg_.decode(scaled, denominator, options_.mode, decoded_);
  if (orientation_.is_upright()) return {pixels, top * denominator, left * denominator};
  Part part{upright(pixels), top * denominator, left * denominator};
  if (orientation_.transposed) std::swap(part.top, part.left);
  if (orientation_.flipped_vertically) part.top = height() - part.top - part.pixels.height * denominator;
  if (orientation_.flipped_horizontally) part.left = width() - part.left - part.pixels.width * denominator;
  return part;
}

transforms::PixelView ImageReader::upright(const transforms::PixelView& stored) {
  transforms::PixelView out = stored;
  if (orientation_.transposed) std::swap(out.height, out.width);
  out.row_stride = out.width * out.channels;
  uint8_t* to = turned_.of_size(static_cast<std::size_t>(out.row_stride * out.height));
  out.data = to;
  const int64_t down = orientation_.transposed ? stored.channels : stored.row_stride;
  const int64_t right = orientation_.transposed ? stored.row_stride : stored.channels;
  for (int64_t y = 0; y < out.height; ++y) {
    const int64_t row = orientation_.flipped_vertically ? out.height - 1 - y : y;
    for (int64_t x = 0; x < out.width; ++x) {
      const int64_t column = orientation_.flipped_horizontally ? out.width - 1 - x : x;
      const uint8_t* from = stored.data + row * down + column * right;
      for (int64_t c = 0; c < out.channels; ++c) *to++ = from[c];
    }
  }
  return out;
}

}  // namespace troupe
