#include "troupe/modules/optim/lion.hpp"

#include <torch/types.h>

namespace troupe::optim {

namespace {

LionOptions lion_options(const LionGroup& group, LionOptions own) {
  take(own.lr, group.lr);
  take(own.betas, group.betas);
  take(own.weight_decay, group.weight_decay);
  take(own.maximize, group.maximize);
  return own;
}

}  // namespace

void LionKernel::check(const Options& options) {
  require_from_zero(name, "lr", options.lr);
  require_betas(name, options.betas);
  require_from_zero(name, "weight_decay", options.weight_decay);
}

std::array<torch::Tensor, 1> LionKernel::make(const Options&, const torch::Tensor& parameter) {
  return {zero_state(parameter)};
}

void LionKernel::update(const Options& options, KernelLists<1> lists) {
  auto& exp_avg = lists.states[0];
  const auto gradients = options.maximize ? at::_foreach_neg(lists.gradients) : lists.gradients;
  if (options.weight_decay != 0) at::_foreach_mul_(lists.parameters, 1 - options.lr * options.weight_decay);
  auto updates = at::_foreach_mul(exp_avg, options.betas.first);
  at::_foreach_add_(updates, gradients, 1 - options.betas.first);
  at::_foreach_sign_(updates);
  at::_foreach_add_(lists.parameters, updates, -options.lr);
  at::_foreach_mul_(exp_avg, options.betas.second);
  at::_foreach_add_(exp_avg, gradients, 1 - options.betas.second);
}

std::shared_ptr<ForeachLion> lion(Parameters parameters, LionOptions options) {
  return of_one_group<ForeachLion>(std::move(parameters), options);
}
std::shared_ptr<ForeachLion> lion(std::vector<LionGroup> groups, LionOptions options) {
  return of_groups<ForeachLion>(std::move(groups), options, lion_options);
}
std::shared_ptr<ForeachLion> lion(torch::nn::Module& module, NamedGroups<LionGroup> groups, LionOptions options) {
  return lion(groups_by_name("lion", module, std::move(groups)), options);
}

}  // namespace troupe::optim
