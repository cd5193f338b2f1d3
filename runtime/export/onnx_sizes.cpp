#include "troupe/runtime/export/onnx_sizes.hpp"

#include <torch/types.h>
#include <torch/utils.h>

namespace troupe {

namespace {

OnnxInt computed_size(OnnxBuilder& b, const char* op_type, const OnnxInt& left, const OnnxInt& right) {
  return {0, b.add(op_type, {b.ints({left}), b.ints({right})})};
}

}  // namespace

OnnxInt sum_of(OnnxBuilder& b, const OnnxInt& left, const OnnxInt& right) {
  if (left.is_fixed() && right.is_fixed()) return {left.value + right.value, ""};
  if (right.is_fixed() && right.value == 0) return left;
  return computed_size(b, "Add", left, right);
}

OnnxInt product_of(OnnxBuilder& b, const OnnxInt& left, const OnnxInt& right) {
  if (left.is_fixed() && right.is_fixed()) return {left.value * right.value, ""};
  if (left.is_fixed() && left.value == 1) return right;
  if (right.is_fixed() && right.value == 1) return left;
  return computed_size(b, "Mul", left, right);
}

OnnxInt quotient_of(OnnxBuilder& b, const OnnxInt& left, const OnnxInt& right) {
  if (right.is_fixed() && right.value == 1) return left;
  if (left.is_fixed() && right.is_fixed()) return {left.value / right.value, ""};
  return computed_size(b, "Div", left, right);
}

OnnxTensor flattened(OnnxBuilder& b, const OnnxTensor& x) {
  int64_t count = 1;
  for (const auto size : x.sizes) count = count < 0 || size < 0 ? -1 : count * size;
  return {b.reshape(x.name, std::vector<int64_t>{-1}), x.dtype, true, {count}};
}

std::string repeated(OnnxBuilder& b, const OnnxTensor& x, int64_t axis, const OnnxInt& count) {
  std::vector<OnnxInt> times(x.sizes.size() + 1, OnnxInt{1, ""});
  times[static_cast<std::size_t>(axis) + 1] = count;
  auto sizes = b.sizes_of(x);
  auto& size = sizes[static_cast<std::size_t>(axis)];
  size = product_of(b, size, count);
  return b.reshape(b.add("Expand", {b.unsqueeze(x.name, {axis + 1}), b.ints(times)}), sizes);
}

std::string steps_of(OnnxBuilder& b, const OnnxInt& count, int64_t step) {
  if (count.is_fixed()) return b.constant(torch::arange(count.value, torch::kLong) * step);
  const auto end = b.scalar(product_of(b, count, {step, ""}), torch::kInt64);
  return b.add("Range", {b.scalar(0, torch::kInt64), end, b.scalar(step, torch::kInt64)});
}

std::string windows_of(OnnxBuilder& b, const OnnxInt& count, int64_t step, int64_t size, int64_t dilation) {
  const auto begins = b.unsqueeze(steps_of(b, count, step), {1});
  return b.add("Add", {begins, b.constant(torch::arange(size, torch::kLong) * dilation)});
}

}  // namespace troupe
