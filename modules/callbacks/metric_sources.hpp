// What a monitor can know about a metric by watching: whether validation or training logs it, and whether it exists.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/modules/monitor.hpp"

#include <nlohmann/json.hpp>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace troupe {

/// A metric keeps its value in the callback metrics until it is logged again, so a value alone does not tell whether it
/// is news. Show this all metrics at each moment; it tells validation's metrics from training's by when they change.
/// Owned by a monitor, used where `decide` is.
class MetricSources {
 public:
  /// A run begins: forgets everything.
  void start(const RunInfo& info);
  /// To be called at every moment, before questions.
  void observe(Moment moment, const MetricMap& metrics);

  /// What a run that goes on must know.
  nlohmann::json state_dict() const;
  /// After start(). Throws CheckpointError if it is damaged, and changes nothing then.
  void load_state_dict(const StateReader& state);

  /// Whether `name` has come from validations alone so far.
  bool is_from_validation(std::string_view name) const;
  /// Whether all kinds of metrics have had their chance in this run: an epoch of training ended, and a validation if
  /// the run has one; never if the Trainer was told to leave validation out. A name that is missing then is a
  /// mistake.
  bool are_complete() const { return epoch_ended_ && !validation_is_off_ && (validated_ || !has_validation_); }

 private:
  std::map<std::string, std::optional<double>, std::less<>> latest_;  // nothing: of a run before, whatever it was
  std::set<std::string, std::less<>> from_training_, from_validation_;
  bool has_validation_ = false;
  bool validation_is_off_ = false;
  bool validated_ = false;
  bool epoch_ended_ = false;
};

/// The error for a metric that was never logged; `what` names the option that asks for it. Lists what was logged, the
/// nearest name first.
UsageError metric_not_logged(const std::string& what, const std::string& name, const MetricMap& metrics);

/// Throws UsageError unless `monitor` of the callback `owner` is text.
void check_monitor(const std::string& owner, const std::string& monitor);

}  // namespace troupe
