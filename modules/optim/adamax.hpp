// Adamax on LibTorch's foreach kernels.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/optim/named_groups.hpp"

#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace troupe::optim {

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/generated/torch.optim.Adamax.html).
struct AdamaxOptions {
  double lr = 2e-3;                                ///< learning rate, >= 0
  std::pair<double, double> betas = {0.9, 0.999};  ///< decay of the running averages, each in [0, 1)
  double eps = 1e-8;                               ///< added to the denominator, >= 0
  double weight_decay = 0;                         ///< added to the gradient, >= 0
  bool maximize = false;                           ///< go up the gradient
};

/// A group of parameters; options that are not set are those of the optimizer.
struct AdamaxGroup {
  Parameters params = {};
  std::optional<double> lr = std::nullopt;
  std::optional<std::pair<double, double>> betas = std::nullopt;
  std::optional<double> eps = std::nullopt;
  std::optional<double> weight_decay = std::nullopt;
  std::optional<bool> maximize = std::nullopt;
};

struct AdamaxKernel {
  using Options = AdamaxOptions;
  static constexpr const char* name = "adamax";
  static constexpr std::array<StateName, 3> states = {{{"step", StateKind::host_number}, {"exp_avg"}, {"exp_inf"}}};
  static void check(const Options& options);
  static double* momentum(Options& options) { return &options.betas.first; }
  static std::array<torch::Tensor, 3> make(const Options& options, const torch::Tensor& parameter);
  static void update(const Options& options, KernelLists<3> lists);
};

/// Adamax (Kingma & Ba 2015, section 7.1): Adam by the infinity norm. Steps are those of torch.optim.Adamax.
using ForeachAdamax = KernelOptimizer<AdamaxKernel>;

/// Throw UsageError for an option out of its range.
std::shared_ptr<ForeachAdamax> adamax(Parameters parameters, AdamaxOptions options = {});
std::shared_ptr<ForeachAdamax> adamax(std::vector<AdamaxGroup> groups, AdamaxOptions options = {});
std::shared_ptr<ForeachAdamax> adamax(torch::nn::Module& module, NamedGroups<AdamaxGroup> groups = {},
                                      AdamaxOptions options = {});

}  // namespace troupe::optim
