// Tensors that are equal to the bit.
#pragma once

#include <torch/types.h>

#include <cstring>

namespace troupe {

/// Of one type and shape, with the same bytes in order: NaNs are equal to NaNs of the same bits, 0 and -0 are not. Two
/// undefined tensors are.
inline bool has_same_bits(const torch::Tensor& a, const torch::Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  const auto x = a.detach().contiguous(), y = b.detach().contiguous();
  return x.nbytes() == 0 || std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

}  // namespace troupe
