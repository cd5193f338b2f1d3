// Lowers the rate when a metric no longer gets better.
#pragma once

#include "troupe/modules/lr_schedulers/schedule.hpp"
#include "troupe/modules/monitor_mode.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace troupe::lr_schedulers {

/// What ReduceOnPlateauOptions::threshold is a part of.
enum class ThresholdMode {
  rel,  ///< the best value
  abs,  ///< nothing: it is a difference
};
TROUPE_CHOICES(ThresholdMode, {rel, "rel"}, {abs, "abs"})

/// Names and defaults are PyTorch's
/// (https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html).
struct ReduceOnPlateauOptions {
  MonitorMode mode = MonitorMode::min;  ///< min: the metric should fall; max: it should grow
  double factor = 0.1;                  ///< of a decay, below 1
  int64_t patience = 10;                ///< steps without improvement that are borne
  double threshold = 1e-4;              ///< smaller improvements do not count
  ThresholdMode threshold_mode = ThresholdMode::rel;
  int64_t cooldown = 0;              ///< steps after a decay that are not counted
  std::vector<double> min_lr = {0};  ///< lowest rate, one for all groups or one each
  double eps = 1e-8;                 ///< smaller changes of a rate are not made
};

/// ReduceLROnPlateau: needs a metric (LRSchedulerConfig::monitor). A metric that is NaN counts as no improvement. The
/// Trainer steps it when there is a new value: at the end of an epoch in which the metric was logged, or, by steps,
/// once for each value. Lightning steps it with old values, too, or ends the run.
class ReduceOnPlateau final : public LRScheduler {
 public:
  /// Throws UsageError for invalid options.
  ReduceOnPlateau(Optimizer optimizer, ReduceOnPlateauOptions options);

  /// Throws UsageError: it needs the metric.
  void step() override;
  void step(double metric) override;
  bool needs_metric() const override { return true; }
  double best() const { return best_; }

  nlohmann::json state_dict() const override;
  void load_state_dict(const nlohmann::json& state) override;

 private:
  bool is_better(double metric) const;
  void reduce();

  ReduceOnPlateauOptions options_;
  double best_;
  int64_t bad_steps_ = 0, cooling_ = 0, last_epoch_ = 0;
};

std::shared_ptr<ReduceOnPlateau> reduce_on_plateau(Optimizer optimizer, ReduceOnPlateauOptions options = {});

}  // namespace troupe::lr_schedulers
