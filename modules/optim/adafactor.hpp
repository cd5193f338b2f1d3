// Adafactor, whose states are rows and columns.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/optim/named_groups.hpp"

#include <array>
#include <memory>
#include <optional>
#include <vector>

namespace troupe::optim {

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/generated/torch.optim.Adafactor.html).
struct AdafactorOptions {
  double lr = 1e-2;           ///< bound of the rate, which falls with the root of the steps; >= 0
  double beta2_decay = -0.8;  ///< power of the step in the decay of the squares, <= 0
  double eps = 1e-3;          ///< least scale of a parameter, >= 0: PyTorch's eps[1]
  double d = 1;               ///< the step is clipped to this root mean square, >= 1
  double weight_decay = 0;    ///< share of a parameter that a step takes off, times lr; >= 0
  bool maximize = false;      ///< go up the gradient
};

/// A group of parameters; options that are not set are those of the optimizer.
struct AdafactorGroup {
  Parameters params = {};
  std::optional<double> lr = std::nullopt;
  std::optional<double> beta2_decay = std::nullopt;
  std::optional<double> eps = std::nullopt;
  std::optional<double> d = std::nullopt;
  std::optional<double> weight_decay = std::nullopt;
  std::optional<bool> maximize = std::nullopt;
};

struct AdafactorKernel {
  using Options = AdafactorOptions;
  static constexpr const char* name = "adafactor";
  static Shape row_shape(const torch::Tensor& parameter);
  static Shape column_shape(const torch::Tensor& parameter);
  static constexpr std::array<StateName, 4> states = {{{"step", StateKind::host_number},
                                                       {"row_var", StateKind::shaped, &row_shape},
                                                       {"col_var", StateKind::shaped, &column_shape},
                                                       {"variance"}}};
  static void check(const Options& options);
  static double* momentum(Options&) { return nullptr; }
  static constexpr bool mixes_elements = true;
  static bool has_state(const Options&, std::size_t state, const torch::Tensor& parameter);
  static void check_parameter(const Options&, const torch::Tensor& parameter);
  static std::array<torch::Tensor, 4> make(const Options& options, const torch::Tensor& parameter);
  static void update(const Options& options, KernelLists<4> lists);
};

/// Adafactor (Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235): of a tensor with two dimensions or more it keeps
/// the mean squares of rows and columns, so that its memory is a fraction of Adam's. Steps are those of
/// torch.optim.Adafactor, with its eps[0] of None, the precision of the parameter's type. A step looks at all elements
/// of a parameter, so that strategies that divide parameters refuse it.
using ForeachAdafactor = KernelOptimizer<AdafactorKernel>;

/// Throw UsageError for an option out of its range.
std::shared_ptr<ForeachAdafactor> adafactor(Parameters parameters, AdafactorOptions options = {});
std::shared_ptr<ForeachAdafactor> adafactor(std::vector<AdafactorGroup> groups, AdafactorOptions options = {});
std::shared_ptr<ForeachAdafactor> adafactor(torch::nn::Module& module, NamedGroups<AdafactorGroup> groups = {},
                                            AdafactorOptions options = {});

}  // namespace troupe::optim
