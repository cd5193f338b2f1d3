// Turns samples into batches: what a fetcher does, without the actor around it.
#pragma once

#include "troupe/modules/data/data_loader.hpp"
#include "troupe/runtime/data/epoch_origin.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// Asked between two samples; true ends the making of a batch that nobody waits for any more.
using Cancelled = std::function<bool()>;

/// Fetches the samples of a map-style dataset and joins them. Belongs to one thread; several makers of one loader may
/// work at once and give what a single one would give (protocol rule P9): the thread's random generator is seeded from
/// (seed, epoch, index) before each `get`, and once per batch, from its position, before `get_batch` and before a
/// collate function of the user's.
class BatchMaker {
 public:
  /// Asks the dataset for a replica of its own, which may throw.
  BatchMaker(const DataLoader& loader, uint64_t seed);
  /// Batch number `position` of `epoch` out of `samples`, or nothing when cancelled. Throws std::runtime_error with
  /// what the dataset or the collate function threw, after the sample's index: "sample 17: cannot open 17.png".
  std::optional<Batch> make(int64_t epoch, int64_t position, const std::vector<int64_t>& samples,
                            const Cancelled& cancelled = nullptr);
  /// Whether the dataset has served the latest batch as a whole (Dataset::get_batch).
  bool was_whole() const { return was_whole_; }

 private:
  /// Calls `each` for every sample, seeded for it; false when cancelled before the last one.
  bool for_samples(const std::vector<int64_t>& samples, int64_t epoch, const Cancelled& cancelled,
                   const std::function<void(int64_t index)>& each) const;

  std::shared_ptr<Dataset> dataset_;
  DataLoaderOptions options_;
  uint64_t seed_;
  bool pin_;
  bool was_whole_ = false;
};

/// Cuts a stream into batches, looking one sample ahead (with drop_last one batch) so that the last one is known when
/// it is served. Belongs to one thread, as the stream does.
class StreamReader {
 public:
  struct Part {
    std::optional<Batch> batch;  ///< nothing after the end and when cancelled
    int64_t length = -1;         ///< batches of the epoch once its end was seen, else -1
  };

  StreamReader(const DataLoader& loader, uint64_t seed, int64_t shard, int64_t shards);
  /// Starts `epoch` and moves to batch `position`, which is not before the origin.
  void open(int64_t epoch, int64_t position, const EpochOrigin& origin = {});
  /// The next batch; `look_ahead` false leaves out the question whether another one follows. Errors as in BatchMaker,
  /// by the sample's number in the epoch.
  Part next(bool look_ahead, const Cancelled& cancelled = nullptr);

 private:
  bool read_one();
  Part end();

  std::shared_ptr<IterableDataset> stream_;
  DataLoaderOptions options_;
  uint64_t seed_;
  bool pin_;
  int64_t shard_;
  int64_t shards_;
  int64_t epoch_ = 0;
  int64_t position_ = 0;  // of the batch that is next
  int64_t samples_ = 0;   // read in this epoch, those skipped included
  EpochOrigin origin_;    // with the samples of this shard
  bool ended_ = false;
  std::vector<Batch> ahead_;
};

}  // namespace troupe
