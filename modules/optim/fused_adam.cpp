#include "troupe/modules/optim/fused_adam.hpp"

#include "troupe/modules/failure.hpp"
#include "troupe/modules/number_text.hpp"

#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <string>
#include <utility>

namespace troupe::optim {

namespace {

void require(bool fits, const char* name, double value, const char* range) {
  if (fits) return;
  throw UsageError(std::string("adam: ") + name + " = " + double_to_text(value) + " is not " + range);
}

void check(const AdamOptions& options) {
  require(options.lr >= 0, "lr", options.lr, "a number from 0 on");
  require(options.eps >= 0, "eps", options.eps, "a number from 0 on");
  require(options.weight_decay >= 0, "weight_decay", options.weight_decay, "a number from 0 on");
  require(options.betas.first >= 0 && options.betas.first < 1, "betas[0]", options.betas.first, "in [0, 1)");
  require(options.betas.second >= 0 && options.betas.second < 1, "betas[1]", options.betas.second, "in [0, 1)");
}

bool like(const torch::Tensor& state, const torch::Tensor& parameter) {
  return state.defined() && state.sizes() == parameter.sizes() && state.dtype() == parameter.dtype() &&
         state.device() == parameter.device();
}

/// Whether the kernels can work on entry `i`: they trust shapes and types.
bool usable(const FusedAdam::State& state, std::size_t i, const torch::Tensor& parameter, bool amsgrad) {
  const auto& step = state.step[i];
  if (!step.defined()) return !state.exp_avg[i].defined() && !state.exp_avg_sq[i].defined();
  return step.dim() == 0 && step.scalar_type() == torch::kFloat32 && step.device() == parameter.device() &&
         like(state.exp_avg[i], parameter) && like(state.exp_avg_sq[i], parameter) &&
         (!amsgrad || like(state.max_exp_avg_sq[i], parameter));
}

}  // namespace

FusedAdam::FusedAdam(std::vector<torch::Tensor> parameters, AdamOptions options, Decay decay)
    : Optimizer(std::move(parameters), std::make_unique<LearningRate>(options.lr)), options_(options), decay_(decay) {
  check(options);
  const auto count = param_groups()[0].params().size();
  state_tensors_.exp_avg.resize(count);
  state_tensors_.exp_avg_sq.resize(count);
  state_tensors_.step.resize(count);
  if (options_.amsgrad) state_tensors_.max_exp_avg_sq.resize(count);
}

void FusedAdam::make_state(std::size_t i) {
  const auto& parameter = param_groups()[0].params()[i];
  state_tensors_.exp_avg[i] = torch::zeros_like(parameter, torch::MemoryFormat::Preserve);
  state_tensors_.exp_avg_sq[i] = torch::zeros_like(parameter, torch::MemoryFormat::Preserve);
  if (options_.amsgrad) {
    state_tensors_.max_exp_avg_sq[i] = torch::zeros_like(parameter, torch::MemoryFormat::Preserve);
  }
  state_tensors_.step[i] = torch::zeros({}, parameter.options().dtype(torch::kFloat32).requires_grad(false));
}

void FusedAdam::restore(const AdamOptions& options, State state) {
  check(options);
  const auto& all = param_groups()[0].params();
  const auto count = all.size();
  if (state.exp_avg.size() != count || state.exp_avg_sq.size() != count || state.step.size() != count ||
      state.max_exp_avg_sq.size() != (options.amsgrad ? count : 0)) {
    throw UsageError("adam: the state to restore is not for " + std::to_string(count) + " parameters");
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (usable(state, i, all[i], options.amsgrad)) continue;
    throw UsageError("adam: the state to restore does not fit parameter " + std::to_string(i));
  }
  param_groups()[0].options().set_lr(options.lr);
  options_ = options;
  state_tensors_ = std::move(state);
}

torch::Tensor FusedAdam::step(LossClosure closure) {
  torch::Tensor loss;
  if (closure) {
    const torch::AutoGradMode with_gradients(true);
    loss = closure();
  }
  const torch::NoGradGuard no_gradients;
  std::vector<torch::Tensor> parameters, gradients, exp_avg, exp_avg_sq, max_exp_avg_sq, steps;
  const auto& all = param_groups()[0].params();
  for (auto* list : {&parameters, &gradients, &exp_avg, &exp_avg_sq, &steps}) list->reserve(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& gradient = all[i].grad();
    if (!gradient.defined()) continue;
    if (!state_tensors_.step[i].defined()) make_state(i);
    parameters.push_back(all[i]);
    gradients.push_back(gradient);
    exp_avg.push_back(state_tensors_.exp_avg[i]);
    exp_avg_sq.push_back(state_tensors_.exp_avg_sq[i]);
    if (options_.amsgrad) max_exp_avg_sq.push_back(state_tensors_.max_exp_avg_sq[i]);
    steps.push_back(state_tensors_.step[i]);
  }
  if (parameters.empty()) return loss;
  for (auto& step : steps) step.add_(1);
  const auto update = decay_ == Decay::l2 ? &at::_ops::_fused_adam_::call : &at::_ops::_fused_adamw_::call;
  update(parameters, gradients, exp_avg, exp_avg_sq, max_exp_avg_sq, steps, param_groups()[0].options().get_lr(),
         options_.betas.first, options_.betas.second, options_.weight_decay, options_.eps, options_.amsgrad,
         /*maximize=*/false, /*grad_scale=*/{}, /*found_inf=*/{});
  return loss;
}

std::shared_ptr<FusedAdam> adam(std::vector<torch::Tensor> parameters, AdamOptions options) {
  return std::make_shared<FusedAdam>(std::move(parameters), options, FusedAdam::Decay::l2);
}

std::shared_ptr<FusedAdam> adamw(std::vector<torch::Tensor> parameters, AdamOptions options) {
  return std::make_shared<FusedAdam>(std::move(parameters), options, FusedAdam::Decay::decoupled);
}

}  // namespace troupe::optim
