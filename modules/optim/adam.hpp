// Adam and AdamW.
#pragma once

#include "troupe/modules/optim/adam_step.hpp"
#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/optim/named_groups.hpp"

#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace troupe::optim {

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/generated/torch.optim.Adam.html).
struct AdamOptions {
  double lr = 1e-3;                                ///< learning rate, >= 0
  std::pair<double, double> betas = {0.9, 0.999};  ///< decay of the running averages, each in [0, 1)
  double eps = 1e-8;                               ///< added to the denominator, >= 0
  double weight_decay = 0;                         ///< added to the gradient, >= 0
  bool amsgrad = false;                            ///< keep the maximum of the second moment (Reddi et al. 2018)
  bool maximize = false;                           ///< go up the gradient
};

/// The same for AdamW (https://pytorch.org/docs/stable/generated/torch.optim.AdamW.html).
struct AdamWOptions {
  double lr = 1e-3;
  std::pair<double, double> betas = {0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 1e-2;  ///< share of a parameter that a step takes off, times lr; >= 0
  bool amsgrad = false;
  bool maximize = false;
};

/// A group of parameters; options that are not set are those of the optimizer.
struct AdamGroup {
  Parameters params = {};
  std::optional<double> lr = std::nullopt;
  std::optional<std::pair<double, double>> betas = std::nullopt;
  std::optional<double> eps = std::nullopt;
  std::optional<double> weight_decay = std::nullopt;
  std::optional<bool> amsgrad = std::nullopt;
  std::optional<bool> maximize = std::nullopt;
};

template <Decay decay>
struct AdamKernel {
  using Options = std::conditional_t<decay == Decay::l2, AdamOptions, AdamWOptions>;
  static constexpr const char* name = decay == Decay::l2 ? "adam" : "adamw";
  static constexpr std::array<StateName, 4> states = {
      {{"step", StateKind::step}, {"exp_avg"}, {"exp_avg_sq"}, {"max_exp_avg_sq"}}};
  static bool has_state(const Options& options, std::size_t state) { return state < 3 || options.amsgrad; }
  static void check(const Options& options);
  static double* momentum(Options& options) { return &options.betas.first; }
  static std::array<torch::Tensor, 4> make(const Options& options, const torch::Tensor& parameter);
  static void update(const Options& options, KernelLists<4> lists);
};

/// Adam (Kingma & Ba 2015): one adam_step() per step and group. Steps are those of torch.optim.Adam(fused=True), to the
/// bit.
using FusedAdam = KernelOptimizer<AdamKernel<Decay::l2>>;
/// AdamW (Loshchilov & Hutter 2019), in the same way.
using FusedAdamW = KernelOptimizer<AdamKernel<Decay::decoupled>>;

std::shared_ptr<FusedAdam> adam(Parameters parameters, AdamOptions options = {});
/// `adam({{.params = backbone, .lr = 1e-5}, {.params = head}}, {.lr = 1e-3})`
std::shared_ptr<FusedAdam> adam(std::vector<AdamGroup> groups, AdamOptions options = {});
/// `adamw(*this, {{"*.bias|*norm*", {.weight_decay = 0}}}, {.lr = 3e-4})` (NamedGroup)
std::shared_ptr<FusedAdam> adam(torch::nn::Module& module, NamedGroups<AdamGroup> groups = {},
                                AdamOptions options = {});
std::shared_ptr<FusedAdamW> adamw(Parameters parameters, AdamWOptions options = {});
std::shared_ptr<FusedAdamW> adamw(std::vector<AdamGroup> groups, AdamWOptions options = {});
std::shared_ptr<FusedAdamW> adamw(torch::nn::Module& module, NamedGroups<AdamGroup> groups = {},
                                  AdamWOptions options = {});

}  // namespace troupe::optim
