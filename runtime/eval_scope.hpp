// A module in eval mode for a stretch of code that only looks at it.
#pragma once

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>
#include <torch/utils.h>

#include <cstddef>
#include <vector>

namespace troupe {

/// While it lives, the module and all modules in it are in eval mode and nothing records gradients on this thread;
/// at the end each module has the mode that it had, and the CPU's random numbers go on as if nothing had drawn any.
class EvalScope {
 public:
  explicit EvalScope(torch::nn::Module& root);
  ~EvalScope();
  EvalScope(const EvalScope&) = delete;
  EvalScope& operator=(const EvalScope&) = delete;

 private:
  void remember(torch::nn::Module& module);
  void restore(torch::nn::Module& module, std::size_t& next);

  torch::nn::Module& root_;
  at::Generator generator_;
  torch::Tensor random_state_;
  std::vector<bool> modes_;
  torch::NoGradGuard no_grad_;
};

}  // namespace troupe
