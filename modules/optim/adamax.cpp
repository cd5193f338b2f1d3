#include "troupe/modules/optim/adamax.hpp"

#include <torch/types.h>

#include <cmath>

namespace troupe::optim {

namespace {

AdamaxOptions adamax_options(const AdamaxGroup& group, AdamaxOptions own) {
  take(own.lr, group.lr);
  take(own.betas, group.betas);
  take(own.eps, group.eps);
  take(own.weight_decay, group.weight_decay);
  take(own.maximize, group.maximize);
  return own;
}

}  // namespace

void AdamaxKernel::check(const Options& options) {
  require_from_zero(name, "lr", options.lr);
  require_from_zero(name, "eps", options.eps);
  require_from_zero(name, "weight_decay", options.weight_decay);
  require_betas(name, options.betas);
}

std::array<torch::Tensor, 3> AdamaxKernel::make(const Options&, const torch::Tensor& parameter) {
  return {host_number(0), zero_state(parameter), zero_state(parameter)};
}

void AdamaxKernel::update(const Options& options, KernelLists<3> lists) {
  auto& [steps, exp_avg, exp_inf] = lists.states;
  const auto counts = counted_steps(steps);
  const auto gradients = adjusted_gradients(lists.parameters, lists.gradients, options.maximize, options.weight_decay);
  at::_foreach_lerp_(exp_avg, gradients, 1 - options.betas.first);
  at::_foreach_mul_(exp_inf, options.betas.second);
  auto norms = at::_foreach_abs(gradients);
  at::_foreach_add_(norms, options.eps);
  at::_foreach_maximum_(exp_inf, norms);
  at::_foreach_addcdiv_(lists.parameters, exp_avg, exp_inf, scalars_of(counts, [&](double step) {
                          return -(options.lr / (1 - std::pow(options.betas.first, step)));
                        }));
}

std::shared_ptr<ForeachAdamax> adamax(Parameters parameters, AdamaxOptions options) {
  return of_one_group<ForeachAdamax>(std::move(parameters), options);
}
std::shared_ptr<ForeachAdamax> adamax(std::vector<AdamaxGroup> groups, AdamaxOptions options) {
  return of_groups<ForeachAdamax>(std::move(groups), options, adamax_options);
}
std::shared_ptr<ForeachAdamax> adamax(torch::nn::Module& module, NamedGroups<AdamaxGroup> groups,
                                      AdamaxOptions options) {
  return adamax(groups_by_name("adamax", module, std::move(groups)), options);
}

}  // namespace troupe::optim
