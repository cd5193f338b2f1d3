// Schedulers that go up and down, or begin anew.
#pragma once

#include "troupe/modules/lr_schedulers/schedule.hpp"
#include "troupe/modules/options/choices.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/optim.html). Values for groups are one for all, or
// one each. All throw UsageError for invalid options.
namespace troupe::lr_schedulers {

struct CosineAnnealingWarmRestartsOptions {
  int64_t T_0 = 1;     ///< epochs to the first restart, at least 1
  int64_t T_mult = 1;  ///< factor of the epochs between restarts, at least 1
  double eta_min = 0;  ///< the lowest rate
};
/// CosineAnnealingWarmRestarts: SGDR (Loshchilov & Hutter 2017).
std::shared_ptr<Schedule> cosine_annealing_warm_restarts(Optimizer optimizer,
                                                         CosineAnnealingWarmRestartsOptions options);

/// The heights of cycles.
enum class CyclicMode {
  triangular,   ///< all alike
  triangular2,  ///< each is half of the one before
  exp_range,    ///< gamma ^ step
};
TROUPE_CHOICES(CyclicMode, {triangular, "triangular"}, {triangular2, "triangular2"}, {exp_range, "exp_range"})

enum class CyclicScale {
  cycle,       ///< the number of the cycle, from 1
  iterations,  ///< that of the step, from 0
};
TROUPE_CHOICES(CyclicScale, {cycle, "cycle"}, {iterations, "iterations"})

struct CyclicOptions {
  std::vector<double> base_lr;                 ///< the lowest rate
  std::vector<double> max_lr;                  ///< the highest
  int64_t step_size_up = 2000;                 ///< steps up, at least 1
  std::optional<int64_t> step_size_down = {};  ///< steps down; unset: as many as up
  CyclicMode mode = CyclicMode::triangular;
  double gamma = 1.0;                           ///< of exp_range: gamma ^ step
  std::function<double(double)> scale_fn = {};  ///< instead of `mode`: the height at a cycle or a step
  CyclicScale scale_mode = CyclicScale::cycle;  ///< what scale_fn is given
  bool cycle_momentum = true;                   ///< momentum goes down when the rate goes up
  std::vector<double> base_momentum = {0.8};
  std::vector<double> max_momentum = {0.9};
};
/// CyclicLR (Smith 2017); a step of it is a step of the optimizer's: interval step.
std::shared_ptr<Schedule> cyclic(Optimizer optimizer, CyclicOptions options);

/// The way from one rate to another: half a cosine, or a line.
enum class AnnealStrategy { cos, linear };
TROUPE_CHOICES(AnnealStrategy, {cos, "cos"}, {linear, "linear"})

struct OneCycleOptions {
  std::vector<double> max_lr;  ///< the highest rate
  int64_t total_steps = 0;     ///< of the cycle; 0: epochs * steps_per_epoch
  int64_t epochs = 0;
  int64_t steps_per_epoch = 0;
  double pct_start = 0.3;  ///< share of the cycle in which the rate grows, in [0, 1]
  AnnealStrategy anneal_strategy = AnnealStrategy::cos;
  bool cycle_momentum = true;  ///< momentum goes down when the rate goes up
  std::vector<double> base_momentum = {0.85};
  std::vector<double> max_momentum = {0.95};
  double div_factor = 25;         ///< the first rate is max_lr / div_factor
  double final_div_factor = 1e4;  ///< the last one is the first / final_div_factor
  bool three_phase = false;       ///< down to the first rate, then to the last (Smith & Topin 2018)
};
/// OneCycleLR; a step of it is a step of the optimizer's: interval step. More steps than total_steps throw UsageError.
std::shared_ptr<Schedule> one_cycle(Optimizer optimizer, OneCycleOptions options);

}  // namespace troupe::lr_schedulers
