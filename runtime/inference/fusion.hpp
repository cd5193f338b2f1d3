// Operators of a recording that one kernel with packed weights computes together.
#pragma once

#include "troupe/runtime/capture/program.hpp"
#include "troupe/runtime/capture/recording.hpp"

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace troupe::inference {

/// Weights that were laid out once, for all programs that use them, which own them. Changed by one thread at a time.
using PackedWeights = std::map<std::string, std::weak_ptr<const void>>;

struct Fused {
  capture::Recording recording;
  std::unordered_map<std::size_t, capture::KernelMaker> kernels;  ///< for ProgramRequest
};

/// Puts together, in float32 and plain memory:
/// - a product with a parameter, its bias, and ReLU,
/// - convolutions of stride 1 and one group on small images, with batch norm in eval mode, ReLU and pooling of two by
///   two, one after the other.
/// `inputs` memories of the recording come first and are the input's; all other given memory never changes. `results`
/// are read afterwards. Where LibTorch has several threads for much work, its own kernels stay.
Fused fuse(const capture::Recording& recording, std::size_t inputs, const std::vector<capture::View>& results,
           PackedWeights& weights);

}  // namespace troupe::inference
