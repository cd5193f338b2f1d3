// The gradients of an optimizer: all of them, or none.
#pragma once

#include <torch/optim/optimizer.h>

#include <vector>

namespace troupe {

/// The gradients of its parameters, those that are there.
inline std::vector<torch::Tensor> gradients_of(torch::optim::Optimizer& optimizer) {
  std::vector<torch::Tensor> gradients;
  for (const auto& group : optimizer.param_groups()) {
    for (const auto& parameter : group.params()) {
      if (parameter.grad().defined()) gradients.push_back(parameter.grad());
    }
  }
  return gradients;
}

/// Sets the gradients of all its parameters to none, as optimizer.zero_grad(true) does. LibTorch's own detaches them in
/// place first, which gradients that are views into a reducer's buckets refuse.
inline void drop_gradients(torch::optim::Optimizer& optimizer) {
  for (auto& group : optimizer.param_groups()) {
    for (auto& parameter : group.params()) parameter.mutable_grad().reset();
  }
}

}  // namespace troupe
