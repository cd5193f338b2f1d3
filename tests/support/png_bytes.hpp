// PNG files of tests' own, of kinds that nothing here writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <zlib.h>

namespace troupe {

inline std::string big_endian(uint32_t number) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(number >> shift));
  return out;
}

inline uint32_t checksum_of(const std::string& bytes) {
  return static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
}

inline std::string png_chunk(const std::string& type, const std::string& data) {
  return big_endian(static_cast<uint32_t>(data.size())) + type + data + big_endian(checksum_of(type + data));
}

struct PngBytesOptions {
  int depth = 8;
  int color_type = 2;
  bool interlaced = false;
  std::string palette = {};
};

/// A PNG whose uncompressed data is `raw`, filters included.
inline std::string png_bytes(uint32_t width, uint32_t height, const std::string& raw,
                             const PngBytesOptions& options = {}) {
  uLongf size = compressBound(raw.size());
  std::string data(size, '\0');
  compress(reinterpret_cast<Bytef*>(data.data()), &size, reinterpret_cast<const Bytef*>(raw.data()), raw.size());
  data.resize(size);
  const std::string header = big_endian(width) + big_endian(height) +
                             std::string{static_cast<char>(options.depth), static_cast<char>(options.color_type), '\0',
                                         '\0', options.interlaced ? '\1' : '\0'};
  return "\x89PNG\r\n\x1a\n" + png_chunk("IHDR", header) +
         (options.palette.empty() ? "" : png_chunk("PLTE", options.palette)) + png_chunk("IDAT", data) +
         png_chunk("IEND", "");
}

/// `png` with the checksums that its chunks should have.
inline std::string with_checksums(std::string png) {
  std::size_t at = 8;
  while (at + 12 <= png.size()) {
    std::size_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) length = length << 8 | static_cast<uint8_t>(png[at + i]);
    if (length > png.size() - at - 12) break;
    png.replace(at + 8 + length, 4, big_endian(checksum_of(png.substr(at + 4, length + 4))));
    at += 12 + length;
  }
  return png;
}

}  // namespace troupe
