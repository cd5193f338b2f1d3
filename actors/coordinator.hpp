// The coordinator: one a process. It runs the script of a stage, carries its commands to the worker, and ends the run.
//
// receives  Done, StopAsked, Failed, WorkerEnded   from the worker
//           Saved, Failed                          from the checkpointer, Failed from the logger
//           StopRun, CheckpointRun                 from the Trainer, signals, callback actors
//           Drained, UsherDrained                  when the run is over
// sends     Perform, StopSegment, EndWorker        to the worker, one command at a time and at boundaries only (P3)
//           Drain, WriteRecord, PrintLine, events
//
// The first failure wins (P6): the script is dropped, the worker tears down, what is being written is finished, and the
// result carries that failure.
#pragma once

#include "troupe/actors/callback_actor.hpp"
#include "troupe/actors/worker.hpp"
#include "troupe/runtime/loops/run_state.hpp"

#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace troupe::cast {

struct RunSetup {
  RunState state;  ///< stage, options, run folder, checkpoint
  ReplicaSetup replica;
  std::vector<std::shared_ptr<Sink>> sinks;
  std::vector<CallbackActor> actors;
  bool weights_only_checkpoints = false;
};

/// What a run leaves behind.
struct RunResult {
  std::optional<Failure> failure;
  std::shared_ptr<Module> module;  ///< also after a failure, when it was made
  Progress progress;
  MetricMap metrics;
  std::vector<MetricMap> evaluation;
  EpochOutputs predictions;
  ResultQueue queue;
  std::string stop_reason;  ///< empty for a natural end
  bool was_interrupted = false;
  std::vector<std::pair<std::string, int64_t>> dropped;  ///< events that callback actors missed, by name
};

/// A run in progress.
struct Run {
  ActorRef coordinator;
  std::future<RunResult> result;

  void stop(std::string reason, bool interrupt) const;
};

Run start_run(caf::actor_system& system, RunSetup setup);

}  // namespace troupe::cast
