// Schedulers whose rate is a factor of the epoch.
#pragma once

#include "troupe/modules/lr_schedulers/schedule.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

// Names and defaults are PyTorch's; each links to https://pytorch.org/docs/stable/optim.html. All throw UsageError for
// invalid options.
namespace troupe::lr_schedulers {

/// A factor for the epoch (0, 1, ...). One for all groups, or one each.
using Factor = std::function<double(int64_t epoch)>;

struct LambdaOptions {
  std::vector<Factor> lr_lambda;
};
/// LambdaLR: the first rate times lr_lambda(epoch). Functions are not stored in checkpoints.
std::shared_ptr<Schedule> lambda(Optimizer optimizer, Factor lr_lambda);
std::shared_ptr<Schedule> lambda(Optimizer optimizer, LambdaOptions options);

/// MultiplicativeLR: the last rate times lr_lambda(epoch), from epoch 1 on.
std::shared_ptr<Schedule> multiplicative(Optimizer optimizer, Factor lr_lambda);
std::shared_ptr<Schedule> multiplicative(Optimizer optimizer, LambdaOptions options);

struct StepOptions {
  int64_t step_size = 1;  ///< epochs between two decays, at least 1
  double gamma = 0.1;     ///< factor of a decay
};
/// StepLR: times gamma every step_size epochs.
std::shared_ptr<Schedule> step(Optimizer optimizer, StepOptions options);

struct MultiStepOptions {
  std::vector<int64_t> milestones;  ///< epochs of decays; one that stands n times decays n times
  double gamma = 0.1;
};
/// MultiStepLR: times gamma at each milestone.
std::shared_ptr<Schedule> multi_step(Optimizer optimizer, MultiStepOptions options);

struct ConstantOptions {
  double factor = 1.0 / 3;  ///< in [0, 1]
  int64_t total_iters = 5;  ///< epochs with the factor
};
/// ConstantLR: the rate times factor until epoch total_iters.
std::shared_ptr<Schedule> constant(Optimizer optimizer, ConstantOptions options = {});

struct LinearOptions {
  double start_factor = 1.0 / 3;  ///< in (0, 1]
  double end_factor = 1.0;        ///< in [0, 1]
  int64_t total_iters = 5;        ///< epochs from one to the other
};
/// LinearLR: a factor that changes linearly.
std::shared_ptr<Schedule> linear(Optimizer optimizer, LinearOptions options = {});

struct ExponentialOptions {
  double gamma = 0.1;
};
/// ExponentialLR: times gamma each epoch.
std::shared_ptr<Schedule> exponential(Optimizer optimizer, ExponentialOptions options);

struct PolynomialOptions {
  int64_t total_iters = 5;  ///< epochs to zero, at least 1
  double power = 1.0;
};
/// PolynomialLR: the first rate times (1 - epoch / total_iters) ^ power.
std::shared_ptr<Schedule> polynomial(Optimizer optimizer, PolynomialOptions options = {});

struct CosineAnnealingOptions {
  int64_t T_max = 1;   ///< epochs of half a period, at least 1
  double eta_min = 0;  ///< the lowest rate
};
/// CosineAnnealingLR (Loshchilov & Hutter 2017, without its restarts).
std::shared_ptr<Schedule> cosine_annealing(Optimizer optimizer, CosineAnnealingOptions options);

}  // namespace troupe::lr_schedulers
