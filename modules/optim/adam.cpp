#include "troupe/modules/optim/adam.hpp"

namespace troupe::optim {

namespace {

template <class Options>
Options adam_options(const AdamGroup& group, Options own) {
  take(own.lr, group.lr);
  take(own.betas, group.betas);
  take(own.eps, group.eps);
  take(own.weight_decay, group.weight_decay);
  take(own.amsgrad, group.amsgrad);
  take(own.maximize, group.maximize);
  return own;
}

}  // namespace

template <Decay decay>
void AdamKernel<decay>::check(const Options& options) {
  require_from_zero(name, "lr", options.lr);
  require_from_zero(name, "eps", options.eps);
  require_from_zero(name, "weight_decay", options.weight_decay);
  require_betas(name, options.betas);
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
  adam_step(decay,
            {.lr = options.lr,
             .betas = options.betas,
             .weight_decay = options.weight_decay,
             .eps = options.eps,
             .amsgrad = options.amsgrad,
             .maximize = options.maximize},
            {lists.parameters, lists.gradients, exp_avg, exp_avg_sq, max_exp_avg_sq, steps});
}

template struct AdamKernel<Decay::l2>;
template struct AdamKernel<Decay::decoupled>;

std::shared_ptr<FusedAdam> adam(Parameters parameters, AdamOptions options) {
  return of_one_group<FusedAdam>(std::move(parameters), options);
}
std::shared_ptr<FusedAdam> adam(std::vector<AdamGroup> groups, AdamOptions options) {
  return of_groups<FusedAdam>(std::move(groups), options, adam_options<AdamOptions>);
}
std::shared_ptr<FusedAdam> adam(torch::nn::Module& module, NamedGroups<AdamGroup> groups, AdamOptions options) {
  return adam(groups_by_name("adam", module, std::move(groups)), options);
}
std::shared_ptr<FusedAdamW> adamw(Parameters parameters, AdamWOptions options) {
  return of_one_group<FusedAdamW>(std::move(parameters), options);
}
std::shared_ptr<FusedAdamW> adamw(std::vector<AdamGroup> groups, AdamWOptions options) {
  return of_groups<FusedAdamW>(std::move(groups), options, adam_options<AdamWOptions>);
}
std::shared_ptr<FusedAdamW> adamw(torch::nn::Module& module, NamedGroups<AdamGroup> groups, AdamWOptions options) {
  return adamw(groups_by_name("adamw", module, std::move(groups)), options);
}

}  // namespace troupe::optim
