#include "troupe/modules/optim/muon.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"

#include <ATen/ops/_fused_adamw.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

namespace troupe::optim {

namespace {

constexpr const char* original = "original";
constexpr const char* match_rms_adamw = "match_rms_adamw";
constexpr int64_t most_ns_steps = 99;  // PyTorch's bound

bool is_orthogonalized(const MuonOptions& options, const torch::Tensor& parameter) {
  return options.use_muon && parameter.dim() == 2;
}

MuonOptions muon_options(const MuonGroup& group, MuonOptions own) {
  take(own.use_muon, group.use_muon);
  // What such a group says of its rate is said of AdamW's.
  const bool is_adamw = !own.use_muon;
  own.adamw_lr = group.adamw_lr ? group.adamw_lr : is_adamw && group.lr ? group.lr : own.adamw_lr;
  own.adamw_weight_decay = group.adamw_weight_decay         ? group.adamw_weight_decay
                           : is_adamw && group.weight_decay ? group.weight_decay
                                                            : own.adamw_weight_decay;
  take(own.lr, group.lr);
  take(own.weight_decay, group.weight_decay);
  take(own.momentum, group.momentum);
  take(own.nesterov, group.nesterov);
  take(own.ns_coefficients, group.ns_coefficients);
  take(own.eps, group.eps);
  take(own.ns_steps, group.ns_steps);
  if (group.adjust_lr_fn) own.adjust_lr_fn = group.adjust_lr_fn;
  if (own.adjust_lr_fn == original) own.adjust_lr_fn.reset();
  take(own.adamw_betas, group.adamw_betas);
  take(own.adamw_eps, group.adamw_eps);
  return own;
}

// The part of a group that AdamW takes, as a group.
MuonOptions options_of_rest(MuonOptions options) {
  options.use_muon = false;
  options.lr = options.adamw_lr.value_or(options.lr);
  options.weight_decay = options.adamw_weight_decay.value_or(options.weight_decay);
  return options;
}

double adjusted_rate(const MuonOptions& options, const torch::Tensor& matrix) {
  const auto rows = static_cast<double>(matrix.size(0)), columns = static_cast<double>(matrix.size(1));
  const double factor = options.adjust_lr_fn == match_rms_adamw ? 0.2 * std::sqrt(std::max(rows, columns))
                                                                : std::sqrt(std::max(1.0, rows / columns));
  return options.lr * factor;
}

// The quintic Newton-Schulz iteration of _zeropower_via_newtonschulz in torch/optim/_muon.py, operator by operator.
torch::Tensor orthogonalized(const torch::Tensor& matrix, const MuonOptions& options) {
  const auto [a, b, c] = options.ns_coefficients;
  const bool is_high = matrix.size(0) > matrix.size(1);
  auto x = matrix.to(torch::kBFloat16, /*non_blocking=*/false, /*copy=*/true);
  if (is_high) x = x.t();
  x.div_(x.norm().clamp_min(options.eps));
  for (int64_t i = 0; i < options.ns_steps; ++i) {
    const auto gram = x.mm(x.t());
    const auto update = torch::addmm(gram, gram, gram, b, c);
    x = torch::addmm(x, update, x, a, 1);
  }
  return is_high ? x.t() : x;
}

struct Rest {
  Parameters parameters, gradients, exp_avg, exp_avg_sq, steps;
};

}  // namespace

bool MuonKernel::has_state(const Options& options, std::size_t state, const torch::Tensor& parameter) {
  return state == 0 || (state == 1) == is_orthogonalized(options, parameter);
}

void MuonKernel::check(const Options& options) {
  require_from_zero(name, "lr", options.lr);
  require_from_zero(name, "weight_decay", options.weight_decay);
  require_option(options.momentum >= 0 && options.momentum < 1, name, "momentum", options.momentum, "in [0, 1)");
  for (std::size_t i = 0; i < options.ns_coefficients.size(); ++i) {
    const double coefficient = options.ns_coefficients[i];
    require_option(std::isfinite(coefficient), name, ("ns_coefficients[" + std::to_string(i) + "]").c_str(),
                   coefficient, "a finite number");
  }
  require_from_zero(name, "eps", options.eps);
  require_option(options.ns_steps >= 1 && options.ns_steps <= most_ns_steps, name, "ns_steps", options.ns_steps,
                 "from 1 to 99");
  require_from_zero(name, "adamw_lr", options.adamw_lr.value_or(0));
  require_from_zero(name, "adamw_weight_decay", options.adamw_weight_decay.value_or(0));
  require_betas(name, options.adamw_betas);
  require_from_zero(name, "adamw_eps", options.adamw_eps);
  const auto& adjusts = options.adjust_lr_fn;
  if (adjusts && *adjusts != original && *adjusts != match_rms_adamw) {
    throw UsageError("muon: adjust_lr_fn = '" + shown(*adjusts) +
                     "' is not one of original, match_rms_adamw; the nearest is " +
                     nearest(*adjusts, {original, match_rms_adamw}));
  }
}

void MuonKernel::check_parameter(const Options& options, const torch::Tensor& parameter) {
  if (!parameter.is_complex() || !is_orthogonalized(options, parameter)) return;
  throw UsageError("muon: a matrix of " + std::string(c10::toString(parameter.scalar_type())) +
                   " cannot be made orthogonal in bfloat16; put it into a group with use_muon = false");
}

double* MuonKernel::momentum(Options& options) {
  return options.use_muon ? &options.momentum : &options.adamw_betas.first;
}

std::array<torch::Tensor, 4> MuonKernel::make(const Options& options, const torch::Tensor& parameter) {
  if (is_orthogonalized(options, parameter)) return {step_state(parameter), zero_state(parameter), {}, {}};
  return {step_state(parameter), {}, zero_state(parameter), zero_state(parameter)};
}

void MuonKernel::update(const Options& options, KernelLists<4> lists) {
  auto& [steps, buffers, exp_avg, exp_avg_sq] = lists.states;
  count_steps(steps);
  Rest rest;
  for (std::size_t i = 0; i < lists.parameters.size(); ++i) {
    const auto &parameter = lists.parameters[i], &gradient = lists.gradients[i];
    if (!is_orthogonalized(options, parameter)) {
      rest.parameters.push_back(parameter);
      rest.gradients.push_back(gradient);
      rest.exp_avg.push_back(exp_avg[i]);
      rest.exp_avg_sq.push_back(exp_avg_sq[i]);
      rest.steps.push_back(steps[i]);
      continue;
    }
    buffers[i].lerp_(gradient, 1 - options.momentum);
    const auto direction = options.nesterov ? gradient.lerp(buffers[i], options.momentum) : buffers[i];
    const auto step = orthogonalized(direction, options);
    parameter.mul_(1 - options.lr * options.weight_decay);
    parameter.add_(step, -adjusted_rate(options, parameter));
  }
  if (rest.parameters.empty()) return;
  at::_fused_adamw_(rest.parameters, rest.gradients, rest.exp_avg, rest.exp_avg_sq, {}, rest.steps, options.lr,
                    options.adamw_betas.first, options.adamw_betas.second, options.weight_decay, options.adamw_eps,
                    /*amsgrad=*/false, /*maximize=*/false);
}

std::shared_ptr<Muon> muon(Parameters parameters, MuonOptions options) {
  std::vector<MuonGroup> groups(1);
  groups.front().params = std::move(parameters);
  return muon(std::move(groups), std::move(options));
}

std::shared_ptr<Muon> muon(std::vector<MuonGroup> groups, MuonOptions options) {
  options = muon_options({}, std::move(options));
  std::vector<Muon::Group> all;
  for (const auto& group : groups) {
    const auto own = muon_options(group, options);
    Parameters matrices, rest;
    for (const auto& parameter : group.params) {
      const bool is_matrix = parameter.defined() && is_orthogonalized(own, parameter);
      (is_matrix ? matrices : rest).push_back(parameter);
    }
    if (!matrices.empty()) all.emplace_back(std::move(matrices), own);
    if (!rest.empty()) all.emplace_back(std::move(rest), options_of_rest(own));
  }
  return std::make_shared<Muon>(std::move(all), options);
}

std::shared_ptr<Muon> muon(torch::nn::Module& module, NamedGroups<MuonGroup> groups, MuonOptions options) {
  return muon(groups_by_name("muon", module, std::move(groups)), std::move(options));
}

}  // namespace troupe::optim
