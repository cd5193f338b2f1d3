#include "troupe/modules/optim/nadam.hpp"

#include "troupe/modules/optim/adam_moments.hpp"

#include <torch/types.h>

#include <cmath>

namespace troupe::optim {

namespace {

NadamOptions nadam_options(const NadamGroup& group, NadamOptions own) {
  take(own.lr, group.lr);
  take(own.betas, group.betas);
  take(own.eps, group.eps);
  take(own.weight_decay, group.weight_decay);
  take(own.momentum_decay, group.momentum_decay);
  take(own.decoupled_weight_decay, group.decoupled_weight_decay);
  take(own.maximize, group.maximize);
  return own;
}

}  // namespace

void NadamKernel::check(const Options& options) {
  require_from_zero(name, "lr", options.lr);
  require_from_zero(name, "eps", options.eps);
  require_from_zero(name, "weight_decay", options.weight_decay);
  require_from_zero(name, "momentum_decay", options.momentum_decay);
  require_betas(name, options.betas);
}

std::array<torch::Tensor, 4> NadamKernel::make(const Options&, const torch::Tensor& parameter) {
  return {host_number(0), host_number(1), zero_state(parameter), zero_state(parameter)};
}

void NadamKernel::update(const Options& options, KernelLists<4> lists) {
  auto& [steps, mu_products, exp_avg, exp_avg_sq] = lists.states;
  const auto counts = counted_steps(steps);
  const auto [beta1, beta2] = options.betas;
  const auto gradients = update_moments(options, lists.parameters, lists.gradients, exp_avg, exp_avg_sq);
  auto denominators = at::_foreach_div(
      exp_avg_sq, scalars_of(counts, [beta2 = beta2](double step) { return 1 - std::pow(beta2, step); }));
  at::_foreach_sqrt_(denominators);
  at::_foreach_add_(denominators, options.eps);
  const auto mu_at = [&, beta1 = beta1](double step) {
    return beta1 * (1 - 0.5 * std::pow(0.96, step * options.momentum_decay));
  };
  std::vector<at::Scalar> of_gradient, of_average;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double mu = mu_at(counts[i]), mu_next = mu_at(counts[i] + 1);
    const auto product = mu_products[i].mul_(mu).item<double>();
    of_gradient.emplace_back(-options.lr * (1 - mu) / (1 - product));
    of_average.emplace_back(-options.lr * mu_next / (1 - product * mu_next));
  }
  at::_foreach_addcdiv_(lists.parameters, gradients, denominators, of_gradient);
  at::_foreach_addcdiv_(lists.parameters, exp_avg, denominators, of_average);
}

std::shared_ptr<ForeachNadam> nadam(Parameters parameters, NadamOptions options) {
  return of_one_group<ForeachNadam>(std::move(parameters), options);
}
std::shared_ptr<ForeachNadam> nadam(std::vector<NadamGroup> groups, NadamOptions options) {
  return of_groups<ForeachNadam>(std::move(groups), options, nadam_options);
}
std::shared_ptr<ForeachNadam> nadam(torch::nn::Module& module, NamedGroups<NadamGroup> groups, NadamOptions options) {
  return nadam(groups_by_name("nadam", module, std::move(groups)), options);
}

}  // namespace troupe::optim
