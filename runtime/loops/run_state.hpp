// What the script of a stage reads and writes; owned by whoever runs the script.
#pragma once

#include "troupe/modules/monitor.hpp"
#include "troupe/modules/options/trainer_options.hpp"
#include "troupe/modules/progress.hpp"
#include "troupe/modules/stage.hpp"
#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/loops/facts.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace troupe {

/// A request to end the run, from wherever it came.
struct StopRequest {
  std::string reason;
  /// Ctrl-C or a signal: do not wait for min_epochs and min_steps, leave out what an orderly end would still run.
  bool interrupt = false;
  int signal = 0;  ///< that asked, or 0
  /// A monitor's, which takes it back when it wants to go on before min_epochs and min_steps are reached.
  bool is_revocable = false;
};

/// Whether min_epochs and min_steps are reached, so that a request to stop may be followed.
bool may_stop(const TrainerOptions& options, const Progress& progress);

/// A validation beside the training that was begun, and whose result was not taken yet.
struct PendingValidation {
  /// The end of an epoch that waits for it, so that monitors hear of the validation first.
  struct EpochEnd {
    Progress finished;  ///< before the count went on to the next epoch
    MetricMap metrics;
  };

  Progress progress;  ///< when it was begun
  MetricMap metrics;  ///< then
  bool is_sanity_check = false;
  bool is_held = false;  ///< the snapshot that is held is of the same step
  std::optional<EpochEnd> epoch_end = {};
};

/// What somebody wants done at the next boundary of a fit.
struct BoundaryRequests {
  bool checkpoint = false, validation = false;
  std::optional<double> lr = {};  ///< for all optimizers
};

struct RunState {
  Stage stage = Stage::fit;
  std::shared_ptr<const TrainerOptions> options = std::make_shared<const TrainerOptions>();  ///< the run's
  RunInfo info;
  std::shared_ptr<const Checkpoint> checkpoint;  ///< that the run goes on from, or null
  bool has_other_processes = false;              ///< then what is asked here is agreed on before it is done (P8)

  // Filled in by the answer to PrepareCommand.
  DataFacts facts;
  std::vector<std::shared_ptr<Monitor>> monitors;

  // The run so far.
  Progress progress;
  MetricMap metrics;
  std::optional<StopRequest> stop;        ///< that the run follows
  std::optional<StopRequest> asked_stop;  ///< asked of this process, if there are others
  BoundaryRequests asked;                 ///< of this process, since the processes last agreed
  BoundaryRequests wanted;                ///< by all, as far as they have agreed
  std::vector<MetricMap> evaluation;
  int64_t validated_batches = -1;  ///< Progress::total_batches at the latest validation that came to its end
  /// With a snapshot that is held: what it has of monitors that have asked for no file since, by state_key.
  std::optional<nlohmann::json> held_monitors;
  double validated_at = 0;        ///< val_check_interval as a time: the end of the latest validation, by info.seconds
  double logged_at = 0;           ///< log_every: when metrics were handed over, by the same clock
  bool time_to_validate = false;  ///< at the boundary at hand, for all processes
  bool time_to_log = false;       ///< the same
  int64_t kept_step = 0;          ///< trainer.elastic: the step of the state that all processes have in memory
  bool is_writing = false;        ///< a checkpoint, here
  int64_t skipped_saves = 0;      ///< by checkpoint_backpressure = skip
  /// Orderly ends that are asked for here and were not taken back, the first of each monitor and of anybody else.
  std::vector<std::pair<const Monitor*, StopRequest>> standing_requests;
  /// The call of a monitor, or another callback, that is under way or has thrown; null: none.
  const Callback* asked_callback = nullptr;
  const char* asked_call = "";
  int64_t asked_epoch = 0;  ///< that it is asked about
  /// Validations beside the training, in order, and the results that have come of the first of them.
  std::deque<PendingValidation> validations;
  std::deque<std::shared_ptr<const ValidationResult>> validation_results;

  /// Progress::total_batches at the latest validation that was begun, if it has not come to its end in vain.
  int64_t last_validation() const {
    return validations.empty() ? validated_batches : validations.back().progress.total_batches;
  }

  /// Takes a request to end the run, of `monitor` or of somebody else; an interrupt wins over an orderly end, else the
  /// first one counts.
  void ask_to_stop(const StopRequest& request, const Monitor* monitor = nullptr);
  /// The monitor wants to go on: what it asked for before is taken back, and what others asked for counts.
  void take_back_stop(const Monitor& monitor);
  /// Whether the stop request ends training here: an interrupt at once, others when the minima are reached.
  bool stops_now() const;
  /// What goes by time begins now, or where the run that is gone on with was. Throws CheckpointError.
  void start_times();
  /// Sets time_to_validate and time_to_log, as far as this process decides.
  void look_at_times();
  /// When the first of what goes by time is due, monitors included, by info.seconds; nothing: never, or not here.
  std::optional<double> next_time();
  /// max_epochs or max_steps.
  bool has_reached_limit() const;
  /// `call`, which is `name` of the callback; what it throws is the callback's (place).
  template <class Call>
  auto ask(const Callback& callback, const char* name, Call call) {
    return ask(callback, name, call, progress.epoch);
  }
  template <class Call>
  auto ask(const Callback& callback, const char* name, Call call, int64_t epoch) {
    asked_callback = &callback;
    asked_epoch = epoch;
    asked_call = name;
    if constexpr (std::is_void_v<decltype(call())>) {
      call();
      asked_callback = nullptr;
    } else {
      auto answer = call();
      asked_callback = nullptr;
      return answer;
    }
  }
  /// Where a failure of the script is: "EarlyStopping::decide", or "coordinator".
  std::string place() const;
  int64_t place_epoch() const { return asked_callback ? asked_epoch : progress.epoch; }

  // What of it is in a checkpoint: `loop` and the monitors' part of `callbacks` in the metadata.

  nlohmann::json loop_to_json() const;
  /// Reads `loop` out of a checkpoint's metadata. Throws CheckpointError if it is missing or damaged.
  void load_loop(const nlohmann::json& metadata);
  /// The validations beside the training that had not come to their end: what they were begun with, for the script to
  /// begin them again. Throws CheckpointError and UsageError for what is damaged.
  void load_validations(const nlohmann::json& metadata);
  /// The orderly ends that the run before was asked for, as if they were asked for now: those of its monitors, of which
  /// each that this run has under the same state_key has asked again, and one that waited for the minima. Monitors with
  /// other options have other keys, so the run goes on then. Throws CheckpointError for what is damaged.
  void load_stops(const nlohmann::json& metadata);
  /// Of the monitors, by state_key; those without a key have no state.
  nlohmann::json monitor_states();
  /// Each monitor gets its own of `states`, by state_key.
  void load_monitor_states(const nlohmann::json& states);
};

}  // namespace troupe
