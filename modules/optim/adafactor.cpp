#include "troupe/modules/optim/adafactor.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace troupe::optim {

namespace {

AdafactorOptions adafactor_options(const AdafactorGroup& group, AdafactorOptions own) {
  take(own.lr, group.lr);
  take(own.beta2_decay, group.beta2_decay);
  take(own.eps, group.eps);
  take(own.d, group.d);
  take(own.weight_decay, group.weight_decay);
  take(own.maximize, group.maximize);
  return own;
}

double precision_of(const torch::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case torch::kFloat64: return std::numeric_limits<double>::epsilon();
    case torch::kBFloat16: return std::numeric_limits<c10::BFloat16>::epsilon();
    case torch::kHalf: return std::numeric_limits<c10::Half>::epsilon();
    default: return std::numeric_limits<float>::epsilon();
  }
}

// Without a tensor of all squares.
torch::Tensor mean_squares(const torch::Tensor& tensor, int64_t dimension) {
  return tensor.norm(2, dimension, /*keepdim=*/true).square_().div_(tensor.size(dimension));
}

}  // namespace

void AdafactorKernel::check(const Options& options) {
  require_from_zero(name, "lr", options.lr);
  require_option(options.beta2_decay <= 0, name, "beta2_decay", options.beta2_decay, "a number up to 0");
  require_from_zero(name, "eps", options.eps);
  require_option(options.d >= 1, name, "d", options.d, "a number from 1 on");
  require_from_zero(name, "weight_decay", options.weight_decay);
}

void AdafactorKernel::check_parameter(const Options&, const torch::Tensor& parameter) {
  if (!parameter.is_complex()) return;
  throw UsageError("adafactor: a parameter of " + std::string(c10::toString(parameter.scalar_type())) +
                   " has no mean squares of rows and columns; use adam");
}

Shape AdafactorKernel::row_shape(const torch::Tensor& parameter) {
  Shape shape = parameter.sizes().vec();
  shape.back() = 1;
  return shape;
}

Shape AdafactorKernel::column_shape(const torch::Tensor& parameter) {
  Shape shape = parameter.sizes().vec();
  shape[shape.size() - 2] = 1;
  return shape;
}

bool AdafactorKernel::has_state(const Options&, std::size_t state, const torch::Tensor& parameter) {
  return state == 0 || (parameter.dim() > 1) == (state < 3);
}

std::array<torch::Tensor, 4> AdafactorKernel::make(const Options&, const torch::Tensor& parameter) {
  if (parameter.dim() < 2) return {host_number(0), {}, {}, zero_state(parameter)};
  const auto options = parameter.options().requires_grad(false);
  return {
      host_number(0), torch::zeros(row_shape(parameter), options), torch::zeros(column_shape(parameter), options), {}};
}

void AdafactorKernel::update(const Options& options, KernelLists<4> lists) {
  auto& [steps, row_vars, column_vars, variances] = lists.states;
  const auto counts = counted_steps(steps);
  const auto gradients = options.maximize ? at::_foreach_neg(lists.gradients) : lists.gradients;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto &parameter = lists.parameters[i], &gradient = gradients[i];
    const double root = std::sqrt(static_cast<double>(parameter.numel())), precision = precision_of(parameter);
    const double weight = std::pow(counts[i], options.beta2_decay);
    const double rate =
        std::max(options.eps, parameter.norm(2).item<double>() / root) * std::min(options.lr, 1 / std::sqrt(counts[i]));
    if (options.weight_decay != 0) parameter.mul_(1 - options.lr * options.weight_decay);
    torch::Tensor step;
    if (parameter.dim() > 1) {
      row_vars[i].lerp_(mean_squares(gradient, -1), weight);
      column_vars[i].lerp_(mean_squares(gradient, -2), weight);
      step = row_vars[i].matmul(column_vars[i]).div_(row_vars[i].mean(-2, /*keepdim=*/true).clamp_min_(precision));
    } else {
      variances[i].lerp_(gradient * gradient, weight);
      step = variances[i].clone();
    }
    step.clamp_min_(precision * precision).rsqrt_().mul_(gradient);
    const double size = step.norm(2).item<double>() / (root * options.d);
    parameter.add_(step, -rate / std::max(1.0, size));
  }
}

std::shared_ptr<ForeachAdafactor> adafactor(Parameters parameters, AdafactorOptions options) {
  return of_one_group<ForeachAdafactor>(std::move(parameters), options);
}
std::shared_ptr<ForeachAdafactor> adafactor(std::vector<AdafactorGroup> groups, AdafactorOptions options) {
  return of_groups<ForeachAdafactor>(std::move(groups), options, adafactor_options);
}
std::shared_ptr<ForeachAdafactor> adafactor(torch::nn::Module& module, NamedGroups<AdafactorGroup> groups,
                                            AdafactorOptions options) {
  return adafactor(groups_by_name("adafactor", module, std::move(groups)), options);
}

}  // namespace troupe::optim
