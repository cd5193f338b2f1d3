#include "troupe/runtime/sinks/png.hpp"

#include "troupe/base/failure.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>
#include <zlib.h>

#include <limits>
#include <string_view>

namespace troupe {
namespace {

void append_big_endian(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xFF);
}

void append_chunk(std::string& out, std::string_view type, std::string_view data) {
  append_big_endian(out, static_cast<uint32_t>(data.size()));
  std::string body = std::string(type) + std::string(data);
  out += body;
  append_big_endian(out, static_cast<uint32_t>(
                             crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()))));
}

std::string compress(const std::string& data) {
  uLongf size = compressBound(data.size());
  std::string out(size, '\0');
  int status = compress2(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(data.data()),
                         data.size(), Z_DEFAULT_COMPRESSION);
  if (status != Z_OK) throw std::runtime_error("zlib could not compress an image: error " + std::to_string(status));
  out.resize(size);
  return out;
}

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
  // One IDAT chunk holds the image; its length is a 31-bit number.
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
  auto pixels = to_bytes(image);
  auto height = pixels.size(0), row_bytes = pixels.size(1) * pixels.size(2);
  std::string rows;
  for (int64_t y = 0; y < height; ++y) {
    rows += '\0';  // filter type "none"
    rows.append(reinterpret_cast<const char*>(pixels.data_ptr<uint8_t>()) + y * row_bytes,
                static_cast<std::size_t>(row_bytes));
  }
  std::string header;
  append_big_endian(header, static_cast<uint32_t>(pixels.size(1)));
  append_big_endian(header, static_cast<uint32_t>(height));
  int64_t channels = pixels.size(2);
  header += '\x08';  // bits a channel
  header += static_cast<char>(channels == 1 ? 0 : channels == 3 ? 2 : 6);
  header += std::string(3, '\0');  // deflate, adaptive filtering, not interlaced
  std::string out = "\x89PNG\r\n\x1a\n";
  append_chunk(out, "IHDR", header);
  append_chunk(out, "IDAT", compress(rows));
  append_chunk(out, "IEND", "");
  return out;
}

}  // namespace troupe
