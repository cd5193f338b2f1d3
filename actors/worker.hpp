// The worker: one per device, on a thread of its own. It owns a replica of the model and its data loaders, and carries
// out one command of the coordinator's at a time.
//
// receives  Perform, StopSegment, EndWorker            from the coordinator; Validate, if it validates beside others
//           BatchReady, EndOfData, LoaderFailed        from its loaders, under a credit window (P2)
//           the end of a loader, which is a failure, and of the coordinator, which is as EndWorker (P10)
//           GoOn                                       from itself
// sends     Done, StopAsked, Failed, WorkerEnded       to the coordinator; the first one PhasesMeasured, too
//           OpenLoader, Credit, CloseLoader            to its loaders
//           WriteRecord, SaveSnapshot, ShowProgress, PrintLine, events
//
// With trainer.async_validation there is one more, which validates beside the training (worker_validation.cpp): it has
// a copy of the module and the loaders of the validation, and gets Validate where the others get commands of the
// script.
//
// It looks for messages after each batch, so that an urgent StopSegment comes through between any two of them.
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/actors/kept_state.hpp"
#include "troupe/actors/outlet.hpp"
#include "troupe/runtime/live/live_server.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <optional>
#include <vector>

namespace troupe::cast {

struct WorkerSetup {
  int64_t index = 0;  ///< among the workers of its process
  ReplicaSetup replica;
  ActorRef coordinator;
  Outlet logger;
  ActorRef progress;
  ActorRef watchdog;                ///< null: nobody watches
  std::shared_ptr<KeptState> kept;  ///< of the first worker of a process; null: nothing is kept
  bool shows_progress = false;
  bool shares_process = false;                  ///< with other workers of the run
  std::vector<Outlet> listeners;                ///< of events
  std::shared_ptr<live::LiveServer> live = {};  ///< of rank zero; may be null
  /// Of the worker that validates beside the training: what is known of the data. `replica.validates_beside` is on,
  /// `index` is -1.
  std::optional<DataFacts> facts = {};
  nlohmann::json given = nullptr;  ///< groups of options, of the first worker (RunSetup)
};

ActorRef spawn_worker(caf::actor_system& system, WorkerSetup setup);

}  // namespace troupe::cast
