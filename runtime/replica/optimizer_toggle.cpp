#include "troupe/runtime/replica/optimizer_toggle.hpp"

#include <string>
#include <unordered_set>

namespace troupe {

void OptimizerToggle::toggle(std::size_t index) {
  if (index >= core_.optimizers.size()) {
    throw UsageError("toggle_optimizer(" + std::to_string(index) + "): configure_optimizers returned " +
                     std::to_string(core_.optimizers.size()));
  }
  if (!toggled_.empty()) untoggle();
  std::unordered_set<const void*> own;
  for (const auto& parameter : sync_.parameters_of(index)) own.insert(parameter.unsafeGetTensorImpl());
  for (std::size_t other = 0; other < core_.optimizers.size(); ++other) {
    if (other == index) continue;
    for (const auto& parameter : sync_.parameters_of(other)) {
      if (!parameter.requires_grad() || own.contains(parameter.unsafeGetTensorImpl())) continue;
      parameter.set_requires_grad(false);
      toggled_.push_back(parameter);
    }
  }
}

void OptimizerToggle::untoggle() {
  for (const auto& parameter : toggled_) parameter.set_requires_grad(true);
  toggled_.clear();
}

}  // namespace troupe
