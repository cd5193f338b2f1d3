// Which samples of an epoch are behind, for a run that goes on with another number of ranks.
#pragma once

#include "troupe/runtime/data/epoch_origin.hpp"
#include "troupe/runtime/replica/replica_core.hpp"

#include <nlohmann/json.hpp>

namespace troupe {

/// For a checkpoint.
nlohmann::json data_position(const ReplicaCore& core, const EpochOrigin& origin);
/// Samples are dealt out in turn, so those that all ranks have seen are the first of the epoch's order, whatever the
/// number of ranks: the rest is dealt out anew, from `origin` on, and the core's progress counts batches from there.
/// Throws UsageError for a checkpoint with a damaged position.
void restore_data_position(ReplicaCore& core, EpochOrigin& origin);

}  // namespace troupe
