// What metrics and the log have gathered in an epoch that is not over, in a checkpoint: `metric.<name>.<state>` and
// `log.train`.
#pragma once

#include "troupe/modules/metrics/metric.hpp"
#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/logging/log_store.hpp"

#include <string>
#include <vector>

namespace troupe {

/// Adds the states of the metric registered as `name`. The tensors are the metric's own, not copies.
void append_metric_state(Checkpoint& checkpoint, const std::string& name, const MetricStates& states);

/// Gives the metrics what the checkpoint has of them; the others stay as they are. Returns the names of metrics that
/// are in the checkpoint alone. Throws UsageError if a metric's states are missing, damaged or of another kind.
std::vector<std::string> load_metric_states(const Checkpoint& checkpoint, const NamedMetrics& metrics);

/// Adds the reductions of a training epoch so far. Metrics' states are left to append_metric_state.
void append_epoch_reductions(Checkpoint& checkpoint, const std::vector<EpochReduction>& reductions);

/// The reductions that the checkpoint has, none if it was taken between epochs. Those of metrics that it has no
/// state of are left out. Throws UsageError if they are damaged.
std::vector<EpochReduction> load_epoch_reductions(const Checkpoint& checkpoint);

}  // namespace troupe
