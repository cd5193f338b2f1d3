#include "troupe/modules/optim/adam.hpp"

#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>

namespace troupe::optim {

namespace {

template <class Optimizer>
std::shared_ptr<Optimizer> with_groups(std::vector<AdamGroup> groups, const typename Optimizer::Options& defaults) {
  std::vector<typename Optimizer::Group> all;
  for (auto& group : groups) {
    all.emplace_back(std::move(group.params),
                     typename Optimizer::Options{.lr = group.lr.value_or(defaults.lr),
                                                 .betas = group.betas.value_or(defaults.betas),
                                                 .eps = group.eps.value_or(defaults.eps),
                                                 .weight_decay = group.weight_decay.value_or(defaults.weight_decay),
                                                 .amsgrad = group.amsgrad.value_or(defaults.amsgrad),
                                                 .maximize = group.maximize.value_or(defaults.maximize)});
  }
  return std::make_shared<Optimizer>(std::move(all), defaults);
}

template <class Optimizer>
std::shared_ptr<Optimizer> with_one_group(Parameters parameters, const typename Optimizer::Options& options) {
  std::vector<typename Optimizer::Group> groups;
  groups.emplace_back(std::move(parameters), options);
  return std::make_shared<Optimizer>(std::move(groups), options);
}

}  // namespace

template <Decay decay>
void AdamKernel<decay>::check(const Options& options) {
  const auto require = [](bool fits, const char* option, double value, const char* range) {
    require_option(fits, name, option, value, range);
  };
  require(options.lr >= 0, "lr", options.lr, "a number from 0 on");
  require(options.eps >= 0, "eps", options.eps, "a number from 0 on");
  require(options.weight_decay >= 0, "weight_decay", options.weight_decay, "a number from 0 on");
  require(options.betas.first >= 0 && options.betas.first < 1, "betas[0]", options.betas.first, "in [0, 1)");
  require(options.betas.second >= 0 && options.betas.second < 1, "betas[1]", options.betas.second, "in [0, 1)");
}

template <Decay decay>
std::array<torch::Tensor, 4> AdamKernel<decay>::make(const Options& options, const torch::Tensor& parameter) {
  return {step_state(parameter), zero_state(parameter), zero_state(parameter),
          options.amsgrad ? zero_state(parameter) : torch::Tensor()};
}

template <Decay decay>
void AdamKernel<decay>::update(const Options& options, KernelLists<4> lists) {
  auto& [steps, exp_avg, exp_avg_sq, max_exp_avg_sq] = lists.states;
  count_steps(steps);
  const auto kernel = decay == Decay::l2 ? &at::_ops::_fused_adam_::call : &at::_ops::_fused_adamw_::call;
  kernel(lists.parameters, lists.gradients, exp_avg, exp_avg_sq,
         options.amsgrad ? at::TensorList(max_exp_avg_sq) : at::TensorList(), steps, options.lr, options.betas.first,
         options.betas.second, options.weight_decay, options.eps, options.amsgrad, options.maximize,
         /*grad_scale=*/{}, /*found_inf=*/{});
}

template struct AdamKernel<Decay::l2>;
template struct AdamKernel<Decay::decoupled>;

std::shared_ptr<FusedAdam> adam(Parameters parameters, AdamOptions options) {
  return with_one_group<FusedAdam>(std::move(parameters), options);
}
std::shared_ptr<FusedAdam> adam(std::vector<AdamGroup> groups, AdamOptions options) {
  return with_groups<FusedAdam>(std::move(groups), options);
}
std::shared_ptr<FusedAdamW> adamw(Parameters parameters, AdamWOptions options) {
  return with_one_group<FusedAdamW>(std::move(parameters), options);
}
std::shared_ptr<FusedAdamW> adamw(std::vector<AdamGroup> groups, AdamWOptions options) {
  return with_groups<FusedAdamW>(std::move(groups), options);
}

}  // namespace troupe::optim
