#include "troupe/modules/optim/asgd.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

namespace troupe::optim {

namespace {

AsgdOptions asgd_options(const AsgdGroup& group, AsgdOptions own) {
  take(own.lr, group.lr);
  take(own.lambd, group.lambd);
  take(own.alpha, group.alpha);
  take(own.t0, group.t0);
  take(own.weight_decay, group.weight_decay);
  take(own.maximize, group.maximize);
  return own;
}

}  // namespace

void AsgdKernel::check(const Options& options) {
  require_from_zero(name, "lr", options.lr);
  require_from_zero(name, "lambd", options.lambd);
  require_from_zero(name, "alpha", options.alpha);
  require_from_zero(name, "t0", options.t0);
  require_from_zero(name, "weight_decay", options.weight_decay);
}

std::array<torch::Tensor, 4> AsgdKernel::make(const Options& options, const torch::Tensor& parameter) {
  return {host_number(0), host_number(options.lr), host_number(1), zero_state(parameter)};
}

void AsgdKernel::update(const Options& options, KernelLists<4> lists) {
  auto& [steps, etas, mus, averages] = lists.states;
  const auto counts = counted_steps(steps);
  const auto gradients = adjusted_gradients(lists.parameters, lists.gradients, options.maximize, options.weight_decay);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto& parameter = lists.parameters[i];
    const double eta = etas[i].item<double>(), mu = mus[i].item<double>();
    parameter.mul_(1 - options.lambd * eta);
    parameter.add_(gradients[i], -eta);
    if (mu == 1) {
      averages[i].copy_(parameter);
    } else {
      averages[i].add_(parameter.sub(averages[i]).mul_(mu));
    }
    etas[i].fill_(options.lr / std::pow(1 + options.lambd * options.lr * counts[i], options.alpha));
    mus[i].fill_(1 / std::max(1.0, counts[i] - options.t0));
  }
}

std::shared_ptr<ForeachAsgd> asgd(Parameters parameters, AsgdOptions options) {
  return of_one_group<ForeachAsgd>(std::move(parameters), options);
}
std::shared_ptr<ForeachAsgd> asgd(std::vector<AsgdGroup> groups, AsgdOptions options) {
  return of_groups<ForeachAsgd>(std::move(groups), options, asgd_options);
}
std::shared_ptr<ForeachAsgd> asgd(torch::nn::Module& module, NamedGroups<AsgdGroup> groups, AsgdOptions options) {
  return asgd(groups_by_name("asgd", module, std::move(groups)), options);
}

}  // namespace troupe::optim
