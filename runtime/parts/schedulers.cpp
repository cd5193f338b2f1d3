// The schedulers that `--scheduler` can name.
#include "troupe/modules/lr_schedulers/combined.hpp"
#include "troupe/modules/lr_schedulers/cycles.hpp"
#include "troupe/modules/lr_schedulers/decay.hpp"
#include "troupe/modules/lr_schedulers/plateau.hpp"
#include "troupe/runtime/parts/parts.hpp"

namespace troupe::lr_schedulers {

TROUPE_OPTIONS(StepOptions, (step_size, "epochs between two decays"), (gamma, "factor of a decay"))
TROUPE_OPTIONS(MultiStepOptions, (milestones, "epochs of decays"), (gamma, "factor of a decay"))
TROUPE_OPTIONS(ConstantOptions, (factor, "of the rate"), (total_iters, "epochs with the factor"))
TROUPE_OPTIONS(LinearOptions, (start_factor, "first factor of the rate"), (end_factor, "last factor of the rate"),
               (total_iters, "epochs from one to the other"))
TROUPE_OPTIONS(ExponentialOptions, (gamma, "factor of an epoch"))
TROUPE_OPTIONS(PolynomialOptions, (total_iters, "epochs to zero"), (power, "of the share of epochs that are left"))
TROUPE_OPTIONS(CosineAnnealingWarmRestartsOptions, (T_0, "epochs to the first restart"),
               (T_mult, "factor of the epochs between restarts"), (eta_min, "lowest rate"))
TROUPE_OPTIONS(CyclicOptions, (base_lr, "lowest rate, one for all groups or one each"), (max_lr, "highest rate"),
               (step_size_up, "steps up"), (step_size_down, "steps down; none: as many as up"),
               (mode, "heights of the cycles: alike, each half of the last, gamma ^ step"),
               (gamma, "of exp_range: gamma ^ step"), (cycle_momentum, "momentum goes down when the rate goes up"),
               (base_momentum, "lowest momentum"), (max_momentum, "highest momentum"))
TROUPE_OPTIONS(OneCycleOptions, (max_lr, "highest rate; empty: the optimizer's"),
               (total_steps, "of the cycle; 0: epochs * steps_per_epoch, or else the run's"), (epochs, "of the cycle"),
               (steps_per_epoch, "optimizer steps in each of them"),
               (pct_start, "share of the cycle in which the rate grows"),
               (anneal_strategy, "way from one rate to the next"),
               (cycle_momentum, "momentum goes down when the rate goes up"), (base_momentum, "lowest momentum"),
               (max_momentum, "highest momentum"), (div_factor, "the first rate is max_lr / div_factor"),
               (final_div_factor, "the last rate is the first / final_div_factor"),
               (three_phase, "down to the first rate, then to the last"))
TROUPE_OPTIONS(ReduceOnPlateauOptions, (mode, "which values of the metric are better"), (factor, "of a decay"),
               (patience, "epochs without improvement that are borne"),
               (threshold, "smaller improvements do not count"),
               (threshold_mode, "rel: of the best value; abs: as it is"),
               (cooldown, "epochs after a decay that are not counted"), (min_lr, "lowest rate"),
               (eps, "smaller changes of a rate are not made"))
TROUPE_OPTIONS(WarmupOptions, (warmup_steps, "steps from start_factor to the whole rate"),
               (start_factor, "first factor of the rate"))

}  // namespace troupe::lr_schedulers

