#include "troupe/modules/callbacks/learning_rate_monitor.hpp"

#include "troupe/modules/lr_schedulers/schedule.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/optim/optimizer_name.hpp"

#include <map>

namespace troupe {

void LearningRateMonitor::on_train_epoch_start(RunContext& run, Module&) {
  log(run, /*by_step=*/false);
}

void LearningRateMonitor::on_train_batch_start(RunContext& run, Module&, const Batch&, int64_t) {
  log(run, /*by_step=*/true);
}

void LearningRateMonitor::log(RunContext& run, bool by_step) const {
  const auto& optimizers = run.optimizers();
  std::map<std::string, int> seen;
  for (const auto& optimizer : optimizers) {
    std::string name = "lr-" + optim::optimizer_name(*optimizer);
    if (const int before = seen[name]++; before > 0) name += "-" + std::to_string(before);
    bool is_by_step = options_.logging_interval != LoggingInterval::epoch;
    for (const auto& config : optimizers.lr_schedulers()) {
      if (config.scheduler->optimizer() != optimizer) continue;
      if (!config.name.empty()) name = config.name;
      if (options_.logging_interval == LoggingInterval::automatic) {
        is_by_step = config.interval == LRSchedulerConfig::Interval::step;
      }
    }
    if (is_by_step != by_step) continue;
    // Rank zero's: the rates are those of all, and a callback may be on one of several devices alone.
    const LogOptions how{.on_step = by_step, .on_epoch = !by_step, .sync_dist = false};
    auto& groups = optimizer->param_groups();
    for (std::size_t i = 0; i < groups.size(); ++i) {
      const auto own = groups.size() > 1 ? name + "/pg" + std::to_string(i + 1) : name;
      run.log(own, groups[i].options().get_lr(), how);
      const auto momentum = options_.log_momentum ? lr_schedulers::momentum_of(groups[i]) : std::nullopt;
      if (momentum) run.log(own + "-momentum", *momentum, how);
    }
  }
}

}  // namespace troupe
