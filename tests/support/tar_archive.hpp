// Tar archives made by hand, valid and otherwise, for tests.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

#include <zlib.h>

namespace troupe {

/// What stands in a header of the ustar format.
struct TarEntry {
  std::string name;
  std::string content;
  char type = '0';
  std::string link = "";
  std::string size_field = "";  ///< 12 bytes in place of the content's size
  std::string magic = std::string(
      "ustar\0"
      "00",
      8);
};

/// The 512 bytes of `header` with the right checksum.
inline std::string with_tar_checksum(std::string header) {
  header.replace(148, 8, 8, ' ');
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  char text[8];
  std::snprintf(text, sizeof(text), "%06o", sum);
  header.replace(148, 8, std::string(text, 6) + std::string("\0 ", 2));
  return header;
}

inline std::string tar_header(const TarEntry& entry) {
  char size[16];
  std::snprintf(size, sizeof(size), "%011llo", static_cast<unsigned long long>(entry.content.size()));
  std::string out(512, '\0');
  out.replace(0, entry.name.size(), entry.name);
  out.replace(100, 7, "0000644");
  out.replace(124, 12, entry.size_field.empty() ? std::string(size, 12) : entry.size_field);
  out.replace(136, 11, "00000000000");
  out[156] = entry.type;
  out.replace(157, entry.link.size(), entry.link);
  out.replace(257, entry.magic.size(), entry.magic);
  return with_tar_checksum(out);
}

/// A header with its content, filled up to whole blocks.
inline std::string tar_entry(const TarEntry& entry) {
  std::string out = tar_header(entry) + entry.content;
  out.resize((out.size() + 511) / 512 * 512, '\0');
  return out;
}

inline std::string tar_end() {
  return std::string(1024, '\0');
}

/// A record of a pax header with its length.
inline std::string pax_record(const std::string& text) {
  std::size_t length = text.size() + 3;
  while (std::to_string(length).size() + text.size() + 2 != length) ++length;
  return std::to_string(length) + " " + text + "\n";
}

/// One gzip member; each call of deflate begins a block of its own.
inline std::string gzipped(const std::string& content, std::size_t block = 1 << 14) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(content.size() + content.size() / 100 + 4096 + 16 * (content.size() / block), '\0');
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  for (std::size_t at = 0; at <= content.size(); at += block) {
    const std::size_t part = std::min(block, content.size() - at);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data() + at));
    stream.avail_in = static_cast<uInt>(part);
    deflate(&stream, at + block > content.size() ? Z_FINISH : Z_BLOCK);
  }
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  return out;
}

}  // namespace troupe
