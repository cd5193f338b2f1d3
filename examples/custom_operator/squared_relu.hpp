// An operator of one's own: max(x, 0)^2, the activation of Primer (So et al. 2021, https://arxiv.org/abs/2109.08668).
#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

/// `x` may have any shape and strides and a floating-point type; the result has the same. One pass over the memory
/// where LibTorch's operators take two, and one for the gradient where they take four. CPU only. Any thread may call
/// it.
torch::Tensor squared_relu(const torch::Tensor& x);

/// The same numbers, of LibTorch's operators: for devices and files that do not know the operator.
torch::Tensor composite_squared_relu(const torch::Tensor& x);

struct SquaredReLUImpl : torch::nn::Cloneable<SquaredReLUImpl> {
  explicit SquaredReLUImpl(bool is_composite = false) : is_composite(is_composite) {}
  void reset() override {}
  torch::Tensor forward(const torch::Tensor& x) { return is_composite ? composite_squared_relu(x) : squared_relu(x); }

  bool is_composite;
};
TORCH_MODULE(SquaredReLU);