namespace troupe {

namespace {

/// CosineAnnealingOptions for whoever does not know how long the run is.
struct NamedCosineOptions {
  std::optional<int64_t> T_max = std::nullopt;
  double eta_min = 0;
};
TROUPE_OPTIONS(NamedCosineOptions, (T_max, "epochs of half a period; none: those of the run"), (eta_min, "lowest rate"))

/// How often the scheduler moves on in the whole run.
int64_t moves_in_run(const std::string& scheduler, const std::string& option, const SchedulerTiming& timing,
                     const RunContext& run) {
  const bool by_step = timing.interval == LRSchedulerConfig::Interval::step;
  const auto length = by_step ? run.estimated_stepping_batches() : run.options().max_epochs;
  if (!length || *length < 0) {
    throw UsageError("scheduler = " + scheduler + " lasts as long as the run, which has no end that is known in " +
                     (by_step ? "steps" : "epochs") + ": give scheduler." + option);
  }
  return std::max<int64_t>(1, *length / std::max<int64_t>(1, timing.frequency));
}

std::vector<double> rates_of(torch::optim::Optimizer& optimizer) {
  std::vector<double> rates;
  for (const auto& group : optimizer.param_groups()) rates.push_back(group.options().get_lr());
  return rates;
}

/// A scheduler out of its optimizer and its options.
template <class Options, class Make>
void add_plain_scheduler(SchedulerRegistry& registry, PartInfo info, Make make, SchedulerTiming timing = {}) {
  parts_detail::add_scheduler<Options>(
      registry, std::move(info),
      [make](const OptimizerPtr& optimizer, const Options& options, const SchedulerTiming&,
             const RunContext&) -> std::shared_ptr<LRScheduler> { return make(optimizer, options); },
      {}, timing);
}

void add_schedulers(SchedulerRegistry& registry) {
  using namespace lr_schedulers;
  const SchedulerTiming by_steps{.interval = LRSchedulerConfig::Interval::step};
  add_plain_scheduler<StepOptions>(registry, {"step", "times gamma every step_size epochs", {"step_lr"}},
                                   [](const Optimizer& o, const StepOptions& options) { return step(o, options); });
  add_plain_scheduler<MultiStepOptions>(
      registry, {"multi_step", "times gamma at each milestone", {"multi_step_lr"}},
      [](const Optimizer& o, const MultiStepOptions& options) { return multi_step(o, options); });
  add_plain_scheduler<ConstantOptions>(
      registry, {"constant", "the rate times factor, then the rate", {"constant_lr"}},
      [](const Optimizer& o, const ConstantOptions& options) { return constant(o, options); });
  add_plain_scheduler<LinearOptions>(
      registry, {"linear", "the rate times a factor that changes linearly", {"linear_lr"}},
      [](const Optimizer& o, const LinearOptions& options) { return linear(o, options); });
  add_plain_scheduler<ExponentialOptions>(
      registry, {"exponential", "times gamma each epoch", {"exponential_lr"}},
      [](const Optimizer& o, const ExponentialOptions& options) { return exponential(o, options); });
  add_plain_scheduler<PolynomialOptions>(
      registry, {"polynomial", "down to zero by a power", {"polynomial_lr"}},
      [](const Optimizer& o, const PolynomialOptions& options) { return polynomial(o, options); });
  parts_detail::add_scheduler<NamedCosineOptions>(
      registry, {"cosine_annealing", "down to eta_min along half a cosine", {"cosine", "cosine_annealing_lr"}},
      [](const Optimizer& o, const NamedCosineOptions& options, const SchedulerTiming& timing,
         const RunContext& run) -> std::shared_ptr<LRScheduler> {
        const int64_t most = options.T_max ? *options.T_max : moves_in_run("cosine_annealing", "T_max", timing, run);
        return cosine_annealing(o, {.T_max = most, .eta_min = options.eta_min});
      });
  add_plain_scheduler<CosineAnnealingWarmRestartsOptions>(
      registry,
      {"cosine_annealing_warm_restarts", "half a cosine, again and again", {"cosine_warm_restarts", "warm_restarts"}},
      [](const Optimizer& o, const CosineAnnealingWarmRestartsOptions& options) {
        return cosine_annealing_warm_restarts(o, options);
      });
  add_plain_scheduler<CyclicOptions>(
      registry, {"cyclic", "up and down between two rates", {"cyclic_lr"}},
      [](const Optimizer& o, const CyclicOptions& options) { return cyclic(o, options); }, by_steps);
  parts_detail::add_scheduler<OneCycleOptions>(
      registry, {"one_cycle", "up to max_lr, then far down", {"one_cycle_lr"}},
      [](const Optimizer& o, OneCycleOptions options, const SchedulerTiming& timing,
         const RunContext& run) -> std::shared_ptr<LRScheduler> {
        if (options.max_lr.empty()) options.max_lr = rates_of(*o);
        const bool is_open = options.total_steps == 0 && options.epochs == 0 && options.steps_per_epoch == 0;
        if (is_open) options.total_steps = moves_in_run("one_cycle", "total_steps", timing, run);
        return one_cycle(o, options);
      },
      {}, by_steps);
  add_plain_scheduler<ReduceOnPlateauOptions>(
      registry, {"reduce_on_plateau", "down when a metric gets no better", {"reduce_lr_on_plateau", "plateau"}},
      [](const Optimizer& o, const ReduceOnPlateauOptions& options) { return reduce_on_plateau(o, options); });
  add_plain_scheduler<WarmupOptions>(
      registry, {"linear_warmup", "up to the optimizer's rate, which stays", {"warmup"}},
      [](const Optimizer& o, const WarmupOptions& options) { return linear_warmup(o, options); }, by_steps);
}

}  // namespace

SchedulerRegistry& scheduler_registry() {
  static SchedulerRegistry registry("scheduler");
  static const bool is_filled = (add_schedulers(registry), true);
  (void)is_filled;
  return registry;
}

}  // namespace troupe
