#include "troupe/modules/optim/kernel_optimizer.hpp"

#include "troupe/modules/number_text.hpp"

#include <torch/types.h>

#include <set>

namespace troupe::optim {

void require_option(bool fits, const char* optimizer, const char* option, double value, const char* range) {
  if (fits) return;
  throw UsageError(std::string(optimizer) + ": " + option + " = " + double_to_text(value) + " is not " + range);
}

void refuse_twice(const char* optimizer, const std::vector<torch::optim::OptimizerParamGroup>& groups,
                  const Parameters& parameters) {
  std::set<const void*> seen;
  for (const auto& group : groups) {
    for (const auto& parameter : group.params()) seen.insert(parameter.unsafeGetTensorImpl());
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (seen.insert(parameters[i].unsafeGetTensorImpl()).second) continue;
    throw UsageError(std::string(optimizer) + ": parameter " + std::to_string(i) + " of group " +
                     std::to_string(groups.size()) + " is there already; an optimizer takes each once");
  }
}

torch::Tensor zero_state(const torch::Tensor& parameter) {
  return torch::zeros_like(parameter, torch::MemoryFormat::Preserve);
}

torch::Tensor step_state(const torch::Tensor& parameter) {
  return torch::zeros({}, parameter.options().dtype(torch::kFloat32).requires_grad(false));
}

void count_steps(Parameters& steps) {
  for (auto& step : steps) step.add_(1);
}

}  // namespace troupe::optim
