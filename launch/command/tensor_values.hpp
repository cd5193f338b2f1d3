// Values of tensors of any type that a checkpoint has.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>

namespace troupe::command {

/// How many values are so, and the position of the first among all of them.
struct Counted {
  int64_t count = 0;
  int64_t first = -1;
};

/// Values that are NaN or infinite; none of types that have no such.
Counted not_finite(const torch::Tensor& tensor);

struct ValueDifference {
  Counted differing;
  double largest = 0;  ///< absolute difference; infinite or NaN if such a value differs
};

/// Of two tensors of one type and shape. NaN equals NaN, and 0 equals -0.
ValueDifference difference(const torch::Tensor& a, const torch::Tensor& b);

/// "[1, 2]": the position as an index into each dimension.
std::string index_text(int64_t position, const torch::Tensor& tensor);

/// `tensor` as F64, or as two F64 for complex types.
torch::Tensor as_double(const torch::Tensor& tensor);

}  // namespace troupe::command
