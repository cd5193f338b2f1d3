// The samples of all shards of a dataset, in little memory.
#pragma once

#include "troupe/runtime/data/shards/shard_index.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// The points of one gzipped shard, in memory while somebody reads with them. Any thread may use it.
class SharedGzipPoints {
 public:
  /// As load_gzip_points, but those that are in use already are given again.
  std::shared_ptr<const GzipPoints> load(const std::filesystem::path& shard, const ShardIndexOptions& options);

 private:
  std::mutex mutex_;
  std::weak_ptr<const GzipPoints> loaded_;
};

/// Immutable once it is made: all fetchers of a dataset share one. Takes 16 bytes for each field of a sample, 4 bytes
/// and the text of its key. The files that no field wants are in the index files alone.
class ShardTable {
 public:
  struct Choice {
    /// For each field, the extensions of which the sample has to have one; the first that is there is taken.
    std::vector<std::vector<std::string>> fields;
    bool skip_incomplete = false;
    bool unique_keys = true;
  };
  /// A file that a field takes.
  struct Place {
    uint64_t offset = 0;
    uint32_t size = 0;
    uint32_t extension = 0;  ///< position in extensions()
  };
  struct Shard {
    std::filesystem::path path;
    uint64_t size = 0;  ///< bytes of the file when its index was made
    bool is_gzip = false;
    std::shared_ptr<const GzipPoints> points;  ///< null if the index file has them
    std::unique_ptr<SharedGzipPoints> in_use;  ///< those of the index file; null for a plain shard
    int64_t first = 0;                         ///< number of its first sample
    uint64_t first_key = 0;                    ///< where its keys begin
  };

  /// Loads the shards' indices or builds them, in as many threads as LibTorch has for one operator. Throws UsageError
  /// as build_shard_index does; for a sample without one of the fields (unless such are skipped), a key that two shards
  /// have (unless keys need not be unique), a file of 4 GiB or more that a field takes, and if no sample is left.
  ShardTable(const std::vector<std::filesystem::path>& paths, const ShardIndexOptions& options, Choice choice);

  int64_t size() const { return shards_.back().first; }
  std::size_t shard_count() const { return shards_.size() - 1; }
  const Shard& shard(std::size_t number) const { return shards_[number]; }
  int64_t samples_of(std::size_t shard) const { return shards_[shard + 1].first - shards_[shard].first; }
  std::size_t shard_of(int64_t sample) const;
  std::string_view key(int64_t sample) const { return key(sample, shard_of(sample)); }
  /// The same for who knows the sample's shard already.
  std::string_view key(int64_t sample, std::size_t shard) const;
  /// One for each field, in their order.
  std::span<const Place> places(int64_t sample) const;
  const std::vector<std::string>& extensions() const { return extensions_; }
  /// Samples that were left out because they lack a field.
  int64_t skipped() const { return skipped_; }

 private:
  void add(const std::filesystem::path& path, ShardIndex index, const Choice& choice);
  void check_keys() const;
  [[noreturn]] void refuse_empty(const std::vector<std::filesystem::path>& paths, const Choice& choice) const;
  uint32_t extension_number(const std::string& extension);

  std::size_t fields_;
  std::vector<Shard> shards_;  // and one behind the last
  std::string keys_;
  std::vector<uint32_t> key_ends_;  // within the keys of the shard
  std::vector<Place> places_;
  std::vector<std::string> extensions_;
  std::vector<std::string> seen_;  // extensions of all files, for messages
  int64_t skipped_ = 0;
};

}  // namespace troupe
