#include "troupe/launch/command/tensor_values.hpp"

#include "troupe/base/text.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace troupe::command {
namespace {

Counted counted(const torch::Tensor& flags) {
  const auto positions = flags.flatten().nonzero();
  if (positions.size(0) == 0) return {};
  return {positions.size(0), positions[0].item<int64_t>()};
}

/// Whole numbers whose 8 bytes a double may not hold.
bool is_wide_integer(torch::ScalarType type) {
  return type == torch::kInt64 || type == torch::kUInt64;
}

/// Two numbers of an element, the lower half of the byte first
/// (https://www.opencompute.org/documents/ocp-microscaling-formats-mx-v1-0-spec-final-pdf, 5.3.3).
torch::Tensor f4_as_double(const torch::Tensor& tensor) {
  const auto values =
      torch::tensor({0., .5, 1., 1.5, 2., 3., 4., 6., -0., -.5, -1., -1.5, -2., -3., -4., -6.}, torch::kDouble);
  const auto bytes = tensor.view(torch::kByte).to(torch::kLong);
  auto shape = tensor.sizes().vec();
  if (shape.empty()) shape.push_back(1);
  shape.back() *= 2;
  return values.index({torch::stack({bytes.bitwise_and(15), bytes.bitwise_right_shift(4)}, -1)}).reshape(shape);
}

}  // namespace

torch::Tensor as_double(const torch::Tensor& tensor) {
  if (tensor.scalar_type() == torch::kFloat4_e2m1fn_x2) return f4_as_double(tensor);
  if (c10::isBitsType(tensor.scalar_type())) {
    return tensor.view(tensor.element_size() == 1 ? torch::kByte : torch::kShort).to(torch::kDouble);
  }
  return tensor.to(tensor.is_complex() ? torch::kComplexDouble : torch::kDouble);
}

Counted not_finite(const torch::Tensor& tensor) {
  if (!tensor.is_floating_point() && !tensor.is_complex()) return {};
  return counted(as_double(tensor).isfinite().logical_not());
}

ValueDifference difference(const torch::Tensor& a, const torch::Tensor& b) {
  if (a.nbytes() == 0 || std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0) return {};
  const auto x = as_double(a), y = as_double(b);
  auto differs = x.ne(y).logical_and(x.isnan().logical_and(y.isnan()).logical_not());
  if (is_wide_integer(a.scalar_type())) differs = a.view(torch::kLong).ne(b.view(torch::kLong));
  ValueDifference out{counted(differs)};
  if (out.differing.count > 0) out.largest = (x - y).abs().masked_select(differs).max().item<double>();
  return out;
}

std::string index_text(int64_t position, const torch::Tensor& tensor) {
  std::vector<int64_t> index(static_cast<std::size_t>(tensor.dim()));
  for (auto i = tensor.dim() - 1; i >= 0; --i) {
    const bool is_pair = tensor.scalar_type() == torch::kFloat4_e2m1fn_x2 && i == tensor.dim() - 1;
    const auto size = tensor.size(i) * (is_pair ? 2 : 1);
    index[static_cast<std::size_t>(i)] = position % size;
    position /= size;
  }
  return "[" + joined(index) + "]";
}

}  // namespace troupe::command
