#include "troupe/modules/optim/adagrad.hpp"

#include <torch/types.h>

namespace troupe::optim {

void AdagradKernel::check(const Options& options) {
  const auto from_zero = [](const char* option, double value) { require_from_zero(name, option, value); };
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

namespace {

AdagradOptions adagrad_options(const AdagradGroup& group, AdagradOptions own) {
  take(own.lr, group.lr);
  take(own.lr_decay, group.lr_decay);
  take(own.weight_decay, group.weight_decay);
  take(own.initial_accumulator_value, group.initial_accumulator_value);
  take(own.eps, group.eps);
  take(own.maximize, group.maximize);
  return own;
}

}  // namespace

std::shared_ptr<FusedAdagrad> adagrad(Parameters parameters, AdagradOptions options) {
  return of_one_group<FusedAdagrad>(std::move(parameters), options);
}
std::shared_ptr<FusedAdagrad> adagrad(std::vector<AdagradGroup> groups, AdagradOptions options) {
  return of_groups<FusedAdagrad>(std::move(groups), options, adagrad_options);
}
std::shared_ptr<FusedAdagrad> adagrad(torch::nn::Module& module, NamedGroups<AdagradGroup> groups,
                                      AdagradOptions options) {
  return adagrad(groups_by_name("adagrad", module, std::move(groups)), options);
}

}  // namespace troupe::optim
