// LBFGS is LibTorch's own.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/options/choices.hpp"

#include <torch/optim/lbfgs.h>

#include <cstdint>
#include <memory>
#include <optional>

namespace troupe::optim {

/// How far a step goes along its direction.
enum class LineSearchFn {
  none,          ///< as far as lr says
  strong_wolfe,  ///< until Wolfe's strong conditions hold, from there on
};
// By letters "wolfe" is nearest to "none".
TROUPE_CHOICES(LineSearchFn, {none, "none"}, {strong_wolfe, "strong_wolfe"},
               {strong_wolfe, "wolfe", ::troupe::ChoiceUse::suggested})

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/generated/torch.optim.LBFGS.html).
struct LbfgsOptions {
  double lr = 1;
  int64_t max_iter = 20;                           ///< iterations a step, at least 1
  std::optional<int64_t> max_eval = std::nullopt;  ///< calls of the closure a step; unset: max_iter * 5 / 4
  double tolerance_grad = 1e-7;                    ///< ends a step by the largest gradient
  double tolerance_change = 1e-9;                  ///< ends a step by the change of the loss or the parameters
  int64_t history_size = 100;                      ///< at least 1
  LineSearchFn line_search_fn = LineSearchFn::none;
};

/// Limited-memory BFGS (Liu & Nocedal 1989): an optimizer that evaluates the loss several times a step, all parameters
/// in one group. Throws UsageError for an option out of its range.
std::shared_ptr<torch::optim::LBFGS> lbfgs(Parameters parameters, LbfgsOptions options = {});

}  // namespace troupe::optim
