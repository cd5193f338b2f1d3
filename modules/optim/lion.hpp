// Lion on LibTorch's foreach kernels.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/optim/named_groups.hpp"

#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace troupe::optim {

/// Names and defaults are those of the paper's own code (https://github.com/google/automl/tree/master/lion).
struct LionOptions {
  double lr = 1e-4;                               ///< learning rate, >= 0
  std::pair<double, double> betas = {0.9, 0.99};  ///< of the step, and of the running average, each in [0, 1)
  double weight_decay = 0;                        ///< share of a parameter that a step takes off, times lr; >= 0
  bool maximize = false;                          ///< go up the gradient
};

/// A group of parameters; options that are not set are those of the optimizer.
struct LionGroup {
  Parameters params = {};
  std::optional<double> lr = std::nullopt;
  std::optional<std::pair<double, double>> betas = std::nullopt;
  std::optional<double> weight_decay = std::nullopt;
  std::optional<bool> maximize = std::nullopt;
};

struct LionKernel {
  using Options = LionOptions;
  static constexpr const char* name = "lion";
  static constexpr std::array<StateName, 1> states = {{{"exp_avg"}}};
  static void check(const Options& options);
  static double* momentum(Options& options) { return &options.betas.first; }
  static std::array<torch::Tensor, 1> make(const Options& options, const torch::Tensor& parameter);
  static void update(const Options& options, KernelLists<1> lists);
};

/// Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", https://arxiv.org/abs/2302.06675): steps
/// by the sign of a running average, one state per parameter. The paper takes a learning rate 3 to 10 times smaller
/// than AdamW's, and a weight decay as many times larger.
using ForeachLion = KernelOptimizer<LionKernel>;

/// Throw UsageError for an option out of its range.
std::shared_ptr<ForeachLion> lion(Parameters parameters, LionOptions options = {});
std::shared_ptr<ForeachLion> lion(std::vector<LionGroup> groups, LionOptions options = {});
std::shared_ptr<ForeachLion> lion(torch::nn::Module& module, NamedGroups<LionGroup> groups = {},
                                  LionOptions options = {});

}  // namespace troupe::optim
