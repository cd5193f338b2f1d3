// Fixed memory for gradients.
#pragma once

#include <torch/types.h>

#include <unordered_map>
#include <vector>

namespace troupe {

/// A place for the gradient of each parameter, laid out as the parameter is; those of one optimizer lie side by side,
/// in the order of its groups, so that an optimizer may step them at once. Used by the worker's thread.
class GradientHomes {
 public:
  /// Sets memory aside for those that have none yet. One that a kernel could not go through at once (with gaps, or
  /// sparse) gets none.
  void add(const std::vector<torch::Tensor>& parameters);
  /// Undefined for a parameter without one.
  torch::Tensor of(const torch::Tensor& parameter) const;
  void clear() { homes_.clear(); }
  bool empty() const { return homes_.empty(); }

 private:
  std::unordered_map<const void*, torch::Tensor> homes_;  // by parameter
};

/// Memory for several tensors in one piece: `tensors` of one type, each at a multiple of 64 bytes and with its strides.
/// What is between them is 0.
std::vector<torch::Tensor> side_by_side(const std::vector<torch::Tensor>& tensors);

}  // namespace troupe
