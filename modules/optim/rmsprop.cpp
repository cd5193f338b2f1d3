#include "troupe/modules/optim/rmsprop.hpp"

#include <torch/types.h>

namespace troupe::optim {

void RmspropKernel::check(const Options& options) {
  const auto from_zero = [](const char* option, double value) { require_from_zero(name, option, value); };
  from_zero("lr", options.lr);
  from_zero("alpha", options.alpha);
  from_zero("eps", options.eps);
  from_zero("weight_decay", options.weight_decay);
  from_zero("momentum", options.momentum);
}

std::array<torch::Tensor, 4> RmspropKernel::make(const Options& options, const torch::Tensor& parameter) {
  return {step_state(parameter), zero_state(parameter), options.momentum > 0 ? zero_state(parameter) : torch::Tensor(),
          options.centered ? zero_state(parameter) : torch::Tensor()};
}

void RmspropKernel::update(const Options& options, KernelLists<4> lists) {
  auto& [steps, square_avg, buffers, grad_avg] = lists.states;
  count_steps(steps);
  auto gradients = options.maximize ? at::_foreach_neg(lists.gradients) : lists.gradients;
  if (options.weight_decay != 0) gradients = at::_foreach_add(gradients, lists.parameters, options.weight_decay);
  at::_foreach_mul_(square_avg, options.alpha);
  at::_foreach_addcmul_(square_avg, gradients, gradients, 1 - options.alpha);
  Parameters average;
  if (options.centered) {
    at::_foreach_lerp_(grad_avg, gradients, 1 - options.alpha);
    average = at::_foreach_addcmul(square_avg, grad_avg, grad_avg, -1);
    at::_foreach_sqrt_(average);
  } else {
    average = at::_foreach_sqrt(square_avg);
  }
  at::_foreach_add_(average, options.eps);
  if (options.momentum > 0) {
    // A scheduler may have raised it from 0.
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      if (!buffers[i].defined()) buffers[i] = zero_state(lists.parameters[i]);
    }
    at::_foreach_mul_(buffers, options.momentum);
    at::_foreach_addcdiv_(buffers, gradients, average, 1);
    at::_foreach_add_(lists.parameters, buffers, -options.lr);
  } else {
    at::_foreach_addcdiv_(lists.parameters, gradients, average, -options.lr);
  }
}

namespace {

RmspropOptions rmsprop_options(const RmspropGroup& group, RmspropOptions own) {
  take(own.lr, group.lr);
  take(own.alpha, group.alpha);
  take(own.eps, group.eps);
  take(own.weight_decay, group.weight_decay);
  take(own.momentum, group.momentum);
  take(own.centered, group.centered);
  take(own.maximize, group.maximize);
  return own;
}

}  // namespace

std::shared_ptr<ForeachRmsprop> rmsprop(Parameters parameters, RmspropOptions options) {
  return of_one_group<ForeachRmsprop>(std::move(parameters), options);
}
std::shared_ptr<ForeachRmsprop> rmsprop(std::vector<RmspropGroup> groups, RmspropOptions options) {
  return of_groups<ForeachRmsprop>(std::move(groups), options, rmsprop_options);
}
std::shared_ptr<ForeachRmsprop> rmsprop(torch::nn::Module& module, NamedGroups<RmspropGroup> groups,
                                        RmspropOptions options) {
  return rmsprop(groups_by_name("rmsprop", module, std::move(groups)), options);
}

}  // namespace troupe::optim
