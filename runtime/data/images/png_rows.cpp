#include "troupe/runtime/data/images/png_rows.hpp"

#include "troupe/runtime/data/files/deflate.hpp"

#include <algorithm>
#include <cstdlib>

namespace troupe {

namespace {

/// The one of left, above and above left that is nearest to left + above - above left.
uint8_t paeth_of(int left, int above, int corner) {
  const int to_left = std::abs(above - corner), to_above = std::abs(left - corner);
  const int to_corner = std::abs(left + above - 2 * corner);
  const int other = to_above <= to_corner ? above : corner;
  return static_cast<uint8_t>(to_left <= to_above && to_left <= to_corner ? left : other);
}

/// Undoes the filters of RFC 2083, section 6, in place. `kStep` bytes a pixel.
template <std::size_t kStep>
bool unfilter_png_row(uint8_t filter, uint8_t* row, const uint8_t* above, std::size_t bytes) {
  switch (filter) {
    case 0: return true;
    case 1:
      for (std::size_t i = kStep; i < bytes; ++i) row[i] = static_cast<uint8_t>(row[i] + row[i - kStep]);
      return true;
    case 2:
      for (std::size_t i = 0; i < bytes; ++i) row[i] = static_cast<uint8_t>(row[i] + above[i]);
      return true;
    case 3:
      for (std::size_t i = 0; i < kStep; ++i) row[i] = static_cast<uint8_t>(row[i] + above[i] / 2);
      for (std::size_t i = kStep; i < bytes; ++i) {
        row[i] = static_cast<uint8_t>(row[i] + (row[i - kStep] + above[i]) / 2);
      }
      return true;
    case 4: {
      for (std::size_t i = 0; i < kStep; ++i) row[i] = static_cast<uint8_t>(row[i] + above[i]);
      for (std::size_t i = kStep; i < bytes; i += kStep) {
        for (std::size_t c = i; c < i + kStep; ++c) {
          row[c] = static_cast<uint8_t>(row[c] + paeth_of(row[c - kStep], above[c], above[c - kStep]));
        }
      }
      return true;
    }
    default: return false;
  }
}

bool unfilter_png_row(std::size_t pixel_bytes, uint8_t* row, const uint8_t* above, std::size_t bytes) {
  const uint8_t filter = row[-1];
  switch (pixel_bytes) {
    case 1: return unfilter_png_row<1>(filter, row, above, bytes);
    case 2: return unfilter_png_row<2>(filter, row, above, bytes);
    case 3: return unfilter_png_row<3>(filter, row, above, bytes);
    default: return unfilter_png_row<4>(filter, row, above, bytes);
  }
}

}  // namespace

struct PngRows::Inflater {
  Decompressor decompressor = make_decompressor();
  PixelBuffer joined;
};

PngRows::PngRows() = default;
PngRows::~PngRows() = default;

std::string PngRows::inflate_all(const std::vector<std::span<const uint8_t>>& chunks, std::size_t bytes) {
  if (!inflater_) inflater_ = std::make_unique<Inflater>();
  std::span<const uint8_t> data;
  if (chunks.size() == 1) data = chunks.front();
  if (chunks.size() > 1) {
    std::size_t total = 0;
    for (const auto& chunk : chunks) total += chunk.size();
    uint8_t* to = inflater_->joined.of_size(total);
    data = {to, total};
    for (const auto& chunk : chunks) to = std::ranges::copy(chunk, to).out;
  }
  // Some encoders write a little more than the rows, which every reader passes over; libdeflate wants room for all.
  // More than that would make memory grow with what the data claims.
  for (const std::size_t room : {bytes, 2 * bytes + (std::size_t{1} << 16)}) {
    std::size_t got = 0;
    uint8_t* const out = raw_.of_size(room);
    const auto result =
        libdeflate_zlib_decompress(inflater_->decompressor.get(), data.data(), data.size(), out, room, &got);
    if (result == LIBDEFLATE_BAD_DATA) return "its compressed data is damaged";
    if (result == LIBDEFLATE_SUCCESS && got >= bytes) return "";
    if (result == LIBDEFLATE_SUCCESS) {
      return "its data ends after " + std::to_string(got) + " of " + std::to_string(bytes) + " bytes";
    }
  }
  return "its data goes on far behind its last row";
}

std::string PngRows::read(const std::vector<std::span<const uint8_t>>& chunks, int64_t height, int64_t rows,
                          std::size_t row_bytes, std::size_t pixel_bytes) {
  stride_ = row_bytes + 1;
  auto wrong = inflate_all(chunks, stride_ * static_cast<std::size_t>(height));
  if (!wrong.empty()) return wrong;
  if (blank_.size() < row_bytes) blank_.assign(row_bytes, 0);
  const uint8_t* above = blank_.data();
  for (int64_t y = 0; y < rows; ++y) {
    uint8_t* row = raw_.data() + static_cast<std::size_t>(y) * stride_ + 1;
    if (!unfilter_png_row(pixel_bytes, row, above, row_bytes)) {
      return "row " + std::to_string(y) + " has filter " + std::to_string(row[-1]) + ", and filters are 0 to 4";
    }
    above = row;
  }
  return "";
}

}  // namespace troupe
