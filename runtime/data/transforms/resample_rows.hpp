// The inner loops of FusedTransform: rows of interleaved uint8 pixels are resampled and written as planes. Each has one
// version in plain C++ and one with AVX2 instructions, which a CPU that has them uses. Both give the same bits.
#pragma once

#include "troupe/runtime/data/transforms/resample_axis.hpp"

#include <cstdint>

namespace troupe::transforms {

/// How many rows are resampled at once.
constexpr int kRowBlock = 4;
/// Bytes that may be read after a row's last pixel that counts, and written after its last result.
constexpr int64_t kRowSlack = 32;

struct RowLoops {
  /// Resamples kRowBlock rows along x: axis.count pixels of `channels` each. Row pointers may repeat. Each row must be
  /// readable up to (axis.start + axis.taps) * channels + kRowSlack bytes for all outputs.
  void (*horizontal)(const uint8_t* const* rows, const ResampleAxis& axis, int64_t channels, uint8_t* const* out);
  /// out = sum over i of rows[i] * weights[i], in fixed point, `bytes` of them.
  void (*vertical)(const uint8_t* const* rows, int64_t count, const int16_t* weights, int precision, uint8_t* out,
                   int64_t bytes);
  /// Writes `width` interleaved pixels into one row of each plane, mirrored if `flip`: as they are ...
  void (*to_levels)(const uint8_t* row, int64_t width, int64_t channels, bool flip, uint8_t* planes,
                    int64_t plane_stride);
  /// ... or as level * scale[c] + shift[c].
  void (*to_floats)(const uint8_t* row, int64_t width, int64_t channels, bool flip, const float* scale,
                    const float* shift, float* planes, int64_t plane_stride);
};

/// What runs on every CPU.
const RowLoops& plain_row_loops();
/// The fastest that this CPU runs.
const RowLoops& row_loops();

}  // namespace troupe::transforms
