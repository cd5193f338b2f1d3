// The checkpointer: writes snapshots, on a thread of its own, while the training goes on.
//
// receives  SaveSnapshot  from the worker; the coordinator lets one be in flight, so its queue is bounded (P5)
//           Drain         from the coordinator: answer Drained when all is written, and quit (P7)
// sends     Saved, Failed to the coordinator
//
// A file that a snapshot replaces is deleted only after the new one is safe on the disk.
#pragma once

#include "troupe/actors/caf.hpp"

namespace troupe::cast {

ActorRef spawn_checkpointer(caf::actor_system& system, ActorRef coordinator);

}  // namespace troupe::cast
