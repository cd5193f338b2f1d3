// Stochastic gradient descent on LibTorch's fused kernel.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/optim/named_groups.hpp"

#include <memory>
#include <optional>
#include <vector>

namespace troupe::optim {

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/generated/torch.optim.SGD.html).
struct SgdOptions {
  double lr = 1e-3;         ///< learning rate, >= 0
  double momentum = 0;      ///< >= 0
  double dampening = 0;     ///< of the momentum
  double weight_decay = 0;  ///< added to the gradient, >= 0
  bool nesterov = false;    ///< needs a momentum and no dampening (Sutskever et al. 2013)
  bool maximize = false;    ///< go up the gradient
};

/// A group of parameters; options that are not set are those of the optimizer.
struct SgdGroup {
  Parameters params = {};
  std::optional<double> lr = std::nullopt;
  std::optional<double> momentum = std::nullopt;
  std::optional<double> dampening = std::nullopt;
  std::optional<double> weight_decay = std::nullopt;
  std::optional<bool> nesterov = std::nullopt;
  std::optional<bool> maximize = std::nullopt;
};

struct SgdKernel {
  using Options = SgdOptions;
  static constexpr const char* name = "sgd";
  static constexpr std::array<StateName, 1> states = {{{"momentum_buffer"}}};
  static bool has_state(const Options& options, std::size_t) { return options.momentum != 0; }
  static void check(const Options& options);
  static double* momentum(Options& options) { return &options.momentum; }
  /// The buffer is made by the first step.
  static std::array<torch::Tensor, 1> make(const Options&, const torch::Tensor&) { return {}; }
  static void update(const Options& options, KernelLists<1> lists);
};

/// One or two calls of `at::_fused_sgd_` a step and group. Steps are those of torch.optim.SGD.
using FusedSgd = KernelOptimizer<SgdKernel>;

std::shared_ptr<FusedSgd> sgd(Parameters parameters, SgdOptions options = {});
std::shared_ptr<FusedSgd> sgd(std::vector<SgdGroup> groups, SgdOptions options = {});
std::shared_ptr<FusedSgd> sgd(torch::nn::Module& module, NamedGroups<SgdGroup> groups = {}, SgdOptions options = {});

}  // namespace troupe::optim
