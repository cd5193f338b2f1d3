#include "troupe/modules/optim/radam.hpp"

#include "troupe/modules/optim/adam_moments.hpp"

#include <torch/types.h>

#include <cmath>

namespace troupe::optim {

namespace {

RadamOptions radam_options(const RadamGroup& group, RadamOptions own) {
  take(own.lr, group.lr);
  take(own.betas, group.betas);
  take(own.eps, group.eps);
  take(own.weight_decay, group.weight_decay);
  take(own.decoupled_weight_decay, group.decoupled_weight_decay);
  take(own.maximize, group.maximize);
  return own;
}

}  // namespace

void RadamKernel::check(const Options& options) {
  require_from_zero(name, "lr", options.lr);
  require_from_zero(name, "eps", options.eps);
  require_from_zero(name, "weight_decay", options.weight_decay);
  require_betas(name, options.betas);
}

std::array<torch::Tensor, 3> RadamKernel::make(const Options&, const torch::Tensor& parameter) {
  return {host_number(0), zero_state(parameter), zero_state(parameter)};
}

void RadamKernel::update(const Options& options, KernelLists<3> lists) {
  auto& [steps, exp_avg, exp_avg_sq] = lists.states;
  const auto counts = counted_steps(steps);
  const auto [beta1, beta2] = options.betas;
  update_moments(options, lists.parameters, lists.gradients, exp_avg, exp_avg_sq);
  // Those that have seen few gradients go by the average alone: the denominator is one.
  const double rho_inf = 2 / (1 - beta2) - 1;
  std::vector<at::Scalar> rates;
  Parameters denominators;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double correction1 = 1 - std::pow(beta1, counts[i]), correction2 = 1 - std::pow(beta2, counts[i]);
    const double rho = rho_inf - 2 * counts[i] * std::pow(beta2, counts[i]) / correction2;
    double rate = -options.lr / correction1;
    if (rho > 5) {
      rate *= std::sqrt(correction2 * (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho));
      denominators.push_back(exp_avg_sq[i].sqrt().add_(options.eps));
    } else {
      denominators.push_back(torch::ones_like(exp_avg_sq[i], torch::MemoryFormat::Preserve));
    }
    rates.emplace_back(rate);
  }
  at::_foreach_addcdiv_(lists.parameters, exp_avg, denominators, rates);
}

std::shared_ptr<ForeachRadam> radam(Parameters parameters, RadamOptions options) {
  return of_one_group<ForeachRadam>(std::move(parameters), options);
}
std::shared_ptr<ForeachRadam> radam(std::vector<RadamGroup> groups, RadamOptions options) {
  return of_groups<ForeachRadam>(std::move(groups), options, radam_options);
}
std::shared_ptr<ForeachRadam> radam(torch::nn::Module& module, NamedGroups<RadamGroup> groups, RadamOptions options) {
  return radam(groups_by_name("radam", module, std::move(groups)), options);
}

}  // namespace troupe::optim
