// The weights with which one dimension of an image is resampled: the antialiased bilinear filter in fixed point, as
// Pillow and LibTorch's uint8 kernels have it, so that sums of them are the same integers.
#pragma once

#include "troupe/runtime/data/transforms/fused.hpp"

#include <cstdint>
#include <vector>

namespace troupe::transforms {

/// Outputs `first` to `end` of the `resized` ones that a stretch of a source becomes. An object is reused from image to
/// image, so that its memory is asked for once.
struct ResampleAxis {
  /// `begin` and `size`: the stretch, in the source's pixels. `limit`: how many pixels the source has. Throws
  /// UsageError if an output needs pixels that the source does not have.
  void prepare(double begin, double size, int64_t resized, int64_t first, int64_t end, int64_t limit);

  /// The pixels of the source that outputs `first` to `end` depend on; none lies outside of the stretch.
  static PixelRange needed(double begin, double size, int64_t resized, int64_t first, int64_t end);

  /// Whether output i is source pixel shift + i: nothing is to be computed.
  bool is_identity = false;
  int64_t shift = 0;

  /// Outputs.
  int64_t count = 0;
  /// Source pixels of each output, filled up to a multiple of 4 with weights of 0.
  int64_t taps = 0;
  /// Weights are 2^precision times as large as their share.
  int precision = 0;
  std::vector<int64_t> start;    ///< first source pixel of each output
  std::vector<int32_t> used;     ///< how many pixels of it count
  std::vector<int16_t> weights;  ///< [count, taps]

  /// The source pixels that all outputs together depend on.
  int64_t lowest() const { return is_identity ? shift : start.front(); }
  int64_t highest() const { return is_identity ? shift + count : start.back() + used.back(); }

 private:
  struct Stretch;
  /// Fills `start`, `used` and `shares_`; returns the largest share of a pixel.
  double find_shares(const Stretch& stretch, int64_t resized, int64_t first, int64_t end, int64_t limit);

  std::vector<double> shares_;
};

}  // namespace troupe::transforms
