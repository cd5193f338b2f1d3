// RMSprop on LibTorch's foreach kernels.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/optim/named_groups.hpp"

#include <memory>
#include <optional>
#include <vector>

namespace troupe::optim {

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/generated/torch.optim.RMSprop.html).
struct RmspropOptions {
  double lr = 1e-2;         ///< learning rate, >= 0
  double alpha = 0.99;      ///< decay of the mean square, >= 0
  double eps = 1e-8;        ///< added to the denominator, >= 0
  double weight_decay = 0;  ///< added to the gradient, >= 0
  double momentum = 0;      ///< >= 0
  bool centered = false;    ///< divide by the estimated variance (Graves 2013)
  bool maximize = false;    ///< go up the gradient
};

/// A group of parameters; options that are not set are those of the optimizer.
struct RmspropGroup {
  Parameters params = {};
  std::optional<double> lr = std::nullopt;
  std::optional<double> alpha = std::nullopt;
  std::optional<double> eps = std::nullopt;
  std::optional<double> weight_decay = std::nullopt;
  std::optional<double> momentum = std::nullopt;
  std::optional<bool> centered = std::nullopt;
  std::optional<bool> maximize = std::nullopt;
};

struct RmspropKernel {
  using Options = RmspropOptions;
  static constexpr const char* name = "rmsprop";
  static constexpr std::array<StateName, 4> states = {
      {{"step", StateKind::step}, {"square_avg"}, {"momentum_buffer"}, {"grad_avg"}}};
  static bool has_state(const Options& options, std::size_t state) {
    return state < 2 || (state == 2 ? options.momentum > 0 : options.centered);
  }
  static void check(const Options& options);
  static double* momentum(Options& options) { return &options.momentum; }
  static std::array<torch::Tensor, 4> make(const Options& options, const torch::Tensor& parameter);
  static void update(const Options& options, KernelLists<4> lists);
};

/// RMSprop (Tieleman & Hinton 2012, lecture 6e of Coursera's "Neural Networks for Machine Learning"): a handful of
/// foreach calls a step and group. Steps are those of torch.optim.RMSprop.
using ForeachRmsprop = KernelOptimizer<RmspropKernel>;

std::shared_ptr<ForeachRmsprop> rmsprop(Parameters parameters, RmspropOptions options = {});
std::shared_ptr<ForeachRmsprop> rmsprop(std::vector<RmspropGroup> groups, RmspropOptions options = {});
std::shared_ptr<ForeachRmsprop> rmsprop(torch::nn::Module& module, NamedGroups<RmspropGroup> groups = {},
                                        RmspropOptions options = {});

}  // namespace troupe::optim
