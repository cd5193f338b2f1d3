// The type in which numbers of 16 bits are added up.
#pragma once

#include <torch/types.h>

namespace troupe {

/// float32 for a tensor of float16 or bfloat16, which lose what is small beside their sums; else the tensor's own type.
inline torch::ScalarType wide_type(const torch::Tensor& tensor) {
  const auto type = tensor.scalar_type();
  return type == torch::kHalf || type == torch::kBFloat16 ? torch::kFloat32 : type;
}

}  // namespace troupe
