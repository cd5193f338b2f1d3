// Gradients bounded before a step.
#pragma once

#include "troupe/modules/options/trainer_choices.hpp"

#include <torch/optim/optimizer.h>
#include <torch/types.h>

#include <functional>
#include <optional>

namespace troupe {

/// Bounds the gradients of an optimizer in place, and returns their 2-norm as it was before, without dimensions, on
/// `device`; undefined with GradientClipAlgorithm::value and if nothing is bounded (`bound` is none or 0). As
/// torch.nn.utils.clip_grad_norm_ and clip_grad_value_ to the bit
/// (https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html), without reading the norm back
/// to the host. `whole_norm`: makes the norm of all gradients out of those that the optimizer holds here; may be empty.
/// Throws UsageError for a bound that is negative or NaN.
torch::Tensor clip_gradients(torch::optim::Optimizer& optimizer, std::optional<double> bound,
                             GradientClipAlgorithm algorithm, torch::Device device,
                             const std::function<torch::Tensor(torch::Tensor norm)>& whole_norm);

}  // namespace troupe
