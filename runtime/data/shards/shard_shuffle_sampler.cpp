#include "troupe/runtime/data/shards/shard_shuffle_sampler.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/data/samplers.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace troupe {

namespace {

// Keep the orders of shards and windows apart.
constexpr uint64_t kShardSalt = 0x7368617264;
constexpr uint64_t kFirstWindowSalt = 0x6669727374;

}  // namespace

ShardShuffleSampler::ShardShuffleSampler(std::vector<int64_t> shard_sizes, int64_t buffer) : buffer_(buffer) {
  if (buffer < 1) throw UsageError("ShardShuffleSampler: buffer = " + std::to_string(buffer) + " must be at least 1");
  starts_ = {0};
  for (const int64_t size : shard_sizes) {
    if (size < 0) throw UsageError("ShardShuffleSampler: a shard has " + std::to_string(size) + " samples");
    starts_.push_back(starts_.back() + size);
  }
}

std::vector<int64_t> ShardShuffleSampler::indices(int64_t size, uint64_t seed, int64_t epoch) const {
  if (size != starts_.back()) {
    throw UsageError("ShardShuffleSampler has shards of " + std::to_string(starts_.back()) +
                     " samples in all for a dataset of " + std::to_string(size));
  }
  std::vector<int64_t> out;
  out.reserve(static_cast<std::size_t>(size));
  const auto shards = static_cast<int64_t>(starts_.size()) - 1;
  for (const int64_t shard : random_permutation(shards, mix(seed, epoch, kShardSalt))) {
    for (int64_t i = starts_[static_cast<std::size_t>(shard)]; i < starts_[static_cast<std::size_t>(shard) + 1]; ++i) {
      out.push_back(i);
    }
  }
  // From 1 to buffer, with a bias of less than buffer / 2^64.
  int64_t window = 1 + static_cast<int64_t>(mix(seed, epoch, kFirstWindowSalt) % static_cast<uint64_t>(buffer_));
  for (int64_t start = 0, end = 0; start < size; start = end) {
    end = start + std::min(size - start, std::exchange(window, buffer_));
    if (end - start == 1) continue;
    const std::vector<int64_t> before(out.begin() + start, out.begin() + end);
    int64_t to = start;
    for (const int64_t from : random_permutation(end - start, mix(seed, epoch, start))) {
      out[static_cast<std::size_t>(to++)] = before[static_cast<std::size_t>(from)];
    }
  }
  return out;
}

}  // namespace troupe
