// A linear layer whose weights are laid out for this processor once.
#pragma once

#include "troupe/runtime/inference/vectors.hpp"

#include <cstddef>
#include <cstdint>

namespace troupe::inference {

/// rows x weight^T + bias, with the negative numbers of the result set to zero if asked for (NaN stays). Each sum is
/// one of LibTorch's, rounded in another order. Objects do not change: any number of threads may use one.
class PackedLinear {
 public:
  /// `weight` is [outputs, inputs] in plain memory; `bias` has `outputs` numbers or is null.
  PackedLinear(const float* weight, const float* bias, int64_t outputs, int64_t inputs);

  /// `rows` rows of [inputs] at `in`, of [outputs] at `out`, without gaps.
  void run(const float* in, float* out, int64_t rows, bool has_relu) const;

 private:
  int width_ = 0;      // floats of a vector
  int64_t panel_ = 0;  // outputs that are computed at once
  int64_t outputs_ = 0, inputs_ = 0;
  AlignedFloats weights_;  // panel after panel: for each input the weights of its outputs
  AlignedFloats bias_;     // zeros to the end of the last panel
};

}  // namespace troupe::inference
