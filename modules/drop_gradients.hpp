// Gradients set to none.
#pragma once

#include <torch/optim/optimizer.h>

namespace troupe {

/// Sets the gradients of all its parameters to none, as optimizer.zero_grad(true) does. LibTorch's own detaches them in
/// place first, which gradients that are views into a reducer's buckets refuse.
inline void drop_gradients(torch::optim::Optimizer& optimizer) {
  for (auto& group : optimizer.param_groups()) {
    for (auto& parameter : group.params()) parameter.mutable_grad().reset();
  }
}

}  // namespace troupe
