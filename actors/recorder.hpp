// The recorder: keeps the files that tell of a run (runtime/report/run_files.hpp), on a thread of its own, in the
// process of rank zero.
//
// receives  RunNews          from the coordinator, and from the progress actor for warnings
//           MetricsWritten   from the logger, answered with MetricsTaken
//           EndRecorder      from the coordinator, by way of the progress actor, so that it comes behind the warnings:
//                            write all, answer RecorderDrained, quit (P7)
// shows     its state        to who looks from outside, if somebody does, twice a second if something is new
// sends     PrintLine        to the progress actor, for a file that cannot be written, once; the run goes on
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/runtime/live/live_server.hpp"
#include "troupe/runtime/process/pulse.hpp"
#include "troupe/runtime/report/run_files.hpp"

#include <memory>

namespace troupe::cast {

/// `live` may be null.
ActorRef spawn_recorder(caf::actor_system& system, ActorRef coordinator, ActorRef progress,
                        std::shared_ptr<RunFiles> files, Stage stage, std::shared_ptr<Pulse> pulse,
                        std::shared_ptr<live::LiveServer> live);

}  // namespace troupe::cast
