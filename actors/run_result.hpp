// What a run leaves behind, for who waits for it outside of the cast.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/modules/captured_steps.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/progress.hpp"
#include "troupe/modules/record.hpp"
#include "troupe/modules/result_queue.hpp"
#include "troupe/modules/step_output.hpp"
#include "troupe/runtime/replica/curve_axis.hpp"
#include "troupe/runtime/report/phase_report.hpp"
#include "troupe/runtime/report/run_files.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace troupe::cast {

/// What a run leaves behind.
struct RunResult {
  std::optional<Failure> failure;
  std::shared_ptr<Module> module;  ///< also after a failure, when it was made
  Progress progress;
  std::optional<CurveAxis> curves;  ///< of the run's folder after this stage; nothing if the stage never began
  PhaseReport phases;               ///< of the first worker, also after a failure
  MetricMap metrics;
  std::vector<std::string> bar_metrics;  ///< names of those that the user marked for the progress bar
  std::vector<MetricMap> evaluation;
  EpochOutputs predictions;
  ResultQueue queue;
  CapturedSteps captured;   ///< of the first worker
  std::string stop_reason;  ///< empty for a natural end
  bool was_interrupted = false;
  int signal = 0;                               ///< that interrupted it, or 0
  int64_t skipped_saves = 0, failed_saves = 0;  ///< checkpoints that were left out, and that could not be written
  bool left_behind = false;                     ///< a member of the cast hangs, and has the module or a file still
  bool lost_coordinator = false;                ///< the others end without it, maybe after this result
  RunStatus sinks_know = RunStatus::running;    ///< the end that they were told of
  /// Of rank zero; null if the recorder hangs. After the loss of the coordinator the recorder has them, too, until all
  /// actors have come to their end.
  std::shared_ptr<RunFiles> files;
  RunStatus status() const {
    if (failure) return RunStatus::failed;
    return was_interrupted ? RunStatus::interrupted : RunStatus::finished;
  }
  std::vector<std::pair<std::string, int64_t>> dropped;  ///< events that callback actors missed, by name
};

/// Tells files and sinks of a failure that they do not know of: the coordinator or the recorder is gone, something has
/// failed after the last batch's books were closed, or another process after the end of this one. Sinks that were told
/// of another end get one more, but for the sink that has failed itself. All actors of the run have come to their end,
/// unless somebody hangs (left_behind): who knows of an end already is then left alone. What a sink throws is left.
void tell_of_failure(RunResult& result, Stage stage, const std::vector<std::shared_ptr<Sink>>& sinks);

}  // namespace troupe::cast
