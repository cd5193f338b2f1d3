// How many samples a batch counts.
#pragma once

#include "troupe/modules/batch.hpp"
#include "troupe/runtime/replica/replica_setup.hpp"

#include <cstdint>

namespace troupe {

/// Means and windows of accumulation weigh batches by their sizes. If two readings of a size would weigh them
/// differently, the user is told, once, which one is taken. Used by the worker's thread.
class BatchSizes {
 public:
  explicit BatchSizes(ReplicaOutputs& outputs) : outputs_(outputs) {}

  int64_t of(const Batch& batch);
  /// Batches of another loader come.
  void begin_loader() { rows_per_sample_ = -1; }

 private:
  ReplicaOutputs& outputs_;
  double rows_per_sample_ = -1;  // of this loader's batches so far; -1: none yet
  bool warned_ = false;
};

}  // namespace troupe
