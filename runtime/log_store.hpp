// The metrics that a module logs, between the call of log() and the sinks.
#pragma once

#include "troupe/modules/log_options.hpp"

#include <torch/types.h>

#include <cstdint>
#include <optional>
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
  std::optional<int64_t> dataloader_idx = std::nullopt;  ///< set where there are several loaders
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
};

/// Accumulates on the device that holds the values and reads nothing back before it is asked (a value in host memory is
/// simply added up). Belongs to one worker and is touched by its thread only (protocol rule P1).
///
/// Names follow Lightning: a metric logged both on_step and on_epoch is `name_step` and `name_epoch`, otherwise it
/// keeps its name.
class LogStore {
 public:
  void set_origin(const LogOrigin& origin) { origin_ = origin; }

  /// Records a scalar. Throws UsageError for a value that is not a scalar (its shape is named), for on_step where there
  /// is no step, for neither on_step nor on_epoch, for a batch size below 1, and for options that differ from those of
  /// the metric's first call.
  void log(std::string_view name, const torch::Tensor& value, const LogOptions& options = {});
  void log(std::string_view name, double value, const LogOptions& options = {});

  /// A new step begins: values logged with on_step from now on replace the earlier ones. Reads nothing.
  void begin_step() {
    ++step_;
    cursor_ = 0;
  }
  /// What was logged with on_step since the last call, in the order of the first calls. Device values are read in one
  /// packed transfer.
  std::vector<LoggedValue> take_step();
  /// The epoch's reductions, and a fresh start for all of them.
  std::vector<LoggedValue> take_epoch();
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
  };

  Entry& entry(std::string_view name, const LogOptions& options);
  double weight_of(const Entry& entry) const;

  LogOrigin origin_;
  std::vector<Entry> entries_;
  int64_t step_ = 0;
  std::size_t cursor_ = 0;  // where the next call is expected: steps log the same names in the same order
};

}  // namespace troupe
