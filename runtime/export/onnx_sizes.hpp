// Arithmetic on sizes, which are numbers when the model is exported or tensors of the graph.
#pragma once

#include "troupe/runtime/export/onnx_builder.hpp"

#include <string>
#include <vector>

namespace troupe {

OnnxInt sum_of(OnnxBuilder& b, const OnnxInt& left, const OnnxInt& right);
OnnxInt product_of(OnnxBuilder& b, const OnnxInt& left, const OnnxInt& right);
/// left / right, rounded down; neither may be negative.
OnnxInt quotient_of(OnnxBuilder& b, const OnnxInt& left, const OnnxInt& right);

/// x as a vector.
OnnxTensor flattened(OnnxBuilder& b, const OnnxTensor& x);
/// Each element `count` times along the axis, one after the other.
std::string repeated(OnnxBuilder& b, const OnnxTensor& x, int64_t axis, const OnnxInt& count);

/// 0, step, 2 * step and so on: int64 [count].
std::string steps_of(OnnxBuilder& b, const OnnxInt& count, int64_t step = 1);
/// For each of `count` windows, `step` apart, the places of its elements: int64 [count, size].
std::string windows_of(OnnxBuilder& b, const OnnxInt& count, int64_t step, int64_t size, int64_t dilation = 1);

}  // namespace troupe
