#include "troupe/modules/support/module_modes.hpp"

namespace troupe {

ModuleModes::ModuleModes(const torch::nn::Module& root) {
  remember(root);
}

void ModuleModes::remember(const torch::nn::Module& module) {
  if (!modes_.emplace(&module, module.is_training()).second) return;
  for (const auto& child : module.children()) remember(*child);
}

// train() reaches all modules below, so parents come first, and a module with two parents is set under both.
void ModuleModes::put_back(torch::nn::Module& root) const {
  const auto mode = modes_.find(&root);
  if (mode != modes_.end() && root.is_training() != mode->second) root.train(mode->second);
  for (const auto& child : root.children()) put_back(*child);
}

}  // namespace troupe
