// The gradients of an optimizer: all of them, or none.
#pragma once

#include <torch/optim/optimizer.h>

#include <utility>
#include <vector>

namespace troupe {

/// The elements of the parameter's gradient, to be read and changed in place; undefined if it has none. Those of a
/// sparse gradient are the values of its rows, each of which is there once afterwards.
inline torch::Tensor gradient_values(const torch::Tensor& parameter) {
  if (!parameter.grad().defined() || !parameter.grad().is_sparse()) return parameter.grad();
  parameter.mutable_grad() = parameter.grad().coalesce();
  return parameter.grad()._values();
}

/// The elements of the gradients of its parameters, of those that have one.
inline std::vector<torch::Tensor> gradients_of(torch::optim::Optimizer& optimizer) {
  std::vector<torch::Tensor> gradients;
  for (const auto& group : optimizer.param_groups()) {
    for (const auto& parameter : group.params()) {
      if (auto values = gradient_values(parameter); values.defined()) gradients.push_back(std::move(values));
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
