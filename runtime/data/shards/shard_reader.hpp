// Reads the files of samples.
#pragma once

#include "troupe/runtime/data/shards/shard_bytes.hpp"
#include "troupe/runtime/data/shards/shard_table.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace troupe {

/// Keeps the shards open that were read last: 8, and 2 gzipped ones, whose points take about 1.6 % of their content;
/// readers of the same table share them. A sample costs one read if its files are next to each other. Belongs to one
/// thread.
class ShardReader {
 public:
  ShardReader(std::shared_ptr<const ShardTable> table, ShardIndexOptions options);

  /// The content of each field's file of a sample of shard number `shard`; they stay until the next call. Throws
  /// UsageError naming the shard and an offset for what cannot be read.
  const std::vector<std::span<const std::byte>>& read(int64_t sample, std::size_t shard);

 private:
  struct Open {
    std::size_t shard = 0;
    bool is_gzip = false;
    std::unique_ptr<ShardBytes> bytes;
  };
  ShardBytes& open(std::size_t number);
  std::size_t append(ShardBytes& from, uint64_t offset, uint64_t size, std::size_t filled);

  std::shared_ptr<const ShardTable> table_;
  ShardIndexOptions options_;
  std::vector<Open> open_;  // the one read last is the last
  std::vector<std::byte> content_;
  std::vector<std::span<const std::byte>> fields_;
};

}  // namespace troupe
