#include "troupe/modules/optim/rprop.hpp"

#include <torch/types.h>

namespace troupe::optim {

namespace {

RpropOptions rprop_options(const RpropGroup& group, RpropOptions own) {
  take(own.lr, group.lr);
  take(own.etas, group.etas);
  take(own.step_sizes, group.step_sizes);
  take(own.maximize, group.maximize);
  return own;
}

}  // namespace

void RpropKernel::check(const Options& options) {
  require_from_zero(name, "lr", options.lr);
  require_option(options.etas.first > 0 && options.etas.first < 1, name, "etas[0]", options.etas.first, "in (0, 1)");
  require_option(options.etas.second > 1, name, "etas[1]", options.etas.second, "above 1");
  require_from_zero(name, "step_sizes[0]", options.step_sizes.first);
  require_option(options.step_sizes.second >= options.step_sizes.first, name, "step_sizes[1]",
                 options.step_sizes.second, "a number from step_sizes[0] on");
}

std::array<torch::Tensor, 3> RpropKernel::make(const Options& options, const torch::Tensor& parameter) {
  auto sizes = zero_state(parameter);
  as_real(sizes).fill_(options.lr);
  return {host_number(0), zero_state(parameter), std::move(sizes)};
}

void RpropKernel::update(const Options& options, KernelLists<3> lists) {
  auto& [steps, previous, step_sizes] = lists.states;
  count_steps(steps);
  const auto gradients = options.maximize ? at::_foreach_neg(lists.gradients) : lists.gradients;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const auto agreement = gradients[i].mul(previous[i]);
    const auto turned = agreement.lt(0);
    const auto factors = torch::ones_like(agreement, torch::MemoryFormat::Preserve);
    factors.masked_fill_(agreement.gt(0), options.etas.second).masked_fill_(turned, options.etas.first);
    step_sizes[i].mul_(factors).clamp_(options.step_sizes.first, options.step_sizes.second);
    previous[i].copy_(gradients[i].masked_fill(turned, 0));
    lists.parameters[i].addcmul_(previous[i].sign(), step_sizes[i], -1);
  }
}

std::shared_ptr<ForeachRprop> rprop(Parameters parameters, RpropOptions options) {
  return of_one_group<ForeachRprop>(std::move(parameters), options);
}
std::shared_ptr<ForeachRprop> rprop(std::vector<RpropGroup> groups, RpropOptions options) {
  return of_groups<ForeachRprop>(std::move(groups), options, rprop_options);
}
std::shared_ptr<ForeachRprop> rprop(torch::nn::Module& module, NamedGroups<RpropGroup> groups, RpropOptions options) {
  return rprop(groups_by_name("rprop", module, std::move(groups)), options);
}

}  // namespace troupe::optim
