#include "troupe/modules/optim/adadelta.hpp"

#include <torch/types.h>

namespace troupe::optim {

namespace {

AdadeltaOptions adadelta_options(const AdadeltaGroup& group, AdadeltaOptions own) {
  take(own.lr, group.lr);
  take(own.rho, group.rho);
  take(own.eps, group.eps);
  take(own.weight_decay, group.weight_decay);
  take(own.maximize, group.maximize);
  return own;
}

}  // namespace

void AdadeltaKernel::check(const Options& options) {
  require_from_zero(name, "lr", options.lr);
  require_option(options.rho >= 0 && options.rho <= 1, name, "rho", options.rho, "in [0, 1]");
  require_from_zero(name, "eps", options.eps);
  require_from_zero(name, "weight_decay", options.weight_decay);
}

std::array<torch::Tensor, 3> AdadeltaKernel::make(const Options&, const torch::Tensor& parameter) {
  return {host_number(0), zero_state(parameter), zero_state(parameter)};
}

void AdadeltaKernel::update(const Options& options, KernelLists<3> lists) {
  auto& [steps, square_avg, acc_delta] = lists.states;
  count_steps(steps);
  const auto gradients = adjusted_gradients(lists.parameters, lists.gradients, options.maximize, options.weight_decay);
  at::_foreach_mul_(square_avg, options.rho);
  at::_foreach_addcmul_(square_avg, gradients, gradients, 1 - options.rho);
  auto deviations = at::_foreach_add(square_avg, options.eps);
  at::_foreach_sqrt_(deviations);
  auto deltas = at::_foreach_add(acc_delta, options.eps);
  at::_foreach_sqrt_(deltas);
  at::_foreach_div_(deltas, deviations);
  at::_foreach_mul_(deltas, gradients);
  at::_foreach_mul_(acc_delta, options.rho);
  at::_foreach_addcmul_(acc_delta, deltas, deltas, 1 - options.rho);
  at::_foreach_add_(lists.parameters, deltas, -options.lr);
}

std::shared_ptr<ForeachAdadelta> adadelta(Parameters parameters, AdadeltaOptions options) {
  return of_one_group<ForeachAdadelta>(std::move(parameters), options);
}
std::shared_ptr<ForeachAdadelta> adadelta(std::vector<AdadeltaGroup> groups, AdadeltaOptions options) {
  return of_groups<ForeachAdadelta>(std::move(groups), options, adadelta_options);
}
std::shared_ptr<ForeachAdadelta> adadelta(torch::nn::Module& module, NamedGroups<AdadeltaGroup> groups,
                                          AdadeltaOptions options) {
  return adadelta(groups_by_name("adadelta", module, std::move(groups)), options);
}

}  // namespace troupe::optim
