// What the ranks of a run have logged in an epoch, put together.
#pragma once

#include "troupe/runtime/distributed/peers.hpp"
#include "troupe/runtime/logging/log_store.hpp"

#include <vector>

namespace troupe {

/// The reductions of all ranks as if one rank had logged all values; collective, one message a rank. `saw_batches`: a
/// rank without a batch may have logged nothing, all others must have logged the same names: else a UsageError on all
/// ranks says which rank lacks which. Reductions with sync_dist = false are left out, of the question and of the
/// answer.
std::vector<EpochReduction> exchanged(Peers& peers, const std::vector<EpochReduction>& own, bool saw_batches);

/// The values of a step that ask for it (LogOptions::sync_dist) as the mean over the ranks that have them; collective.
void average_steps(Peers& peers, std::vector<LoggedValue>& values);

}  // namespace troupe
