// Resilient back-propagation on LibTorch's foreach kernels.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/optim/named_groups.hpp"

#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace troupe::optim {

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/generated/torch.optim.Rprop.html).
struct RpropOptions {
  double lr = 1e-2;                                   ///< the first step of each element, >= 0
  std::pair<double, double> etas = {0.5, 1.2};        ///< shrinks and grows a step: in (0, 1), and above 1
  std::pair<double, double> step_sizes = {1e-6, 50};  ///< smallest and largest step
  bool maximize = false;                              ///< go up the gradient
};

/// A group of parameters; options that are not set are those of the optimizer.
struct RpropGroup {
  Parameters params = {};
  std::optional<double> lr = std::nullopt;
  std::optional<std::pair<double, double>> etas = std::nullopt;
  std::optional<std::pair<double, double>> step_sizes = std::nullopt;
  std::optional<bool> maximize = std::nullopt;
};

struct RpropKernel {
  using Options = RpropOptions;
  static constexpr const char* name = "rprop";
  static constexpr std::array<StateName, 3> states = {{{"step", StateKind::host_number}, {"prev"}, {"step_size"}}};
  static void check(const Options& options);
  static double* momentum(Options&) { return nullptr; }
  static std::array<torch::Tensor, 3> make(const Options& options, const torch::Tensor& parameter);
  static void update(const Options& options, KernelLists<3> lists);
};

/// Rprop (Riedmiller & Braun 1993): steps by the sign of the gradient, for batches that are the whole data. Steps are
/// those of torch.optim.Rprop. The learning rate counts before the first step alone.
using ForeachRprop = KernelOptimizer<RpropKernel>;

/// Throw UsageError for an option out of its range.
std::shared_ptr<ForeachRprop> rprop(Parameters parameters, RpropOptions options = {});
std::shared_ptr<ForeachRprop> rprop(std::vector<RpropGroup> groups, RpropOptions options = {});
std::shared_ptr<ForeachRprop> rprop(torch::nn::Module& module, NamedGroups<RpropGroup> groups = {},
                                    RpropOptions options = {});

}  // namespace troupe::optim
