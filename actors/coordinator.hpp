// The coordinator: one per process. It runs the script of a stage, carries its commands to the workers, and ends the
// run.
//
// receives  Done, StopAsked, Failed, WorkerEnded   from the workers, PhasesMeasured from the first one
//           Done, StopAsked, Failed, WorkerEnded   from the worker that validates beside the training, if there is one
//           Saved, Failed                          from the checkpointer, Failed from the logger
//           StopRun, CheckpointRun, ValidateRun, SetRate
//                                                  from the Trainer, signals, callback actors, viewers
//           Failed                                 from another process, through Run::fail
//           Drained, UsherDrained, RecorderDrained  when the run is over
//           the end of any member (P10)            which is a failure where the member has not said so before
// sends     Perform, StopSegment, EndWorker        to the workers, one command at a time and at boundaries only (P3)
//           Validate, EndWorker                    to the one that validates beside them
//           Drain, WriteRecord, PrintLine, RunNews, events
//
// The first failure wins (P6): the script is dropped, what workers wait for each other for is given up, they tear down,
// what is being written is finished, and the result carries that failure. Who has ended is not waited for.
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/actors/run_result.hpp"
#include "troupe/actors/watchdog.hpp"
#include "troupe/actors/worker.hpp"
#include "troupe/modules/callback_actor.hpp"
#include "troupe/runtime/live/live_server.hpp"
#include "troupe/runtime/loops/run_state.hpp"
#include "troupe/runtime/sinks/sink_warning.hpp"

#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace troupe::cast {

struct RunSetup {
  RunState state;        ///< stage, options, run folder, checkpoint
  ReplicaSetup replica;  ///< of the first worker
  /// Of each worker of this process its view of the others; empty if there is one worker in all.
  std::vector<std::shared_ptr<Peers>> peers;
  std::vector<torch::Device> devices;                       ///< of each worker of this process
  std::vector<std::shared_ptr<Pulse>> pulses = {};          ///< of each worker, for who looks from outside of the cast
  std::function<std::shared_ptr<Module>()> make_more = {};  ///< modules of the workers after the first
  std::string host = {};                                    ///< for failures; empty in a run of one process
  /// Called with the first failure of this process, to tell other processes; may be empty.
  std::function<void(const Failure&)> tell_others;
  /// For the watchdog; empty in a run of one process.
  AbsentProcesses absent_processes = {};
  std::vector<std::shared_ptr<Sink>> sinks;
  std::vector<CallbackActor> actors;
  std::shared_ptr<SinkWarnings> warnings = {};  ///< of the sinks; may be null
  std::shared_ptr<RunFiles> files = {};         ///< null but for the process of rank zero
  bool weights_only_checkpoints = false;
  std::shared_ptr<KeptState> kept = {};  ///< where the newest state goes; null: nowhere
  /// Whether a process of the run is lost, after a moment in which that may become known; empty: nobody looks.
  std::function<bool()> has_losses = {};
  std::shared_ptr<live::LiveServer> live = {};  ///< who looks from outside; null but for the process of rank zero
  /// Groups of options with their values, as on the command line: {"data": {"num_workers": 0}}. For advice, which names
  /// them.
  nlohmann::json given = nullptr;
};

/// A run in progress.
struct Run {
  ActorRef coordinator;
  std::future<RunResult> result;

  void stop(std::string reason, bool interrupt, int signal = 0) const;
  /// Another process has failed.
  void fail(Failure failure) const;
};

Run start_run(caf::actor_system& system, RunSetup setup);

}  // namespace troupe::cast
