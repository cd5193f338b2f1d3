// What Adam's relatives begin a step with: weight decay and the two moving averages.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"

namespace troupe::optim {

/// Takes off the weight decay, if it is decoupled, and moves both averages on. Returns the gradients as they count,
/// with maximize and a weight decay that is added to them. `Options` has lr, betas, weight_decay,
/// decoupled_weight_decay and maximize.
template <class Options>
Parameters update_moments(const Options& options, const Parameters& parameters, const Parameters& gradients,
                          const Parameters& exp_avg, const Parameters& exp_avg_sq) {
  const auto [beta1, beta2] = options.betas;
  if (options.decoupled_weight_decay && options.weight_decay != 0) {
    at::_foreach_mul_(parameters, 1 - options.lr * options.weight_decay);
  }
  auto counted = adjusted_gradients(parameters, gradients, options.maximize,
                                    options.decoupled_weight_decay ? 0 : options.weight_decay);
  at::_foreach_lerp_(exp_avg, counted, 1 - beta1);
  at::_foreach_mul_(exp_avg_sq, beta2);
  at::_foreach_addcmul_(exp_avg_sq, counted, counted, 1 - beta2);
  return counted;
}

}  // namespace troupe::optim
