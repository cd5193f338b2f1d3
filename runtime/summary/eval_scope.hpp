// A module in eval mode for a stretch of code that only looks at it.
#pragma once

#include "troupe/modules/support/module_modes.hpp"

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>
#include <torch/utils.h>

#include <cstdint>
#include <vector>

namespace troupe {

/// While it lives, the module and all modules in it are in eval mode and nothing records gradients on this thread;
/// at the end each module has the mode that it had, buffers that forward changed hold what they held, and the CPU's
/// random numbers go on as if nothing had drawn any.
class EvalScope {
 public:
  explicit EvalScope(torch::nn::Module& root);
  ~EvalScope();
  EvalScope(const EvalScope&) = delete;
  EvalScope& operator=(const EvalScope&) = delete;

 private:
  torch::nn::Module& root_;
  const ModuleModes modes_;
  struct KeptBuffer {
    torch::Tensor buffer, content;
    int64_t version;
  };
  std::vector<KeptBuffer> buffers_;
  at::Generator generator_;
  torch::Tensor random_state_;
  torch::NoGradGuard no_grad_;
};

}  // namespace troupe
