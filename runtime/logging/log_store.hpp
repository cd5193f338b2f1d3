// The metrics that a module logs, between the call of log() and the sinks.
#pragma once

#include "troupe/modules/log_options.hpp"
#include "troupe/modules/metrics/metric.hpp"

#include <torch/types.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe {

/// Where a call of log() comes from; the worker sets it before it calls a hook.
struct LogOrigin {
  std::string_view hook;                                 ///< for messages
  bool on_step = false;                                  ///< default of LogOptions::on_step
  bool on_epoch = true;                                  ///< default of LogOptions::on_epoch
  bool step_allowed = false;                             ///< false in epoch hooks, where there is no step to log
  int64_t batch_size = 1;                                ///< default of LogOptions::batch_size
  std::optional<int64_t> dataloader_idx = std::nullopt;  ///< set if there are several loaders
};

/// A metric with its final name and value.
struct LoggedValue {
  std::string name;
  std::string base;  ///< without "_step" or "_epoch"
  double value = 0;
  bool prog_bar = false;
  bool logger = true;
  bool fresh = true;  ///< logged since the last begin_step; a step metric that is not keeps its earlier value
  std::optional<int64_t> dataloader_idx = std::nullopt;  ///< the loader that the name ends in
  bool sync_dist = false;                                ///< of a step's value: LogOptions::sync_dist asks for it
};

/// What an epoch's reduction of one name has gathered: what a checkpoint in the middle of an epoch keeps, and what
/// replicas exchange.
struct EpochReduction {
  std::string name;  ///< with the loader's suffix, without "_epoch"
  LogOptions options;
  std::optional<int64_t> dataloader_idx = std::nullopt;
  bool on_step = false;
  double total = 0;          ///< by options.reduce_fx; a mean's is weighted
  double weight = 0;         ///< samples behind the total, above 0
  std::string metric = {};   ///< the name of the registered metric that was logged; empty for plain values
  MetricStates states = {};  ///< of the metric; without any, those that it has itself
};

/// The reductions of several replicas as if one had logged all values; `replicas` in the order of their ranks. A name
/// that a replica did not log is taken from those that did. Throws UsageError for a name that is reduced in two ways.
std::vector<EpochReduction> merged(const std::vector<std::vector<EpochReduction>>& replicas);

/// Accumulates on the device that holds the values and reads nothing back before it is asked (a value in host memory is
/// simply added up). Belongs to one worker and is touched by its thread only (protocol rule P1).
///
/// Names follow Lightning: a metric logged both on_step and on_epoch is `name_step` and `name_epoch`, otherwise it
/// keeps its name.
class LogStore {
 public:
  void set_origin(const LogOrigin& origin) { origin_ = origin; }
  /// Whether values are logged on_step if that is unset.
  bool logs_steps() const { return origin_.on_step; }

  /// Records a scalar. Throws UsageError for a value that is not a scalar (its shape is named), for on_step where there
  /// is no step, for neither on_step nor on_epoch, for a batch size below 1 (of the origin: where an epoch's mean is
  /// made of the value), and for options that differ from those of the metric's first call.
  void log(std::string_view name, const torch::Tensor& value, const LogOptions& options = {});
  void log(std::string_view name, double value, const LogOptions& options = {});
  /// Records a metric, which must outlive the epoch: the value of its latest batch for on_step, its value over the
  /// epoch for on_epoch. Also throws where that is no scalar and where on_step has no value of the batch.
  void log(std::string_view name, Metric& metric, const LogOptions& options = {});
  /// Whether the metric was logged here in this epoch, for on_epoch or not.
  bool holds(const Metric& metric) const;
  /// The loader of an evaluation is at its end: metrics that were logged under its number begin anew for the next one.
  void close_loader();

  /// A new step begins: values logged with on_step from now on replace the earlier ones. Reads nothing.
  void begin_step() {
    ++step_;
    cursor_ = 0;
  }
  /// What was logged with on_step since the last call, in the order of the first calls. Device values are read in one
  /// packed transfer.
  std::vector<LoggedValue> take_step();
  /// The epoch's reductions, and a fresh start for all of them. Metrics keep what they have gathered until
  /// reset_metrics. Throws UsageError for a metric without an update or with a value that is no scalar.
  std::vector<LoggedValue> take_epoch();
  /// Resets the metrics that were logged in this epoch.
  void reset_metrics();
  /// Metrics' warnings that came up in take_epoch, each once.
  std::vector<std::string> take_warnings() { return std::exchange(warnings_, {}); }

  /// The reductions so far; device values are read in one packed transfer.
  std::vector<EpochReduction> epoch_reductions() const;
  /// Takes reductions in place of the epoch's own; those of metrics that are not among `metrics` are left out. States
  /// are kept beside the metrics: take_epoch computes from them.
  void set_epoch_reductions(const std::vector<EpochReduction>& reductions, const NamedMetrics& metrics);
  /// True when the next take_step would return something.
  bool has_step_values() const;
  /// True when the next take_epoch would return something.
  bool has_epoch_values() const;

 private:
  struct Entry {
    std::string name;
    LogOptions options;
    std::optional<int64_t> dataloader_idx;
    bool on_step = false;
    bool on_epoch = false;
    bool has_step = false;
    int64_t logged_at = 0;  // value of step_
    double step = 0;
    double total = 0;
    double weight = 0;
    torch::Tensor device_step;  // defined while the value lies on a device
    torch::Tensor device_total;
    Metric* metric = nullptr;            // then weight is 1 where it is to be computed at the epoch's end
    std::optional<MetricStates> states;  // to compute it from, where not from the metric's own
  };

  Entry& entry(std::string_view name, const LogOptions& options, Metric* metric = nullptr);
  void add_entry(std::string_view name, const std::string& suffix, const LogOptions& options, Metric* metric);
  void compare_entry(std::string_view name, const Entry& known, const LogOptions& options, const Metric* metric) const;
  [[noreturn]] void refuse_log(std::string_view name, const std::string& why) const;
  void set_step(Entry& entry, const torch::Tensor& value);
  void compute(Entry& entry);
  std::vector<torch::Tensor> device_totals() const;
  double weight_of(const Entry& entry) const;

  LogOrigin origin_;
  std::vector<Entry> entries_;
  int64_t step_ = 0;
  std::vector<Metric*> to_reset_;  // metrics logged in this epoch
  std::vector<std::string> warnings_;
  std::set<std::string> warned_of_;  // all warnings there were
  std::size_t cursor_ = 0;           // where the next call is expected: steps log the same names in the same order
};

}  // namespace troupe
