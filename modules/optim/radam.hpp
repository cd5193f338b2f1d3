// RAdam on LibTorch's foreach kernels.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/optim/named_groups.hpp"

#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace troupe::optim {

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/generated/torch.optim.RAdam.html).
struct RadamOptions {
  double lr = 1e-3;                                ///< learning rate, >= 0
  std::pair<double, double> betas = {0.9, 0.999};  ///< decay of the running averages, each in [0, 1)
  double eps = 1e-8;                               ///< added to the denominator, >= 0
  double weight_decay = 0;                         ///< added to the gradient, >= 0
  bool decoupled_weight_decay = false;             ///< take the decay off the parameter, times lr, as AdamW does
  bool maximize = false;                           ///< go up the gradient
};

/// A group of parameters; options that are not set are those of the optimizer.
struct RadamGroup {
  Parameters params = {};
  std::optional<double> lr = std::nullopt;
  std::optional<std::pair<double, double>> betas = std::nullopt;
  std::optional<double> eps = std::nullopt;
  std::optional<double> weight_decay = std::nullopt;
  std::optional<bool> decoupled_weight_decay = std::nullopt;
  std::optional<bool> maximize = std::nullopt;
};

struct RadamKernel {
  using Options = RadamOptions;
  static constexpr const char* name = "radam";
  static constexpr std::array<StateName, 3> states = {{{"step", StateKind::host_number}, {"exp_avg"}, {"exp_avg_sq"}}};
  static void check(const Options& options);
  static double* momentum(Options& options) { return &options.betas.first; }
  static std::array<torch::Tensor, 3> make(const Options& options, const torch::Tensor& parameter);
  static void update(const Options& options, KernelLists<3> lists);
};

/// RAdam (Liu et al. 2020, "On the Variance of the Adaptive Learning Rate and Beyond"): Adam whose rate is held back
/// while few gradients tell of their variance. Steps are those of torch.optim.RAdam.
using ForeachRadam = KernelOptimizer<RadamKernel>;

/// Throw UsageError for an option out of its range.
std::shared_ptr<ForeachRadam> radam(Parameters parameters, RadamOptions options = {});
std::shared_ptr<ForeachRadam> radam(std::vector<RadamGroup> groups, RadamOptions options = {});
std::shared_ptr<ForeachRadam> radam(torch::nn::Module& module, NamedGroups<RadamGroup> groups = {},
                                    RadamOptions options = {});

}  // namespace troupe::optim
