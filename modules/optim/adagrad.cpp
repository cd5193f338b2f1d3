#include "troupe/modules/optim/adagrad.hpp"

#include <torch/types.h>

namespace troupe::optim {

void AdagradKernel::check(const Options& options) {
  const auto from_zero = [](const char* option, double value) {
    require_option(value >= 0, name, option, value, "a number from 0 on");
  };
  from_zero("lr", options.lr);
  from_zero("lr_decay", options.lr_decay);
  from_zero("weight_decay", options.weight_decay);
  from_zero("initial_accumulator_value", options.initial_accumulator_value);
  from_zero("eps", options.eps);
}

std::array<torch::Tensor, 2> AdagradKernel::make(const Options& options, const torch::Tensor& parameter) {
  auto sums = zero_state(parameter);
  as_real(sums).fill_(options.initial_accumulator_value);
  return {step_state(parameter), std::move(sums)};
}

void AdagradKernel::update(const Options& options, KernelLists<2> lists) {
  auto& [steps, sums] = lists.states;
  count_steps(steps);
  if (lists.parameters.front().is_cpu()) {
    at::_fused_adagrad_(lists.parameters, lists.gradients, sums, steps, options.lr, options.lr_decay,
                        options.weight_decay, options.eps, options.maximize);
    return;
  }
  auto gradients = options.maximize ? at::_foreach_neg(lists.gradients) : lists.gradients;
  if (options.weight_decay != 0) gradients = at::_foreach_add(gradients, lists.parameters, options.weight_decay);
  at::_foreach_addcmul_(sums, gradients, gradients, 1);
  auto denominators = at::_foreach_sqrt(sums);
  at::_foreach_add_(denominators, options.eps);
  // The rate depends on the step, which lies on the device.
  auto rates = at::_foreach_sub(steps, 1);
  at::_foreach_mul_(rates, options.lr_decay);
  at::_foreach_add_(rates, 1);
  at::_foreach_reciprocal_(rates);
  at::_foreach_mul_(rates, -options.lr);
  auto updates = at::_foreach_div(gradients, denominators);
  for (std::size_t i = 0; i < updates.size(); ++i) updates[i].mul_(rates[i]);
  at::_foreach_add_(lists.parameters, updates);
}

std::shared_ptr<FusedAdagrad> adagrad(Parameters parameters, AdagradOptions options) {
  std::vector<FusedAdagrad::Group> groups;
  groups.emplace_back(std::move(parameters), options);
  return std::make_shared<FusedAdagrad>(std::move(groups), options);
}

std::shared_ptr<FusedAdagrad> adagrad(std::vector<AdagradGroup> groups, AdagradOptions options) {
  std::vector<FusedAdagrad::Group> all;
  for (auto& group : groups) {
    AdagradOptions own = options;
    own.lr = group.lr.value_or(own.lr);
    own.lr_decay = group.lr_decay.value_or(own.lr_decay);
    own.weight_decay = group.weight_decay.value_or(own.weight_decay);
    own.initial_accumulator_value = group.initial_accumulator_value.value_or(own.initial_accumulator_value);
    own.eps = group.eps.value_or(own.eps);
    own.maximize = group.maximize.value_or(own.maximize);
    all.emplace_back(std::move(group.params), own);
  }
  return std::make_shared<FusedAdagrad>(std::move(all), options);
}

}  // namespace troupe::optim
