#include "troupe/runtime/weights/torch_types.hpp"

#include <algorithm>

namespace troupe {

namespace {

constexpr TorchType kTorchTypes[] = {
    {"uint8", torch::ScalarType::Byte, "ByteStorage"},
    {"int8", torch::ScalarType::Char, "CharStorage"},
    {"int16", torch::ScalarType::Short, "ShortStorage"},
    {"int32", torch::ScalarType::Int, "IntStorage"},
    {"int64", torch::ScalarType::Long, "LongStorage"},
    {"float16", torch::ScalarType::Half, "HalfStorage"},
    {"float32", torch::ScalarType::Float, "FloatStorage"},
    {"float64", torch::ScalarType::Double, "DoubleStorage"},
    {"complex32", torch::ScalarType::ComplexHalf},
    {"complex64", torch::ScalarType::ComplexFloat, "ComplexFloatStorage"},
    {"complex128", torch::ScalarType::ComplexDouble, "ComplexDoubleStorage"},
    {"bool", torch::ScalarType::Bool, "BoolStorage"},
    {"bfloat16", torch::ScalarType::BFloat16, "BFloat16Storage"},
    {"bits1x8", torch::ScalarType::Bits1x8},
    {"bits2x4", torch::ScalarType::Bits2x4},
    {"bits4x2", torch::ScalarType::Bits4x2},
    {"bits8", torch::ScalarType::Bits8},
    {"bits16", torch::ScalarType::Bits16},
    {"float8_e5m2", torch::ScalarType::Float8_e5m2},
    {"float8_e4m3fn", torch::ScalarType::Float8_e4m3fn},
    {"float8_e5m2fnuz", torch::ScalarType::Float8_e5m2fnuz},
    {"float8_e4m3fnuz", torch::ScalarType::Float8_e4m3fnuz},
    {"float8_e8m0fnu", torch::ScalarType::Float8_e8m0fnu},
    {"float4_e2m1fn_x2", torch::ScalarType::Float4_e2m1fn_x2},
    {"uint16", torch::ScalarType::UInt16},
    {"uint32", torch::ScalarType::UInt32},
    {"uint64", torch::ScalarType::UInt64},
    {"uint1", torch::ScalarType::UInt1, "", false},
    {"uint2", torch::ScalarType::UInt2, "", false},
    {"uint3", torch::ScalarType::UInt3, "", false},
    {"uint4", torch::ScalarType::UInt4, "", false},
    {"uint5", torch::ScalarType::UInt5, "", false},
    {"uint6", torch::ScalarType::UInt6, "", false},
    {"uint7", torch::ScalarType::UInt7, "", false},
    {"int1", torch::ScalarType::Int1, "", false},
    {"int2", torch::ScalarType::Int2, "", false},
    {"int3", torch::ScalarType::Int3, "", false},
    {"int4", torch::ScalarType::Int4, "", false},
    {"int5", torch::ScalarType::Int5, "", false},
    {"int6", torch::ScalarType::Int6, "", false},
    {"int7", torch::ScalarType::Int7, "", false},
};

}  // namespace

std::span<const TorchType> torch_types() {
  return kTorchTypes;
}

const TorchType* torch_type(torch::ScalarType dtype) {
  const auto* const found = std::ranges::find(kTorchTypes, dtype, &TorchType::dtype);
  return found == std::end(kTorchTypes) ? nullptr : found;
}

}  // namespace troupe
