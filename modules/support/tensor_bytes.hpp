// The memory that a tensor takes.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <initializer_list>

namespace troupe {

/// Bytes of the tensor's elements; of a sparse one (COO, CSR, CSC, BSR, BSC) those of its indices and values, for which
/// LibTorch gives the dense tensor's size or an error; of an undefined one 0.
inline int64_t tensor_bytes(const torch::Tensor& tensor) {
  if (!tensor.defined()) return 0;
  const auto sum = [](std::initializer_list<torch::Tensor> parts) {
    int64_t bytes = 0;
    for (const auto& part : parts) bytes += static_cast<int64_t>(part.nbytes());
    return bytes;
  };
  switch (tensor.layout()) {
    case torch::kSparse: return sum({tensor._indices(), tensor._values()});
    case torch::kSparseCsr:
    case torch::kSparseBsr: return sum({tensor.crow_indices(), tensor.col_indices(), tensor.values()});
    case torch::kSparseCsc:
    case torch::kSparseBsc: return sum({tensor.ccol_indices(), tensor.row_indices(), tensor.values()});
    default: return static_cast<int64_t>(tensor.nbytes());
  }
}

}  // namespace troupe
