#include "troupe/modules/options/precision.hpp"

namespace troupe {

torch::ScalarType parameter_type(Precision precision) {
  switch (precision) {
    case Precision::float64: return torch::kFloat64;
    case Precision::float16_true: return torch::kFloat16;
    case Precision::bfloat16_true: return torch::kBFloat16;
    default: return torch::kFloat32;
  }
}

int bits_of(Precision precision) {
  if (precision == Precision::float64) return 64;
  return precision == Precision::float32 ? 32 : 16;
}

}  // namespace troupe
