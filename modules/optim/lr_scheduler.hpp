// What every scheduler of the learning rate can do; those that the library brings are in modules/lr_schedulers/.
#pragma once

#include <torch/optim/optimizer.h>
#include <nlohmann/json.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// Changes the learning rates of an optimizer, one for each of its groups, as training goes on. Writing one of your own
/// takes step(), state_dict() and load_state_dict().
class LRScheduler {
 public:
  explicit LRScheduler(std::shared_ptr<torch::optim::Optimizer> optimizer) : optimizer_(std::move(optimizer)) {}
  virtual ~LRScheduler() = default;

  /// An epoch, or a step of the optimizer, has passed: as LRSchedulerConfig::interval says.
  virtual void step() = 0;
  /// The same for one that looks at a metric; the default ignores it.
  virtual void step(double metric) {
    (void)metric;
    step();
  }
  /// Whether it wants step(metric): then LRSchedulerConfig::monitor names the metric.
  virtual bool needs_metric() const { return false; }

  /// Learning rates in use, one for each group of the optimizer's.
  std::vector<double> last_lr() const {
    std::vector<double> rates;
    for (const auto& group : optimizer_->param_groups()) rates.push_back(group.options().get_lr());
    return rates;
  }
  const std::shared_ptr<torch::optim::Optimizer>& optimizer() const { return optimizer_; }

  /// State to store in a checkpoint.
  virtual nlohmann::json state_dict() const = 0;
  /// Gets back what state_dict returned. The value comes from a file: throws UsageError if it is wrong, and then
  /// nothing has changed. The learning rates themselves come back with the optimizer's state.
  virtual void load_state_dict(const nlohmann::json& state) = 0;

 private:
  std::shared_ptr<torch::optim::Optimizer> optimizer_;
};

/// When a scheduler moves on. Names and defaults are those of Lightning's lr_scheduler_config.
struct LRSchedulerConfig {
  enum class Interval { epoch, step };

  std::shared_ptr<LRScheduler> scheduler = nullptr;
  /// At the end of an epoch of training, or after every step of the optimizer.
  Interval interval = Interval::epoch;
  /// After this many epochs or steps, at least 1. With Interval::step these are the optimizer's steps since training
  /// began: a window of accumulated batches counts once, and the count goes on over the end of an epoch. Lightning
  /// counts the batches of the epoch there, so with a frequency that does not divide them its schedule begins anew in
  /// each epoch.
  int64_t frequency = 1;
  /// The metric for a scheduler that needs one.
  std::string monitor = "val_loss";
  /// A metric that is not there when it is wanted ends the run; false: a warning, and the scheduler stays where it is.
  bool strict = true;
  /// For LearningRateMonitor; empty: "lr-<class of the optimizer>".
  std::string name = {};
};

}  // namespace troupe
