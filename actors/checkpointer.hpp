// The checkpointer: writes snapshots, on a thread of its own, while the training goes on.
//
// receives  SaveSnapshot  from the worker, through the logger; the coordinator lets one be in flight, so its queue is
// bounded (P5)
//           Drain         from the coordinator, through the logger: answer Drained when all is written, and quit (P7)
// sends     Saved to the coordinator: what is on the disk, and what is not and why
//
// A file that a snapshot replaces is deleted only after the new one is safe on the disk.
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/runtime/process/pulse.hpp"

#include <memory>

namespace troupe::cast {

ActorRef spawn_checkpointer(caf::actor_system& system, ActorRef coordinator, std::shared_ptr<Pulse> pulse);

}  // namespace troupe::cast
