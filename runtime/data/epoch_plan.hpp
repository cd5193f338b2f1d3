// Which samples are in which batch of an epoch.
#pragma once

#include "troupe/modules/data/data_loader.hpp"
#include "troupe/runtime/data/epoch_origin.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace troupe {

/// What decides an epoch's batches, besides the loader itself.
struct EpochRequest {
  uint64_t seed = 0;
  int64_t epoch = 0;
  /// Serve batches with an index below this one; -1: to the end. Where batches are divided it counts those of all
  /// ranks.
  int64_t limit = -1;
  /// False: leave out `shuffle` (overfit_batches repeats the same batches). A sampler that the user gave stays.
  bool allow_shuffle = true;
  /// The part of the epoch that this rank serves, of so many.
  int64_t shard = 0;
  int64_t shards = 1;
  Division division = Division::padded_samples;
  /// What is behind already, in an epoch that other ranks have begun: its samples are left out, and the first batch has
  /// this number. For Division::padded_samples.
  EpochOrigin origin = {};
};

/// How many of `count` things number `shard` gets, when they are dealt out one by one to `shards`.
int64_t share_of(int64_t count, int64_t shard, int64_t shards);

/// The batches of one epoch of a map-style dataset: a pure function of the loader's description and the request, so a
/// resumed epoch makes the plan again and starts at its position (protocol rule P9). A plan takes no memory but what
/// the sampler's order takes. Any thread may ask it.
class EpochPlan {
 public:
  /// Asks the dataset for its size and the sampler for its order; both may throw. Throws UsageError for a stream, for a
  /// shard that is not one of `shards`, and for an index outside of the dataset (named) that the order lists.
  EpochPlan(const DataLoader& loader, const EpochRequest& request);

  /// Batches that this shard serves, the limit counted in.
  int64_t batches() const { return batches_; }
  /// The samples of batch `index`, 0 <= index < batches(), those of the origin excepted. Throws what a sampler's
  /// computed order throws, and UsageError for an index of it that is outside of the dataset.
  std::vector<int64_t> batch(int64_t index) const;

 private:
  std::unique_ptr<const IndexOrder> order_;  // null if the dataset's own order is served
  int64_t samples_ = 0;                      // to cut into batches: of this shard, or of all where batches are divided
  int64_t batch_size_ = 1;
  int64_t batches_ = 0;
  int64_t shard_ = 0;
  int64_t shards_ = 1;
  Division division_ = Division::padded_samples;
  int64_t size_ = 0;          // of the epoch's order
  int64_t dataset_size_ = 0;  // of what its indices point to
  EpochOrigin origin_;
};

}  // namespace troupe
