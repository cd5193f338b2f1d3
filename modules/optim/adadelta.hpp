// Adadelta on LibTorch's foreach kernels.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/optim/named_groups.hpp"

#include <array>
#include <memory>
#include <optional>
#include <vector>

namespace troupe::optim {

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/generated/torch.optim.Adadelta.html).
struct AdadeltaOptions {
  double lr = 1;            ///< learning rate, >= 0
  double rho = 0.9;         ///< decay of the mean squares, in [0, 1]
  double eps = 1e-6;        ///< added to the denominator, >= 0
  double weight_decay = 0;  ///< added to the gradient, >= 0
  bool maximize = false;    ///< go up the gradient
};

/// A group of parameters; options that are not set are those of the optimizer.
struct AdadeltaGroup {
  Parameters params = {};
  std::optional<double> lr = std::nullopt;
  std::optional<double> rho = std::nullopt;
  std::optional<double> eps = std::nullopt;
  std::optional<double> weight_decay = std::nullopt;
  std::optional<bool> maximize = std::nullopt;
};

struct AdadeltaKernel {
  using Options = AdadeltaOptions;
  static constexpr const char* name = "adadelta";
  static constexpr std::array<StateName, 3> states = {
      {{"step", StateKind::host_number}, {"square_avg"}, {"acc_delta"}}};
  static void check(const Options& options);
  static double* momentum(Options&) { return nullptr; }
  static std::array<torch::Tensor, 3> make(const Options& options, const torch::Tensor& parameter);
  static void update(const Options& options, KernelLists<3> lists);
};

/// Adadelta (Zeiler 2012). Steps are those of torch.optim.Adadelta.
using ForeachAdadelta = KernelOptimizer<AdadeltaKernel>;

/// Throw UsageError for an option out of its range.
std::shared_ptr<ForeachAdadelta> adadelta(Parameters parameters, AdadeltaOptions options = {});
std::shared_ptr<ForeachAdadelta> adadelta(std::vector<AdadeltaGroup> groups, AdadeltaOptions options = {});
std::shared_ptr<ForeachAdadelta> adadelta(torch::nn::Module& module, NamedGroups<AdadeltaGroup> groups = {},
                                          AdadeltaOptions options = {});

}  // namespace troupe::optim
