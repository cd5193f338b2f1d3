// Shuffles shards, and samples within a window, such that reading stays nearly sequential.
#pragma once

#include "troupe/modules/data/sampler.hpp"

#include <cstdint>
#include <vector>

namespace troupe {

/// What WebDataset's `shardshuffle` and `.shuffle(buffer)` are for, as a pure function of seed and epoch: the shards
/// come in a random order, one after the other, and that sequence of samples is cut into windows of `buffer` samples,
/// which span neighbouring shards and are shuffled each (all orders of a window are equally likely). The first window
/// of an epoch has a random size, so that windows do not begin at the same samples in each epoch. All samples come
/// once. A sample comes less than `buffer` places from where it is in the sequence of shards, so that a shard is read
/// in the time of its own samples and `buffer` more.
///
/// Unlike WebDataset's there is a new order in each epoch, it is the same for any number of ranks and fetchers, and
/// nothing is held in memory but the order (8 bytes a sample).
class ShardShuffleSampler : public Sampler {
 public:
  /// `shard_sizes`: samples of each shard, in order. Throws UsageError for a negative one and for buffer < 1; 1 leaves
  /// the samples of a shard in their order.
  explicit ShardShuffleSampler(std::vector<int64_t> shard_sizes, int64_t buffer = 1000);
  /// Throws UsageError if the sizes do not add up to the dataset's size.
  std::vector<int64_t> indices(int64_t size, uint64_t seed, int64_t epoch) const override;
  int64_t count(int64_t size) const override { return size; }

 private:
  std::vector<int64_t> starts_;  // of each shard, and the end of the last
  int64_t buffer_;
};

}  // namespace troupe
