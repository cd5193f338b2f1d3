#include "troupe/modules/optim/kernel_optimizer.hpp"

#include "troupe/modules/number_text.hpp"

#include <torch/types.h>

namespace troupe::optim {

void require_option(bool fits, const char* optimizer, const char* option, double value, const char* range) {
  if (fits) return;
  throw UsageError(std::string(optimizer) + ": " + option + " = " + double_to_text(value) + " is not " + range);
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
