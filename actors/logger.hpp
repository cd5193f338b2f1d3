// The logger: owns the sinks and writes records to them, on a thread of its own.
//
// receives  WriteRecord   from the worker, counted by `in_flight`; policy when it is behind: the sender waits, since no
//                         record may be lost (P5)
//           SaveSnapshot  from the worker: flush, and hand it on to the checkpointer. What was logged before a
//                         checkpoint is in the files before it is, so that a killed run loses none of its curves
//           Drain         from the coordinator: flush, hand it on to the checkpointer, answer Drained, quit (P7)
// sends     Failed          to the coordinator, for what a sink throws; nothing is written after that
//           MetricsWritten  to the recorder if there is one, with a flush, and RunNews with the model's summary. One is
//                         under way at a time; policy when the recorder is behind: every second record is left out of
//                         the page's curves, which are thinned out anyway (P5)
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/actors/outlet.hpp"
#include "troupe/modules/record.hpp"
#include "troupe/runtime/process/pulse.hpp"

#include <cstddef>
#include <memory>
#include <vector>

namespace troupe::cast {

/// Records that may wait for the logger.
inline constexpr int64_t logger_limit = 4096;
/// Records that wait for the recorder are thinned out beyond it.
inline constexpr std::size_t recorder_limit = 65'536;

/// `recorder` may be null.
ActorRef spawn_logger(caf::actor_system& system, ActorRef coordinator, ActorRef checkpointer, ActorRef recorder,
                      std::vector<std::shared_ptr<Sink>> sinks, std::shared_ptr<InFlight> in_flight,
                      std::shared_ptr<Pulse> pulse);

}  // namespace troupe::cast
