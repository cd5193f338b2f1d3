// Schedulers made of others.
#pragma once

#include "troupe/modules/lr_schedulers/schedule.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace troupe::lr_schedulers {

/// SequentialLR: the first until epoch milestones[0], then the second, which begins there with its epoch 0, and so on
/// (https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.SequentialLR.html). One milestone less than
/// schedulers, growing; all of one optimizer. The schedulers are made for it: making a sequence takes back what making
/// them did.
class SequentialLR final : public LRScheduler {
 public:
  /// Throws UsageError for schedulers that cannot follow one another.
  SequentialLR(Optimizer optimizer, std::vector<std::shared_ptr<Schedule>> schedulers, std::vector<int64_t> milestones);

  using LRScheduler::step;
  void step() override;
  nlohmann::json state_dict() const override;
  void load_state_dict(const nlohmann::json& state) override;

 private:
  std::vector<std::shared_ptr<Schedule>> schedulers_;
  std::vector<int64_t> milestones_;
  int64_t last_epoch_ = 0;
};

/// ChainedScheduler: one step of each, one after the other, so that their factors multiply
/// (https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ChainedScheduler.html).
class ChainedScheduler final : public LRScheduler {
 public:
  /// Throws UsageError for none, and for schedulers of several optimizers.
  explicit ChainedScheduler(std::vector<std::shared_ptr<Schedule>> schedulers);

  using LRScheduler::step;
  void step() override;
  nlohmann::json state_dict() const override;
  void load_state_dict(const nlohmann::json& state) override;

 private:
  std::vector<std::shared_ptr<Schedule>> schedulers_;
};

std::shared_ptr<SequentialLR> sequential(Optimizer optimizer, std::vector<std::shared_ptr<Schedule>> schedulers,
                                         std::vector<int64_t> milestones);
std::shared_ptr<ChainedScheduler> chained(std::vector<std::shared_ptr<Schedule>> schedulers);

struct WarmupOptions {
  int64_t warmup_steps = 1;    ///< steps from start_factor to the whole rate, at least 1
  double start_factor = 1e-3;  ///< in (0, 1]
};
/// Linear warm-up (Goyal et al. 2017), then `after`, which begins with its epoch 0.
std::shared_ptr<SequentialLR> linear_warmup(Optimizer optimizer, WarmupOptions options,
                                            std::shared_ptr<Schedule> after);
/// Linear warm-up, then the rate as it was.
std::shared_ptr<Schedule> linear_warmup(Optimizer optimizer, WarmupOptions options);

}  // namespace troupe::lr_schedulers
