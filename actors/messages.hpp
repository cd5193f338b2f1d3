// What the members of the cast say to each other, loaders apart (loader_messages.hpp).
//
// Messages are plain structs that move values (protocol rule P1). A run is one coordinator, its workers with their
// loaders, a logger, a checkpointer, a recorder and a progress actor.
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/base/failure.hpp"
#include "troupe/modules/captured_steps.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/monitor.hpp"
#include "troupe/modules/record.hpp"
#include "troupe/modules/result_queue.hpp"
#include "troupe/modules/step_output.hpp"
#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/loops/facts.hpp"
#include "troupe/runtime/loops/run_state.hpp"
#include "troupe/runtime/loops/script.hpp"
#include "troupe/runtime/process/pulse.hpp"
#include "troupe/runtime/replica/curve_axis.hpp"
#include "troupe/runtime/report/phase_report.hpp"
#include "troupe/runtime/report/run_files.hpp"
#include "troupe/runtime/terminal/progress_line.hpp"

#include <caf/allowed_unsafe_message_type.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::cast {

// --- Coordinator and worker ------------------------------------------------------------------------------------------

/// Coordinator to worker: carry this out and answer with Done. Never two at a time (P3).
struct Perform {
  Command command;
  nlohmann::json monitor_states;  ///< SaveCommand: what the monitors want stored,
  nlohmann::json loop;            ///< and, HoldCommand too, the script
  bool weights_only = false;      ///< SaveCommand: leave out what only a resumed run needs
};
/// Worker to coordinator.
struct Done {
  int64_t worker = 0;  ///< of its process; -1: the one that validates beside the training
  Answer answer;
  DataFacts facts;                                 ///< PrepareCommand
  std::vector<std::shared_ptr<Monitor>> monitors;  ///< PrepareCommand: from now on the coordinator's alone
  DataLoaders eval_loaders;  ///< PrepareCommand with trainer.async_validation: of the validation, for who does it
};
/// Coordinator to the worker that validates beside the training: evaluate the module as it is there, and answer with
/// Done. Two of them at most: one is being carried out, the other one waits (P5).
struct Validate {
  std::shared_ptr<const ModelAtStep> model;
  EvaluateCommand evaluation;
};
/// Coordinator to worker, urgent: end the segment at the next batch boundary, an interrupt also within a validation.
struct StopSegment {
  bool interrupt = false;
  bool pause = false;  ///< only end the segment: a decision is due that was not planned
};
/// Worker to coordinator: user code on the worker asked for the end of the run.
struct StopAsked {
  std::string reason;
};
/// Any member to the coordinator: a failure (P6). The first one ends the run.
struct Failed {
  Failure failure;
  bool elsewhere = false;  ///< in another process, which has told all
  bool hangs = false;      ///< a member of the cast, which will not answer any more
};
/// Coordinator to itself, by a timer: do not wait for those who hang.
struct GiveUp {};
/// Coordinator to itself, by a timer: something that goes by time may be due.
struct TimeIsUp {
  double due = 0;  ///< for which the timer was set, by RunInfo::seconds
};
/// Coordinator to worker, urgent: tear down, give the module back with WorkerEnded, and quit (P7).
struct EndWorker {
  std::optional<Failure> failure;
};
struct WorkerEnded {
  int64_t worker = 0;              ///< of its process; -1: the one that validates beside the training
  std::shared_ptr<Module> module;  ///< null when it was never made
  EpochOutputs predictions;
  ResultQueue queue;
  CapturedSteps captured;
  std::optional<CurveAxis> curves;  ///< nothing if the replica was never made
  std::vector<std::string> bar_metrics;
  std::vector<std::string> problems;  ///< of its end; warnings
};
/// The first worker to the coordinator, every 2 s at a batch's end, and with its end.
struct PhasesMeasured {
  PhaseReport report;  ///< from the stage's beginning; without `meanwhile`
  Progress progress;
  bool is_final = false;
  std::optional<double> seconds_left = {};  ///< until the end of a fit, as RunEta says
  std::optional<int64_t> total_batches = {};
};
/// Worker to itself: more batches wait. Between two of them urgent messages get their turn.
struct GoOn {};

