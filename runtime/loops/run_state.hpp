// What the script of a stage reads and writes; owned by whoever runs the script.
#pragma once

#include "troupe/modules/monitor.hpp"
#include "troupe/modules/progress.hpp"
#include "troupe/modules/trainer_options.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// A request to end the run, from wherever it came.
struct StopRequest {
  std::string reason;
  /// Ctrl-C or a signal: do not wait for min_epochs and min_steps, leave out what an orderly end would still run.
  bool interrupt = false;
  int signal = 0;  ///< that asked, or 0
};

/// Whether min_epochs and min_steps are reached, so that a request to stop may be followed.
bool may_stop(const TrainerOptions& options, const Progress& progress);

struct RunState {
  Stage stage = Stage::fit;
  TrainerOptions options;  ///< resolved
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
  std::optional<StopRequest> asked_stop;  ///< asked of this process, where there are others
  bool checkpoint_asked = false;          ///< somebody wants a checkpoint at the next boundary
  std::vector<MetricMap> evaluation;
  int64_t validated_batches = -1;  ///< Progress::total_batches at the latest validation that came to its end
  /// With a snapshot that is held: what it has of monitors that have asked for no file since, by state_key.
  std::optional<nlohmann::json> held_monitors;
  bool is_writing = false;    ///< a checkpoint, here
  int64_t skipped_saves = 0;  ///< by checkpoint_backpressure = "skip"

  /// Takes a request to end the run; an interrupt wins over an orderly end, else the first one counts.
  void ask_to_stop(const StopRequest& request);
  /// Whether the stop request ends training here: an interrupt at once, others when the minima are reached.
  bool stops_now() const;
  /// max_epochs or max_steps.
  bool has_reached_limit() const;
  /// What a checkpoint that is written now has of the monitors, by state_key.
  nlohmann::json monitor_states() const;
};

}  // namespace troupe
