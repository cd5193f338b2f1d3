// Schedule-free AdamW.
#pragma once

#include "troupe/modules/optim/evaluation_weights.hpp"
#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/optim/named_groups.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace troupe::optim {

/// Names and defaults are those of the paper's own code (https://github.com/facebookresearch/schedule_free,
/// AdamWScheduleFree).
struct ScheduleFreeAdamwOptions {
  double lr = 0.0025;                              ///< learning rate, >= 0
  std::pair<double, double> betas = {0.9, 0.999};  ///< of the interpolation, in (0, 1), and of the squares, in [0, 1)
  double eps = 1e-8;                               ///< added to the denominator, >= 0
  double weight_decay = 0;                         ///< times lr and the weights that train, >= 0
  int64_t warmup_steps = 0;                        ///< steps over which lr grows from 0, >= 0
  double r = 0;                                    ///< power of the step in the weight of the average, >= 0
  double weight_lr_power = 2;                      ///< power of the largest lr in it, >= 0
};

/// A group of parameters; options that are not set are those of the optimizer.
struct ScheduleFreeAdamwGroup {
  Parameters params = {};
  std::optional<double> lr = std::nullopt;
  std::optional<std::pair<double, double>> betas = std::nullopt;
  std::optional<double> eps = std::nullopt;
  std::optional<double> weight_decay = std::nullopt;
  std::optional<int64_t> warmup_steps = std::nullopt;
  std::optional<double> r = std::nullopt;
  std::optional<double> weight_lr_power = std::nullopt;
};

/// "z" is the paper's; "y" is there while the parameters hold the weights to evaluate, the paper's x, and holds those
/// that train.
struct ScheduleFreeAdamwKernel {
  using Options = ScheduleFreeAdamwOptions;
  static constexpr const char* name = "schedule_free_adamw";
  static constexpr std::array<StateName, 6> states = {{{"step", StateKind::host_number},
                                                       {"weight_sum", StateKind::host_number},
                                                       {"lr_max", StateKind::host_number},
                                                       {"exp_avg_sq"},
                                                       {"z"},
                                                       {"y", StateKind::optional_like_parameter}}};
  static void check(const Options& options);
  static double* momentum(Options&) { return nullptr; }
  static std::array<torch::Tensor, 6> make(const Options& options, const torch::Tensor& parameter);
  static void update(const Options& options, KernelLists<6> lists);
};

/// Schedule-free AdamW (Defazio et al. 2024, "The Road Less Scheduled", https://arxiv.org/abs/2405.15682): no schedule
/// that has to know the end of training, since what is evaluated is an average of all steps. Use it without a
/// scheduler.
///
/// The weights that train and those to evaluate differ (EvaluationWeights). A Trainer puts the right ones in place: a
/// validation, a checkpoint and whoever gets the module after training have those to evaluate.
class ScheduleFreeAdamw final : public KernelOptimizer<ScheduleFreeAdamwKernel>, public EvaluationWeights {
 public:
  using KernelOptimizer::KernelOptimizer;

  /// Throws UsageError between eval() and train().
  torch::Tensor step(LossClosure closure = nullptr) override;
  void eval() override;
  void train() override;
  bool is_evaluating() const override { return is_evaluating_; }

 private:
  void restored() override;

  bool is_evaluating_ = false;
};

template <>
struct OptimizerClass<ScheduleFreeAdamwKernel> {
  using type = ScheduleFreeAdamw;
};

/// Throw UsageError for an option out of its range.
std::shared_ptr<ScheduleFreeAdamw> schedule_free_adamw(Parameters parameters, ScheduleFreeAdamwOptions options = {});
std::shared_ptr<ScheduleFreeAdamw> schedule_free_adamw(std::vector<ScheduleFreeAdamwGroup> groups,
                                                       ScheduleFreeAdamwOptions options = {});
std::shared_ptr<ScheduleFreeAdamw> schedule_free_adamw(torch::nn::Module& module,
                                                       NamedGroups<ScheduleFreeAdamwGroup> groups = {},
                                                       ScheduleFreeAdamwOptions options = {});

}  // namespace troupe::optim
