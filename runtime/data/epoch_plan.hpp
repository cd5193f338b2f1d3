// Which samples are in which batch of an epoch.
#pragma once

#include "troupe/modules/data_loader.hpp"

#include <cstdint>
#include <vector>

namespace troupe {

/// What decides an epoch's batches, besides the loader itself.
struct EpochRequest {
  uint64_t seed = 0;
  int64_t epoch = 0;
  /// Serve batches with an index below this one; -1: to the end.
  int64_t limit = -1;
  /// False: leave out `shuffle` (overfit_batches repeats the same batches). A sampler that the user gave stays.
  bool allow_shuffle = true;
  /// The part of the samples that this rank serves: every `shards`-th of the epoch's order, from `shard` on. Nothing is
  /// padded or repeated: shards may differ in length by one sample.
  int64_t shard = 0;
  int64_t shards = 1;
};

/// The batches of one epoch of a map-style dataset: a pure function of the loader's description and the request, so a
/// resumed epoch makes the plan again and starts at its position (protocol rule P9). A plan in the dataset's own order
/// takes no memory for it.
class EpochPlan {
 public:
  /// An epoch without batches.
  EpochPlan() = default;
  /// Asks the dataset for its size and the sampler for its indices; both may throw. Throws UsageError for a stream, for
  /// an index outside of the dataset (named) and for a shard that is not one of `shards`.
  EpochPlan(const DataLoader& loader, const EpochRequest& request);

  /// Batches of the epoch, the limit counted in.
  int64_t batches() const { return batches_; }
  /// The samples of batch `index`, 0 <= index < batches().
  std::vector<int64_t> batch(int64_t index) const;

 private:
  std::vector<int64_t> order_;  // empty where the dataset's own order is served
  int64_t samples_ = 0;         // of this shard
  int64_t batch_size_ = 1;
  int64_t batches_ = 0;
  int64_t shard_ = 0;
  int64_t shards_ = 1;
};

}  // namespace troupe
