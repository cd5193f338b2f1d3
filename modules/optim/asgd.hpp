// Averaged stochastic gradient descent on LibTorch's foreach kernels.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/optim/named_groups.hpp"

#include <array>
#include <memory>
#include <optional>
#include <vector>

namespace troupe::optim {

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/generated/torch.optim.ASGD.html).
struct AsgdOptions {
  double lr = 1e-2;         ///< learning rate, >= 0
  double lambd = 1e-4;      ///< decay of the parameters, >= 0
  double alpha = 0.75;      ///< power of the fall of the learning rate, >= 0
  double t0 = 1e6;          ///< averages begin after this many steps, >= 0
  double weight_decay = 0;  ///< added to the gradient, >= 0
  bool maximize = false;    ///< go up the gradient
};

/// A group of parameters; options that are not set are those of the optimizer.
struct AsgdGroup {
  Parameters params = {};
  std::optional<double> lr = std::nullopt;
  std::optional<double> lambd = std::nullopt;
  std::optional<double> alpha = std::nullopt;
  std::optional<double> t0 = std::nullopt;
  std::optional<double> weight_decay = std::nullopt;
  std::optional<bool> maximize = std::nullopt;
};

struct AsgdKernel {
  using Options = AsgdOptions;
  static constexpr const char* name = "asgd";
  static constexpr std::array<StateName, 4> states = {
      {{"step", StateKind::host_number}, {"eta", StateKind::host_number}, {"mu", StateKind::host_number}, {"ax"}}};
  static void check(const Options& options);
  static double* momentum(Options&) { return nullptr; }
  static std::array<torch::Tensor, 4> make(const Options& options, const torch::Tensor& parameter);
  static void update(const Options& options, KernelLists<4> lists);
};

/// Averaged stochastic gradient descent (Polyak & Juditsky 1992). Steps are those of torch.optim.ASGD; the averages
/// are the state "ax".
using ForeachAsgd = KernelOptimizer<AsgdKernel>;

/// Throw UsageError for an option out of its range.
std::shared_ptr<ForeachAsgd> asgd(Parameters parameters, AsgdOptions options = {});
std::shared_ptr<ForeachAsgd> asgd(std::vector<AsgdGroup> groups, AsgdOptions options = {});
std::shared_ptr<ForeachAsgd> asgd(torch::nn::Module& module, NamedGroups<AsgdGroup> groups = {},
                                  AsgdOptions options = {});

}  // namespace troupe::optim
