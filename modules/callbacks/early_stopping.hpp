// Ends training when a metric does not get better any more.
//
//     Trainer trainer({.callbacks = {std::make_shared<EarlyStopping>(
//         EarlyStoppingOptions{.monitor = "val_loss", .patience = 5})}});
//
// Names, meanings and defaults are those of Lightning 2.6's EarlyStopping
// (https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.EarlyStopping.html); a difference is
// written at the option. Its verbose and log_rank_zero_only do not exist here: the reason to stop is always
// printed.
#pragma once

#include "troupe/modules/callbacks/metric_sources.hpp"
#include "troupe/modules/monitor.hpp"
#include "troupe/modules/monitor_mode.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace troupe {

struct EarlyStoppingOptions {
  /// The metric to watch; required.
  std::string monitor = "";
  /// A change counts as better only if it is more than this; at least 0. Lightning takes negative ones too, with
  /// which a value that is a little worse counts as better.
  double min_delta = 0.0;
  /// The number of checks without a better value that ends training; at least 0.
  int64_t patience = 3;
  /// Which values are better.
  MonitorMode mode = MonitorMode::min;
  /// A metric that is never logged ends the run with an error; else nothing is checked then. It is no error if the
  /// metric could not be logged: limit_val_batches = 0 leaves the validation out, or its loaders had no batch.
  /// Lightning ends the run then too.
  bool strict = true;
  /// Stop when the metric is NaN or infinite; else such a value counts as not better.
  bool check_finite = true;
  /// Stop at once when the metric is better than this.
  std::optional<double> stopping_threshold = std::nullopt;
  /// Stop at once when the metric is worse than this.
  std::optional<double> divergence_threshold = std::nullopt;
  /// True: check at ends of training epochs. False: after each validation (in a run without any, at ends of epochs).
  /// Unset: after each validation if the metric comes from validation, else at ends of epochs.
  std::optional<bool> check_on_train_epoch_end = std::nullopt;
};

/// Decides when to stop; min_epochs and min_steps of the Trainer hold nevertheless. While they put a stop off, a check
/// that finds no reason for it takes it back (in Lightning the run stops all the same). A value of a validation is
/// checked once. A Monitor: `decide` and its like belong to the coordinator, getters may be called by anyone when no
/// run is going on. Each run starts afresh, unless it is resumed.
class EarlyStopping : public Monitor {
 public:
  /// Throws UsageError for invalid options.
  explicit EarlyStopping(EarlyStoppingOptions options);

  const EarlyStoppingOptions& options() const { return options_; }
  /// Nothing before the first finite value.
  std::optional<double> best_score() const { return best_score_; }
  /// Checks since the best value.
  int64_t wait_count() const { return wait_count_; }
  /// The epoch in which it stopped the training; nothing if it did not. In Lightning 0 then.
  std::optional<int64_t> stopped_epoch() const { return stopped_epoch_; }

  std::string state_key() const override;
  nlohmann::json state_dict() const override;
  /// After start(). The patience is the one in the options, not that of the former run as in Lightning.
  void load_state_dict(const nlohmann::json& state) override;

  void start(const RunInfo& info) override;
  Decision decide(Moment moment, const Progress& progress, const MetricMap& metrics) override;

 private:
  bool is_due(Moment moment) const;
  bool is_better(double value, double than) const { return troupe::is_better(options_.mode, value, than); }
  /// Why to stop; empty: go on.
  std::string check(double value);

  EarlyStoppingOptions options_;
  bool has_validation_ = false;
  MetricSources sources_;
  bool has_news_ = false;  // a validation ended whose value was not checked
  std::optional<double> best_score_;
  int64_t wait_count_ = 0;
  std::optional<int64_t> stopped_epoch_;
};

}  // namespace troupe
