// A description of how a dataset becomes batches; the loader actors carry it out.
#pragma once

#include "troupe/modules/dataset.hpp"
#include "troupe/modules/sampler.hpp"

#include <functional>
#include <memory>
#include <vector>

namespace troupe {

/// Joins samples (no batch dimension) into a batch.
using Collate = std::function<Batch(std::vector<Batch> samples)>;

/// Stacks tensors position by position and keeps their names; `extra` becomes a std::vector<std::any>. Throws
/// std::invalid_argument naming the sample whose number of tensors, names or shapes differ from the first one's.
Batch default_collate(std::vector<Batch> samples);

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/data.html), except `prefetch`.
struct DataLoaderOptions {
  /// Samples a batch, at least 1.
  int64_t batch_size = 1;
  /// A new order each epoch, from (seed, epoch). Not together with `sampler`.
  bool shuffle = false;
  /// Leave out a last batch that is not full.
  bool drop_last = false;
  /// Fetchers that call the dataset in parallel; 0 fetches on the loader's own thread, which is never the training
  /// thread. A stream (IterableDataset) is always read by one.
  int64_t num_workers = 0;
  /// Overrides the order that `shuffle` would give.
  std::shared_ptr<const Sampler> sampler = nullptr;
  /// Joins samples into a batch; default_collate when empty.
  Collate collate = nullptr;
  /// Put batches into page-locked memory, from where a GPU copies them asynchronously.
  bool pin_memory = false;
  /// Batches kept ready ahead of the training thread (the credit window, protocol rule P2), at least 1.
  int64_t prefetch = 8;
};

/// A cheap, copyable handle: the dataset is shared, not copied.
class DataLoader {
 public:
  /// Throws std::invalid_argument for a null dataset, batch_size < 1, num_workers < 0, prefetch < 1, or `shuffle`
  /// together with a sampler; each message names the value.
  DataLoader(std::shared_ptr<Dataset> dataset, DataLoaderOptions options = {});
  /// A stream; `shuffle` and `sampler` are refused.
  DataLoader(std::shared_ptr<IterableDataset> dataset, DataLoaderOptions options = {});

  const DataLoaderOptions& options() const { return options_; }
  /// Null for a stream.
  const std::shared_ptr<Dataset>& dataset() const { return dataset_; }
  /// Null for a map-style dataset.
  const std::shared_ptr<IterableDataset>& stream() const { return stream_; }
  /// Batches an epoch; nothing for a stream. Counts with the size of the sampler's epoch 0.
  std::optional<int64_t> batch_count() const;

 private:
  std::shared_ptr<Dataset> dataset_;
  std::shared_ptr<IterableDataset> stream_;
  DataLoaderOptions options_;
};

}  // namespace troupe
