// NAdam on LibTorch's foreach kernels.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/optim/named_groups.hpp"

#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace troupe::optim {

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/generated/torch.optim.NAdam.html).
struct NadamOptions {
  double lr = 2e-3;                                ///< learning rate, >= 0
  std::pair<double, double> betas = {0.9, 0.999};  ///< decay of the running averages, each in [0, 1)
  double eps = 1e-8;                               ///< added to the denominator, >= 0
  double weight_decay = 0;                         ///< added to the gradient, >= 0
  double momentum_decay = 4e-3;                    ///< of the schedule of the momentum, >= 0
  bool decoupled_weight_decay = false;             ///< take the decay off the parameter, times lr, as AdamW does
  bool maximize = false;                           ///< go up the gradient
};

/// A group of parameters; options that are not set are those of the optimizer.
struct NadamGroup {
  Parameters params = {};
  std::optional<double> lr = std::nullopt;
  std::optional<std::pair<double, double>> betas = std::nullopt;
  std::optional<double> eps = std::nullopt;
  std::optional<double> weight_decay = std::nullopt;
  std::optional<double> momentum_decay = std::nullopt;
  std::optional<bool> decoupled_weight_decay = std::nullopt;
  std::optional<bool> maximize = std::nullopt;
};

struct NadamKernel {
  using Options = NadamOptions;
  static constexpr const char* name = "nadam";
  static constexpr std::array<StateName, 4> states = {
      {{"step", StateKind::host_number}, {"mu_product", StateKind::host_number}, {"exp_avg"}, {"exp_avg_sq"}}};
  static void check(const Options& options);
  static double* momentum(Options& options) { return &options.betas.first; }
  static std::array<torch::Tensor, 4> make(const Options& options, const torch::Tensor& parameter);
  static void update(const Options& options, KernelLists<4> lists);
};

/// NAdam (Dozat 2016, "Incorporating Nesterov Momentum into Adam"). Steps are those of torch.optim.NAdam.
using ForeachNadam = KernelOptimizer<NadamKernel>;

/// Throw UsageError for an option out of its range.
std::shared_ptr<ForeachNadam> nadam(Parameters parameters, NadamOptions options = {});
std::shared_ptr<ForeachNadam> nadam(std::vector<NadamGroup> groups, NadamOptions options = {});
std::shared_ptr<ForeachNadam> nadam(torch::nn::Module& module, NamedGroups<NadamGroup> groups = {},
                                    NadamOptions options = {});

}  // namespace troupe::optim
