// In which type weights are stored if the user asks for one.
#pragma once

#include "troupe/base/failure.hpp"

#include <torch/types.h>

#include <optional>
#include <string>

namespace troupe {

/// F64, F32, F16 and BF16: numbers that can be stored in another one of these types and still mean the same.
inline bool is_plain_float(torch::ScalarType type) {
  return type == torch::kFloat64 || type == torch::kFloat32 || type == torch::kFloat16 || type == torch::kBFloat16;
}

/// What a tensor of type `own` is stored in if `wanted` is asked for: itself unless both are plain floats.
inline torch::ScalarType dtype_to_store(torch::ScalarType own, std::optional<torch::ScalarType> wanted) {
  return wanted && is_plain_float(own) ? *wanted : own;
}

/// Throws UsageError if another type is asked for.
inline void check_dtype_to_store(std::optional<torch::ScalarType> wanted) {
  if (!wanted || is_plain_float(*wanted)) return;
  throw UsageError(std::string("dtype is ") + c10::toString(*wanted) + "; weights are stored as F64, F32, F16 or BF16");
}

}  // namespace troupe
