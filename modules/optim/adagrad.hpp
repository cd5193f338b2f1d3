// Adagrad on LibTorch's fused kernel.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/optim/named_groups.hpp"

#include <memory>
#include <optional>
#include <vector>

namespace troupe::optim {

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/generated/torch.optim.Adagrad.html).
struct AdagradOptions {
  double lr = 1e-2;                      ///< learning rate, >= 0
  double lr_decay = 0;                   ///< >= 0
  double weight_decay = 0;               ///< added to the gradient, >= 0
  double initial_accumulator_value = 0;  ///< of the sum of squares, >= 0
  double eps = 1e-10;                    ///< added to the denominator, >= 0
  bool maximize = false;                 ///< go up the gradient
};

/// A group of parameters; options that are not set are those of the optimizer.
struct AdagradGroup {
  Parameters params = {};
  std::optional<double> lr = std::nullopt;
  std::optional<double> lr_decay = std::nullopt;
  std::optional<double> weight_decay = std::nullopt;
  std::optional<double> initial_accumulator_value = std::nullopt;
  std::optional<double> eps = std::nullopt;
  std::optional<bool> maximize = std::nullopt;
};

struct AdagradKernel {
  using Options = AdagradOptions;
  static constexpr const char* name = "adagrad";
  static constexpr std::array<StateName, 2> states = {{{"step", StateKind::step}, {"sum"}}};
  static void check(const Options& options);
  static double* momentum(Options&) { return nullptr; }
  static std::array<torch::Tensor, 2> make(const Options& options, const torch::Tensor& parameter);
  static void update(const Options& options, KernelLists<2> lists);
};

/// Adagrad (Duchi et al. 2011): one call of `at::_fused_adagrad_` a step and group on the CPU, of foreach kernels
/// elsewhere. Steps are those of torch.optim.Adagrad.
using FusedAdagrad = KernelOptimizer<AdagradKernel>;

std::shared_ptr<FusedAdagrad> adagrad(Parameters parameters, AdagradOptions options = {});
std::shared_ptr<FusedAdagrad> adagrad(std::vector<AdagradGroup> groups, AdagradOptions options = {});
std::shared_ptr<FusedAdagrad> adagrad(torch::nn::Module& module, NamedGroups<AdagradGroup> groups = {},
                                      AdagradOptions options = {});

}  // namespace troupe::optim
