// What a user implements to feed data: a dataset of known size, or a stream.
#pragma once

#include "troupe/modules/batch.hpp"

#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>

namespace troupe {

/// A map-style dataset: samples by index.
///
/// `get` and `get_batch` are called from loader threads, from several at once when `num_workers > 1` or when several
/// loaders share the dataset; they must then be safe to call concurrently, or `replicate` must return a copy. Before
/// each call the thread's default CPU random generator is seeded from (seed, epoch, index), so `torch::rand` inside
/// `get` gives the same augmentation for any number of workers (protocol rule P9). Gradients are not recorded there.
/// What they throw ends the run and names the index.
class Dataset {
 public:
  virtual ~Dataset() = default;
  /// Number of samples.
  virtual int64_t size() const = 0;
  /// The sample at `index`, 0 <= index < size(), without a batch dimension.
  virtual Batch get(int64_t index) = 0;
  /// All samples of `indices` at once, with the batch dimension first, or nothing when the dataset serves single
  /// samples only. An in-memory dataset overrides it with one `index_select`. The random generator is then seeded once
  /// per batch, from (seed, epoch, position of the batch).
  virtual std::optional<Batch> get_batch(at::IntArrayRef indices) {
    (void)indices;
    return std::nullopt;
  }
  /// Memory for a batch of `samples` that `get_into` fills row by row, or nothing (the default). A dataset that decodes
  /// overrides both, so that a sample is written where the batch has it and is copied nowhere. Asked after `get_batch`.
  virtual std::optional<Batch> batch_memory(int64_t samples) {
    (void)samples;
    return std::nullopt;
  }
  /// Writes the sample at `index` into row `row` of each tensor of a batch from `batch_memory`. Seeded as `get` is.
  /// The default throws std::logic_error: nobody may train on memory that nothing was written to.
  virtual void get_into(int64_t index, Batch& batch, int64_t row) {
    (void)index, (void)batch, (void)row;
    throw std::logic_error("batch_memory is overridden and get_into is not");
  }
  /// A dataset for one fetcher to use alone, or nullptr (the default) when one object may serve all of them. Called on
  /// the loader's thread, once per fetcher, before the first epoch.
  virtual std::shared_ptr<Dataset> replicate() const { return nullptr; }
};

/// A stream of samples of unknown length. One loader thread reads it, so it needs no locking (give each loader a stream
/// of its own); the order is the order of `next` for any number of workers. Before each `next` the thread's default CPU
/// random generator is seeded from (seed, epoch, number of the sample).
class IterableDataset {
 public:
  virtual ~IterableDataset() = default;
  /// Called before the first `next` of each epoch. `shard` of `shards` tells which part this reader is to serve.
  virtual void start(int64_t epoch, int64_t shard, int64_t shards) = 0;
  /// The next sample, without a batch dimension, or nothing at the end of the epoch.
  virtual std::optional<Batch> next() = 0;
  /// Moves past `samples` samples, if a seek is possible: a resumed epoch begins in its middle. The default does
  /// nothing and returns false: the reader then calls `next` that many times.
  virtual bool skip(int64_t samples) {
    (void)samples;
    return false;
  }
  /// Samples of a whole epoch for the shard that `start` was told, if they are known without reading them. A mixture
  /// needs it to be resumed by a seek.
  virtual std::optional<int64_t> length() const { return std::nullopt; }
  /// A stream for one more reader: if several devices of a process train, each reads its own shard. The default
  /// returns nullptr, and such a run is refused.
  virtual std::shared_ptr<IterableDataset> replicate() const { return nullptr; }
};

}  // namespace troupe
