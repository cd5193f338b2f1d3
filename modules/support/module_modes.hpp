// Training or evaluation: the modes of a module and of all modules in it, to be put back.
#pragma once

#include <torch/nn/module.h>

#include <unordered_map>

namespace troupe {

/// A mode for each module: a frozen batch norm in eval mode has another one than the rest. Modules are told by their
/// addresses and not kept alive; one that is new or gone since keeps what it has.
class ModuleModes {
 public:
  ModuleModes() = default;
  explicit ModuleModes(const torch::nn::Module& root);

  bool empty() const { return modes_.empty(); }
  /// Gives each module of `root` the mode that it had.
  void put_back(torch::nn::Module& root) const;

 private:
  void remember(const torch::nn::Module& module);

  std::unordered_map<const torch::nn::Module*, bool> modes_;
};

}  // namespace troupe
