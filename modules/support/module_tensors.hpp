// A module's parameters and buffers, each once.
#pragma once

#include <torch/nn/module.h>

#include <string>
#include <vector>

namespace troupe {

/// A parameter or a buffer of a module.
struct ModuleTensor {
  torch::Tensor tensor;
  /// All that it is registered as, at least one, in the module's order: several if layers share it, by tie_weights
  /// or because one layer is registered twice.
  std::vector<std::string> names;
  /// What it is known by.
  const std::string& name() const { return names.front(); }
};

/// LibTorch's parameters(), buffers() and their named forms list a tensor once per name. Whatever is done to a tensor,
/// and not to a name, wants it once: an optimizer would step it several times, a swap would undo itself. In the order
/// of their first names; undefined tensors are left out. Called by the thread that owns the module.
std::vector<ModuleTensor> distinct_parameters(const torch::nn::Module& module, bool recurse = true);
std::vector<ModuleTensor> distinct_buffers(const torch::nn::Module& module, bool recurse = true);

}  // namespace troupe
