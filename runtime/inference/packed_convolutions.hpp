// Convolutions one after the other, whose weights are laid out for this processor once.
#pragma once

#include "troupe/runtime/inference/vectors.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace troupe::inference {

/// A convolution with what follows on it. Sizes are {height, width}.
struct Convolution {
  int64_t in_channels = 0, out_channels = 0;
  std::array<int64_t, 2> in = {}, kernel = {}, padding = {}, dilation = {1, 1};
  bool has_relu = false;  ///< negative numbers become zero, NaN stays
  bool has_pool = false;  ///< then the maximum of each two by two, as LibTorch's max_pool2d(2)

  std::array<int64_t, 2> convolved() const {
    return {in[0] + 2 * padding[0] - dilation[0] * (kernel[0] - 1),
            in[1] + 2 * padding[1] - dilation[1] * (kernel[1] - 1)};
  }
  std::array<int64_t, 2> out() const {
    const auto [height, width] = convolved();
    return has_pool ? std::array{height / 2, width / 2} : std::array{height, width};
  }
  int64_t in_numbers() const { return in_channels * in[0] * in[1]; }
  int64_t out_numbers() const { return out_channels * out()[0] * out()[1]; }
  /// Products for one sample.
  int64_t products() const {
    return out_channels * in_channels * kernel[0] * kernel[1] * convolved()[0] * convolved()[1];
  }
};

/// A chain of convolutions of stride 1 and one group, sample by sample, so that what is in between stays in the cache.
/// Each sum is one of LibTorch's, rounded in another order. Objects do not change once they are made: any number of
/// threads may run one, each with scratch memory of its own.
class PackedConvolutions {
 public:
  /// Appends one that takes what the one before gives. `weight` is [out, in, height, width] in plain memory; `bias` has
  /// `out` numbers or is null.
  void append(const Convolution& convolution, const float* weight, const float* bias);

  /// Memory that run() needs, as zeros at first; nobody else writes to it.
  AlignedFloats scratch() const;
  /// `samples` samples at `in` and `out`, as planes of rows without gaps.
  void run(const float* in, float* out, int64_t samples, const AlignedFloats& scratch) const;

 private:
  struct Stage {
    Convolution shape;
    int64_t block = 0;               // channels that are computed at once
    AlignedFloats weights;           // block after block: for each offset the weights of its channels
    AlignedFloats bias;              // zeros to the end of the last block
    std::vector<int64_t> offsets;    // into the input with its padding, of each number that is added up
    int64_t row = 0, plane = 0;      // of that input
    int64_t begin = 0, numbers = 0;  // of that input in the scratch memory
  };
  /// Where a stage puts its results.
  struct Target {
    float* at = nullptr;
    int64_t row = 0, plane = 0;
  };

  void pad(const Stage& stage, const float* in, float* padded) const;
  void run_stage(const Stage& stage, const float* padded, const Target& target, float* rows) const;

  int width_ = 0;  // floats of a vector
  std::vector<Stage> stages_;
  int64_t rows_numbers_ = 0;  // of results on their way to the target
};

}  // namespace troupe::inference
