#include "troupe/runtime/data/transforms/resample_rows.hpp"

#include "troupe/runtime/data/transforms/resample_rows_avx2.hpp"

#include <algorithm>

namespace troupe::transforms {

namespace {

uint8_t level_of(int32_t sum, int precision) {
  return static_cast<uint8_t>(std::clamp(sum >> precision, 0, 255));
}

template <int kChannels>
void horizontal_row(const uint8_t* row, const ResampleAxis& axis, int64_t channels, uint8_t* out) {
  if constexpr (kChannels > 0) channels = kChannels;
  const int32_t half = axis.precision > 0 ? 1 << (axis.precision - 1) : 0;
  for (int64_t x = 0; x < axis.count; ++x) {
    const auto at = static_cast<std::size_t>(x);
    const int16_t* const weights = &axis.weights[at * static_cast<std::size_t>(axis.taps)];
    const uint8_t* const pixels = row + axis.start[at] * channels;
    for (int64_t c = 0; c < channels; ++c) {
      int32_t sum = half;
      for (int32_t i = 0; i < axis.used[at]; ++i) sum += weights[i] * pixels[i * channels + c];
      out[x * channels + c] = level_of(sum, axis.precision);
    }
  }
}

void plain_horizontal(const uint8_t* const* rows, const ResampleAxis& axis, int64_t channels, uint8_t* const* out) {
  for (int i = 0; i < kRowBlock; ++i) {
    if (i > 0 && rows[i] == rows[i - 1]) continue;
    switch (channels) {
      case 1: horizontal_row<1>(rows[i], axis, channels, out[i]); break;
      case 3: horizontal_row<3>(rows[i], axis, channels, out[i]); break;
      default: horizontal_row<0>(rows[i], axis, channels, out[i]);
    }
  }
}

void plain_vertical(const uint8_t* const* rows, int64_t count, const int16_t* weights, int precision, uint8_t* out,
                    int64_t bytes) {
  const int32_t half = precision > 0 ? 1 << (precision - 1) : 0;
  for (int64_t x = 0; x < bytes; ++x) {
    int32_t sum = half;
    for (int64_t i = 0; i < count; ++i) sum += weights[i] * rows[i][x];
    out[x] = level_of(sum, precision);
  }
}

void plain_to_levels(const uint8_t* row, int64_t width, int64_t channels, bool flip, uint8_t* planes,
                     int64_t plane_stride) {
  for (int64_t c = 0; c < channels; ++c) {
    uint8_t* const plane = planes + c * plane_stride;
    for (int64_t x = 0; x < width; ++x) plane[flip ? width - 1 - x : x] = row[x * channels + c];
  }
}

void plain_to_floats(const uint8_t* row, int64_t width, int64_t channels, bool flip, const float* scale,
                     const float* shift, float* planes, int64_t plane_stride) {
  for (int64_t c = 0; c < channels; ++c) {
    float* const plane = planes + c * plane_stride;
    for (int64_t x = 0; x < width; ++x) {
      plane[flip ? width - 1 - x : x] = static_cast<float>(row[x * channels + c]) * scale[c] + shift[c];
    }
  }
}

}  // namespace

const RowLoops& plain_row_loops() {
  static const RowLoops loops{plain_horizontal, plain_vertical, plain_to_levels, plain_to_floats};
  return loops;
}

const RowLoops& row_loops() {
  static const RowLoops* const best = [] {
    const RowLoops* avx2 = avx2_row_loops();
    return avx2 ? avx2 : &plain_row_loops();
  }();
  return *best;
}

}  // namespace troupe::transforms
