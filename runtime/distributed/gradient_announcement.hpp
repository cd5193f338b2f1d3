// Gradients that something other than autograd has computed, for those who wait for autograd's.
#pragma once

#include <torch/types.h>

#include <functional>

namespace torch::autograd {
struct Node;
}

namespace troupe {

/// Runs `compute` where LibTorch's engine would run a backward pass, on this thread: what may only be called there, as
/// c10d::Reducer's hooks, may be called in it. What it throws passes through.
void run_as_backward(const std::function<void()>& compute);

/// The gradient of `parameter` is final: calls the hooks that wait for autograd to have added to it. Within
/// run_as_backward().
void announce_gradient(const torch::Tensor& parameter);

/// From now on gradients that come to a parameter's `accumulator` (AccumulateGrad) are dense before they are added:
/// those of an embedding with `sparse` are not, and have no place in a bucket.
void densify_gradients(torch::autograd::Node& accumulator);

}  // namespace troupe
