// What configure_optimizers returns.
#pragma once

#include "troupe/modules/optim/lr_scheduler.hpp"

#include <torch/optim/optimizer.h>

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace troupe {

using OptimizerPtr = std::shared_ptr<torch::optim::Optimizer>;

/// One of several optimizers, with what belongs to it.
struct OptimizerConfig {
  OptimizerPtr optimizer = nullptr;
  std::optional<LRSchedulerConfig> lr_scheduler = std::nullopt;
  /// Batches in a row that this optimizer gets before it is the next one's turn; 0, then for all: every optimizer sees
  /// every batch.
  int64_t frequency = 0;
};

/// The optimizers and their schedulers; none: nothing is trained, with a warning. LibTorch's own are taken as they are.
/// With LibTorch 2.15 an option of one of their groups that equals the start value of its class (SGDOptions(1e-3))
/// takes the optimizer's default, and a group of an optimizer class of your own gets the defaults whatever it says;
/// with 2.11, and in troupe::optim, a group keeps what it says.
///
///     return optim::adam(parameters(), {.lr = 1e-3});
///     return torch::optim::SGD(parameters(), 0.1);
///     return {optimizer, lr_schedulers::step(optimizer, {.step_size = 10})};
///     return {generator, discriminator};
///     return {{.optimizer = generator, .frequency = 1}, {.optimizer = critic, .frequency = 5}};
///     return {};
class Optimizers {
 public:
  Optimizers() = default;
  template <std::derived_from<torch::optim::Optimizer> O>
  Optimizers(std::shared_ptr<O> optimizer) : list_{std::move(optimizer)} {}
  template <std::derived_from<torch::optim::Optimizer> O>
  Optimizers(std::unique_ptr<O> optimizer) : list_{OptimizerPtr(std::move(optimizer))} {}
  template <class O>
  requires std::derived_from<std::remove_cvref_t<O>, torch::optim::Optimizer> Optimizers(O&& optimizer)
      : list_{std::make_shared<std::remove_cvref_t<O>>(std::forward<O>(optimizer))} {}
  Optimizers(std::initializer_list<OptimizerPtr> list) : list_(list) {}

  /// One with its scheduler, which moves on after every epoch, or as the configuration says.
  template <std::derived_from<torch::optim::Optimizer> O, std::derived_from<LRScheduler> S>
  Optimizers(std::shared_ptr<O> optimizer, std::shared_ptr<S> scheduler)
      : Optimizers(std::move(optimizer), LRSchedulerConfig{.scheduler = std::move(scheduler)}) {}
  template <std::derived_from<torch::optim::Optimizer> O>
  Optimizers(std::shared_ptr<O> optimizer, LRSchedulerConfig scheduler)
      : list_{std::move(optimizer)}, lr_schedulers_{std::move(scheduler)} {}
  /// Several with any number of schedulers.
  Optimizers(std::vector<OptimizerPtr> list, std::vector<LRSchedulerConfig> schedulers)
      : list_(std::move(list)), lr_schedulers_(std::move(schedulers)) {}
  Optimizers(std::initializer_list<OptimizerConfig> list) {
    for (const auto& each : list) {
      list_.push_back(each.optimizer);
      frequencies_.push_back(each.frequency);
      if (each.lr_scheduler) lr_schedulers_.push_back(*each.lr_scheduler);
    }
  }

  bool empty() const { return list_.empty(); }
  std::size_t size() const { return list_.size(); }
  torch::optim::Optimizer& operator[](std::size_t i) const { return *list_.at(i); }
  const OptimizerPtr& at(std::size_t i) const { return list_.at(i); }
  auto begin() const { return list_.begin(); }
  auto end() const { return list_.end(); }

  const std::vector<LRSchedulerConfig>& lr_schedulers() const { return lr_schedulers_; }
  /// One for each optimizer, or empty.
  const std::vector<int64_t>& frequencies() const { return frequencies_; }

 private:
  std::vector<OptimizerPtr> list_;
  std::vector<LRSchedulerConfig> lr_schedulers_;
  std::vector<int64_t> frequencies_;
};

}  // namespace troupe
