#include "troupe/modules/optim/schedule_free.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>

namespace troupe::optim {

namespace {

ScheduleFreeAdamwOptions schedule_free_options(const ScheduleFreeAdamwGroup& group, ScheduleFreeAdamwOptions own) {
  take(own.lr, group.lr);
  take(own.betas, group.betas);
  take(own.eps, group.eps);
  take(own.weight_decay, group.weight_decay);
  take(own.warmup_steps, group.warmup_steps);
  take(own.r, group.r);
  take(own.weight_lr_power, group.weight_lr_power);
  return own;
}

}  // namespace

void ScheduleFreeAdamwKernel::check(const Options& options) {
  require_from_zero(name, "lr", options.lr);
  require_betas(name, options.betas);
  require_option(options.betas.first > 0, name, "betas[0]", options.betas.first, "above 0");
  require_from_zero(name, "eps", options.eps);
  require_from_zero(name, "weight_decay", options.weight_decay);
  require_option(options.warmup_steps >= 0, name, "warmup_steps", options.warmup_steps, "a number from 0 on");
  require_from_zero(name, "r", options.r);
  require_from_zero(name, "weight_lr_power", options.weight_lr_power);
}

std::array<torch::Tensor, 6> ScheduleFreeAdamwKernel::make(const Options&, const torch::Tensor& parameter) {
  return {host_number(0),
          host_number(0, torch::kFloat64),
          host_number(0, torch::kFloat64),
          zero_state(parameter),
          parameter.detach().clone(torch::MemoryFormat::Preserve),
          {}};
}

// The order of the paper's code: y moves towards z by the weight of the average, then both take the step.
void ScheduleFreeAdamwKernel::update(const Options& options, KernelLists<6> lists) {
  auto& [steps, weight_sums, largest_rates, exp_avg_sq, z, y] = lists.states;
  const auto counts = counted_steps(steps);
  const auto [beta1, beta2] = options.betas;
  std::vector<at::Scalar> corrections, towards_z, of_y, of_z;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double warmup = static_cast<double>(options.warmup_steps);
    const double rate = options.lr * (counts[i] <= warmup ? counts[i] / warmup : 1);
    const double largest = std::max(rate, largest_rates[i].item<double>());
    const double weight = std::pow(counts[i], options.r) * std::pow(largest, options.weight_lr_power);
    const double sum = weight_sums[i].item<double>() + weight;
    const double share = sum > 0 ? weight / sum : 0;
    largest_rates[i].fill_(largest);
    weight_sums[i].fill_(sum);
    corrections.emplace_back(1 - std::pow(beta2, counts[i]));
    towards_z.emplace_back(share);
    of_y.emplace_back(rate * (beta1 * (1 - share) - 1));
    of_z.emplace_back(-rate);
  }
  at::_foreach_mul_(exp_avg_sq, beta2);
  at::_foreach_addcmul_(exp_avg_sq, lists.gradients, lists.gradients, 1 - beta2);
  auto denominators = at::_foreach_div(exp_avg_sq, corrections);
  at::_foreach_sqrt_(denominators);
  at::_foreach_add_(denominators, options.eps);
  auto directions = at::_foreach_div(lists.gradients, denominators);
  if (options.weight_decay != 0) at::_foreach_add_(directions, lists.parameters, options.weight_decay);
  at::_foreach_lerp_(lists.parameters, z, towards_z);
  at::_foreach_add_(lists.parameters, at::_foreach_mul(directions, of_y));
  at::_foreach_mul_(directions, of_z);
  at::_foreach_add_(z, directions);
}

torch::Tensor ScheduleFreeAdamw::step(LossClosure closure) {
  if (is_evaluating_) {
    throw UsageError(
        "schedule_free_adamw: the parameters hold the weights to evaluate, which a step cannot go on from; call "
        "train() "
        "first");
  }
  return KernelOptimizer::step(std::move(closure));
}

// What trains is kept: computing it back would round.
void ScheduleFreeAdamw::eval() {
  if (is_evaluating_) return;
  const torch::NoGradGuard no_gradients;
  for_each_state([](const Options& options, const torch::Tensor& parameter, State& state) {
    state[5] = parameter.detach().clone(torch::MemoryFormat::Preserve);
    parameter.lerp_(state[4], 1 - 1 / options.betas.first);
  });
  is_evaluating_ = true;
}

void ScheduleFreeAdamw::train() {
  if (!is_evaluating_) return;
  restored();
}

// A checkpoint's model is the one to evaluate.
void ScheduleFreeAdamw::restored() {
  const torch::NoGradGuard no_gradients;
  for_each_state([](const Options&, const torch::Tensor& parameter, State& state) {
    if (state[5].defined()) parameter.copy_(state[5]);
    state[5].reset();
  });
  is_evaluating_ = false;
}

std::shared_ptr<ScheduleFreeAdamw> schedule_free_adamw(Parameters parameters, ScheduleFreeAdamwOptions options) {
  return of_one_group<ScheduleFreeAdamw>(std::move(parameters), options);
}
std::shared_ptr<ScheduleFreeAdamw> schedule_free_adamw(std::vector<ScheduleFreeAdamwGroup> groups,
                                                       ScheduleFreeAdamwOptions options) {
  return of_groups<ScheduleFreeAdamw>(std::move(groups), options, schedule_free_options);
}
std::shared_ptr<ScheduleFreeAdamw> schedule_free_adamw(torch::nn::Module& module,
                                                       NamedGroups<ScheduleFreeAdamwGroup> groups,
                                                       ScheduleFreeAdamwOptions options) {
  return schedule_free_adamw(groups_by_name("schedule_free_adamw", module, std::move(groups)), options);
}

}  // namespace troupe::optim
