// The data of a run, before the first epoch.
#pragma once

#include "troupe/runtime/data/combined_epoch.hpp"
#include "troupe/runtime/replica/replica_core.hpp"

#include <cstdint>
#include <optional>

namespace troupe {

/// Fills in the core's loaders, each kind of which may be given to the Trainer, else come from the data module, else
/// from the module; `combined` is how the training loaders make an epoch. Throws UsageError if there is nothing to do.
/// Collective in a fit, whose length all ranks must agree on.
DataFacts collect_loaders(ReplicaCore& core, CombinedEpoch& combined);

/// Windows of accumulation in all epochs; nothing if the number of epochs or that of their batches is not known.
std::optional<int64_t> windows_of_run(const ReplicaCore& core, const DataFacts& facts);

}  // namespace troupe