// --- From outside and from callback actors ---------------------------------------------------------------------------

/// Anybody to the coordinator: end the run.
struct StopRun {
  StopRequest request;
};
/// Anybody to the coordinator: write a checkpoint at the next boundary.
struct CheckpointRun {};
/// Anybody to the coordinator: validate at the next boundary.
struct ValidateRun {};
/// Anybody to the coordinator: a learning rate for all optimizers, at the next boundary.
struct SetRate {
  double lr = 0;
};
/// A callback actor's code threw, which has ended the actor.
struct ActorThrew {
  std::string name;
  std::string why;
};

// --- Logger, checkpointer, progress ----------------------------------------------------------------------------------

/// To the logger.
struct WriteRecord {
  Record record;
};
/// Worker to logger, which flushes and forwards it to the checkpointer: write it to each path, then delete the old.
struct SaveSnapshot {
  std::shared_ptr<const Checkpoint> snapshot;
  std::vector<SaveRequest> requests;
};
/// Checkpointer to coordinator.
struct Saved {
  struct Missing {
    std::filesystem::path path;
    std::string why;
    bool is_refused = false;  ///< its weights are not finite
  };
  std::vector<std::filesystem::path> paths;
  std::vector<Missing> missing;
  double seconds = 0;  ///< that it took
};
/// To the progress actor: a state to show; `is_final` ends its stage's line.
struct ShowProgress {
  ProgressState state;
  bool is_final = false;
};
/// What a note begins with that is a warning.
inline constexpr std::string_view warning_mark = "warning: ";
/// To the progress actor: a line for the user, above the bar. `is_note` comes from the library and goes to stderr.
struct PrintLine {
  std::string line;
  bool is_note = false;

  bool is_warning() const { return is_note && line.starts_with(warning_mark); }
};
/// Coordinator to progress actor: the recorder gets every warning.
struct PassOnWarnings {
  ActorRef recorder;
};
/// Logger to recorder, which answers MetricsTaken: what it has written since the last one.
struct MetricsWritten {
  struct Row {
    ScalarsRecord record;
    double time = 0;  ///< seconds since 1970, when it came
  };
  std::vector<Row> rows;
};
struct MetricsTaken {};
/// Coordinator to recorder, when nobody writes any more: write everything, answer RecorderDrained, quit (P7).
struct EndRecorder {
  RunStatus status = RunStatus::finished;
  std::string message;  ///< why it ended early
};
/// Coordinator to itself, by a timer.
struct RecorderIsLate {};
struct RecorderDrained {
  std::shared_ptr<RunFiles> files;
};
/// To the watchdog: look at this pulse for as long as somebody holds it.
struct WatchPulse {
  std::weak_ptr<Pulse> pulse;
  int64_t rank = 0;
};
/// The watchdog to an actor of its own, and back: who of the other processes does not answer, as the end of a sentence;
/// empty: all do.
struct AskProcesses {
  std::chrono::milliseconds patience{0};
};
struct ProcessesAnswered {
  std::string missing;
};
/// Coordinator to logger, checkpointer and progress: finish what is queued, answer Drained, quit (P7).
struct Drain {};
struct Drained {
  std::optional<PhaseTime> work;  ///< of the logger: its time with the sinks
};
/// To itself, by a timer.
struct Tick {};

}  // namespace troupe::cast

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::Perform)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::Done)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::Validate)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::StopSegment)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::StopAsked)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::Failed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::GiveUp)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::TimeIsUp)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::EndWorker)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::WorkerEnded)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::PhasesMeasured)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::GoOn)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::StopRun)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::CheckpointRun)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::ValidateRun)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::SetRate)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::ActorThrew)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::WriteRecord)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::SaveSnapshot)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::Saved)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::ShowProgress)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::PrintLine)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::RunNews)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::PassOnWarnings)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::MetricsWritten)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::MetricsTaken)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::EndRecorder)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::RecorderIsLate)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::RecorderDrained)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::WatchPulse)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::AskProcesses)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::ProcessesAnswered)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::Drain)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::Drained)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::Tick)
