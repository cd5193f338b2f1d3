// The counters that say how far a run is.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace troupe {

/// Counters of a run. They are what a checkpoint stores to go on from.
struct Progress {
  int64_t epoch = 0;          ///< the epoch in progress, or the next one between epochs
  int64_t batch_idx = 0;      ///< training batches finished in this epoch
  int64_t global_step = 0;    ///< steps taken, of all optimizers together
  int64_t total_batches = 0;  ///< training batches finished in all epochs
  int64_t log_step = 0;       ///< batches after which an optimizer had stepped: the axis of metrics

  bool operator==(const Progress&) const = default;
};

/// Metric name to value.
using MetricMap = std::map<std::string, double, std::less<>>;

}  // namespace troupe
