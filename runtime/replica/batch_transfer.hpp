// How a batch comes to the replica's device.
#pragma once

#include "troupe/modules/batch.hpp"
#include "troupe/runtime/replica/replica_core.hpp"

#include <cstdint>

namespace troupe {

/// Whether a hook is one of those that bring a batch to the device.
bool is_transfer(Hook hook);
/// Whether module or data module have a say in it; without one, the worker copies batches ahead.
bool overrides_transfer(const ReplicaCore& core);
/// Runs one of the transfer hooks, the data module's if it overrides it.
Batch move_batch(const ReplicaCore& core, Batch batch, Hook hook, int64_t dataloader_idx);
/// The batch in the floating type of the parameters, if ReplicaCore::converts_batches says that it has another.
Batch in_parameter_type(const ReplicaCore& core, Batch batch);

}  // namespace troupe
