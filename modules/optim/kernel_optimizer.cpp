#include "troupe/modules/optim/kernel_optimizer.hpp"

#include "troupe/base/number_text.hpp"

#include <ATen/ops/view_as_complex.h>
#include <ATen/ops/view_as_real.h>
#include <torch/types.h>

#include <set>

namespace troupe::optim {

namespace {

[[noreturn]] void refuse_option(const char* optimizer, const char* option, const std::string& value,
                                const char* range) {
  throw UsageError(std::string(optimizer) + ": " + option + " = " + value + " is not " + range);
}

}  // namespace

void require_option(bool fits, const char* optimizer, const char* option, double value, const char* range) {
  if (!fits) refuse_option(optimizer, option, double_to_text(value), range);
}

void require_option(bool fits, const char* optimizer, const char* option, int64_t value, const char* range) {
  if (!fits) refuse_option(optimizer, option, std::to_string(value), range);
}

void require_from_zero(const char* optimizer, const char* option, double value) {
  require_option(value >= 0, optimizer, option, value, "a number from 0 on");
}

void require_betas(const char* optimizer, const std::pair<double, double>& betas) {
  require_option(betas.first >= 0 && betas.first < 1, optimizer, "betas[0]", betas.first, "in [0, 1)");
  require_option(betas.second >= 0 && betas.second < 1, optimizer, "betas[1]", betas.second, "in [0, 1)");
}

bool state_fits(const StateName& state, const torch::Tensor& tensor, const torch::Tensor& parameter) {
  if (state.kind == StateKind::host_number) {
    return tensor.is_cpu() && tensor.dim() == 0 && tensor.is_floating_point();
  }
  if (tensor.device() != parameter.device()) return false;
  if (state.kind == StateKind::step) return tensor.dim() == 0 && tensor.scalar_type() == torch::kFloat32;
  if (tensor.scalar_type() != parameter.scalar_type()) return false;
  return state.kind == StateKind::shaped ? tensor.sizes() == state.shape(parameter)
                                         : tensor.sizes() == parameter.sizes();
}

void check_parameters(const char* optimizer, const std::vector<torch::optim::OptimizerParamGroup>& groups,
                      const Parameters& parameters) {
  std::set<const void*> seen;
  for (const auto& group : groups) {
    for (const auto& parameter : group.params()) seen.insert(parameter.unsafeGetTensorImpl());
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto refuse = [&](const char* why) {
      throw UsageError(std::string(optimizer) + ": parameter " + std::to_string(i) + " of group " +
                       std::to_string(groups.size()) + why);
    };
    if (!parameters[i].defined()) refuse(" is an undefined tensor");
    if (!seen.insert(parameters[i].unsafeGetTensorImpl()).second) {
      refuse(
          " is there already; an optimizer takes each once: distinct_parameters(layer) lists what layers share once, "
          "as "
          "parameters() of a troupe::Module does");
    }
  }
}

bool fit_in_memory(const torch::Tensor& parameter, const torch::Tensor& gradient) {
  if (!parameter.is_non_overlapping_and_dense() || gradient.scalar_type() != parameter.scalar_type()) return false;
  return gradient.strides() == parameter.strides() || (gradient.is_contiguous() && parameter.is_contiguous());
}

torch::Tensor without_gaps(const torch::Tensor& tensor) {
  if (tensor.is_non_overlapping_and_dense()) return tensor;
  return torch::empty_like(tensor, torch::MemoryFormat::Preserve).copy_(tensor);
}

torch::Tensor laid_out_as(const torch::Tensor& parameter, const torch::Tensor& gradient) {
  if (fit_in_memory(parameter, gradient)) return gradient;
  return torch::empty_like(parameter, torch::MemoryFormat::Preserve).copy_(gradient);
}

torch::Tensor as_real(const torch::Tensor& tensor) {
  return tensor.defined() && tensor.is_complex() ? torch::view_as_real(tensor.resolve_conj()) : tensor;
}

torch::Tensor as_of(const torch::Tensor& parameter, const torch::Tensor& state) {
  return parameter.is_complex() && state.defined() ? torch::view_as_complex(state) : state;
}

void refuse_sparse(const char* optimizer, const torch::Tensor& gradient, std::size_t group, std::size_t position) {
  if (gradient.layout() == torch::kStrided) return;
  throw UsageError(std::string(optimizer) + ": the gradient of parameter " + std::to_string(position) + " of group " +
                   std::to_string(group) + " is sparse; torch::optim::SGD and torch::optim::Adagrad take sparse ones");
}

torch::Tensor zero_state(const torch::Tensor& parameter) {
  return torch::zeros_like(parameter, torch::MemoryFormat::Preserve);
}

torch::Tensor step_state(const torch::Tensor& parameter) {
  return torch::zeros({}, parameter.options().dtype(torch::kFloat32).requires_grad(false));
}

torch::Tensor host_number(double value, torch::ScalarType type) {
  return torch::scalar_tensor(value, torch::TensorOptions(type).device(torch::kCPU));
}

std::vector<double> counted_steps(Parameters& steps) {
  count_steps(steps);
  std::vector<double> counts;
  for (const auto& step : steps) counts.push_back(step.item<double>());
  return counts;
}

Parameters adjusted_gradients(const Parameters& parameters, const Parameters& gradients, bool maximize,
                              double weight_decay) {
  auto adjusted = maximize ? at::_foreach_neg(gradients) : gradients;
  return weight_decay == 0 ? adjusted : at::_foreach_add(adjusted, parameters, weight_decay);
}

// In host memory by hand: LibTorch's addition takes 1.6 us for each, as long as the kernel takes for a small layer.
void count_steps(Parameters& steps) {
  for (auto& step : steps) {
    if (step.is_cpu() && step.scalar_type() == torch::kFloat32 && step.numel() == 1) {
      *step.mutable_data_ptr<float>() += 1;
    } else {
      step.add_(1);
    }
  }
}

}  // namespace troupe::optim
