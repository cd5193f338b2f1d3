// A part of a batch's tensor along one dimension.
#pragma once

#include <torch/types.h>

#include <cstdint>

namespace troupe {

/// What lies from `begin` to before `end` along `dim`: a view, or a copy of a sparse tensor, which has no views, in the
/// same layout.
inline torch::Tensor tensor_part(const torch::Tensor& tensor, int64_t dim, int64_t begin, int64_t end) {
  const auto layout = tensor.layout();
  if (layout == torch::kSparse) return tensor.narrow_copy(dim, begin, end - begin);
  if (layout == torch::kSparseCsr || layout == torch::kSparseCsc) {
    return tensor.to_sparse().narrow_copy(dim, begin, end - begin).to_sparse(layout);
  }
  return tensor.slice(dim, begin, end);
}

}  // namespace troupe
