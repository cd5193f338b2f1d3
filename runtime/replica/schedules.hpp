// When a replica's schedulers move on.
#pragma once

#include "troupe/runtime/replica/metric_board.hpp"
#include "troupe/runtime/replica/replica_core.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace troupe {

/// The schedulers that configure_optimizers returned. They move on after a step of their optimizer or after an epoch's
/// last batch; those that look at a metric when it has a new value. Used by the worker's thread.
class Schedules {
 public:
  /// Listens to `board` for news of the metrics that schedulers monitor.
  Schedules(ReplicaCore& core, MetricBoard& board);
  Schedules(const Schedules&) = delete;
  Schedules& operator=(const Schedules&) = delete;

  /// Takes those of the core's optimizers. Throws UsageError for one that cannot work.
  void configure();
  bool empty() const { return schedules_.empty(); }

  /// After each step of an optimizer: those of its schedulers that count steps.
  void after_step(std::size_t optimizer);
  /// After the epoch's last batch; those that look at a metric (`with_metric`) after its end, when its metrics are
  /// there. A run that goes on from in between does it once. Throws UsageError for a metric that nobody logs.
  void after_epoch(bool with_metric);
  /// A validation is over: what it logs is known from now on, unless it had no batch.
  void note_validation(bool had_batches);
  /// With trainer.async_validation: what it has logged comes at no fixed step, so that no scheduler can go by it.
  /// Throws UsageError if one does.
  void refuse_late(const std::vector<LoggedValue>& values) const;

  nlohmann::json state_dict() const;
  /// Throws UsageError for the state of other schedulers, and for a damaged one.
  void load_state_dict(const nlohmann::json& states);

 private:
  /// Where a scheduler stands.
  struct Schedule {
    std::size_t optimizer = 0;
    int64_t steps = 0;      ///< of its optimizer's
    int64_t epoch = -1;     ///< the last one after which it was looked at
    bool has_news = false;  ///< its metric was logged since it last looked, or in this epoch
    bool warned = false;
  };

  const LRSchedulerConfig& config_of(std::size_t i) const { return core_.optimizers.lr_schedulers()[i]; }
  void note_news(const LoggedValue& value);
  void step(std::size_t i);
  void miss_metric(std::size_t i);

  ReplicaCore& core_;
  MetricBoard& board_;
  std::vector<Schedule> schedules_;  // of each scheduler
  bool was_validated_ = false;       // in this run, with data: what a validation logs is known
  bool validation_was_empty_ = false;
};

}  // namespace troupe
