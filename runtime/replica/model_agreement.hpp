// All ranks have one model.
#pragma once

#include "troupe/runtime/replica/replica_core.hpp"

namespace troupe {

/// Compares the models of all ranks, gives them rank zero's numbers, and has each rank draw random numbers of its own
/// from then on. Throws UsageError that names the differences. Collective; does nothing in a run of one worker.
void agree_on_model(ReplicaCore& core);

/// Makes the buffers those of rank zero, unless TrainerOptions::broadcast_buffers is off. Collective.
void broadcast_buffers(ReplicaCore& core);

}  // namespace troupe
