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

OnnxInt product_of(OnnxBuilder& b, const std::vector<OnnxInt>& factors) {
  OnnxInt product{1, ""};
  for (const auto& factor : factors) product = product_of(b, product, factor);
  return product;
}

OnnxInt quotient_of(OnnxBuilder& b, const OnnxInt& left, const OnnxInt& right) {
  if (right.is_fixed() && right.value == 1) return left;
  if (left.is_fixed() && right.is_fixed()) return {left.value / right.value, ""};
  return computed_size(b, "Div", left, right);
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
