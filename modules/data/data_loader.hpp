// A description of how a dataset becomes batches; the loader actors carry it out.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/modules/data/dataset.hpp"
#include "troupe/modules/data/sampler.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// Joins samples (no batch dimension) into a batch.
using Collate = std::function<Batch(std::vector<Batch> samples)>;

/// Samples that do not fit together. A collate function of a user's own may throw it too: the run's failure then names
/// the index of the sample at `position` instead of its position.
class CollateError : public UsageError {
 public:
  CollateError(std::size_t position, const std::string& what);
  /// Place of the sample in the batch, from 0.
  std::size_t position() const { return position_; }
  /// What is wrong with the sample, without the position that what() begins with.
  const std::string& reason() const { return reason_; }

 private:
  std::size_t position_;
  std::string reason_;
};

/// Stacks tensors position by position and keeps their names; `extra` becomes a std::vector<std::any> if a sample
/// has one. Throws CollateError for the sample whose number of tensors, names, shapes or types differ from the first
/// one's (types are not promoted: a batch's type must not depend on which samples meet in it).
Batch default_collate(std::vector<Batch> samples);

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/data.html), except `prefetch`.
struct DataLoaderOptions {
  /// Samples a batch, at least 1.
  int64_t batch_size = 1;
  /// A new order each epoch, from (seed, epoch): exactly uniform and stored up to 4,194,304 samples, computed above
  /// (shuffled_order in runtime/data/samplers.hpp). Not together with `sampler`.
  bool shuffle = false;
  /// Leave out a last batch that is not full.
  bool drop_last = false;
  /// Fetchers that call the dataset in parallel; 0 fetches on the loader's own thread, which is never the training
  /// thread. A stream (IterableDataset) is always read by one. With 0, batches of `get_batch` that come within 100 us
  /// of each other are sent in groups of 16 at most, so these wait if one of the group is slow: for data that are slow
  /// at times, such as files, take a fetcher. Samples of `get` and of streams never wait for later ones.
  int64_t num_workers = 0;
  /// Gives the order instead of `shuffle`.
  std::shared_ptr<const Sampler> sampler = nullptr;
  /// Joins samples into a batch; default_collate when empty. With one, the dataset's `get_batch` is not asked. Where
  /// the tensors do not tell how many samples there are, it says it with Batch::set_size.
  Collate collate = nullptr;
  /// Put batches into page-locked memory, from where a GPU copies them asynchronously.
  bool pin_memory = false;
  /// Batches fetched ahead of the training thread, those in the making included (the credit window, protocol rule P2),
  /// at least 1. More fetchers than this are not kept busy. With 8 or more, up to 64 small batches are fetched ahead as
  /// long as they take 4 MiB together.
  int64_t prefetch = 8;
};

/// How the ranks of a run divide an epoch among them.
enum class Division {
  /// Each serves every n-th sample; the order is filled up from its beginning so that all have equally many, as
  /// PyTorch's DistributedSampler does. For training: every rank takes every step.
  padded_samples,
  /// Each serves every n-th of the batches that one rank alone would serve; nothing is repeated or left out. For
  /// evaluation: every number of ranks sees the same batches.
  batches,
};

/// A cheap, copyable handle: the dataset is shared, not copied.
class DataLoader {
 public:
  /// Throws UsageError for a null dataset, batch_size < 1, num_workers < 0 or > 1024, prefetch < 1, or `shuffle`
  /// together with a sampler; each message names the value.
  DataLoader(std::shared_ptr<Dataset> dataset, DataLoaderOptions options = {});
  /// A stream; `shuffle` and `sampler` are refused.
  DataLoader(std::shared_ptr<IterableDataset> dataset, DataLoaderOptions options = {});

  const DataLoaderOptions& options() const { return options_; }
  /// Null for a stream.
  const std::shared_ptr<Dataset>& dataset() const { return dataset_; }
  /// Null for a map-style dataset.
  const std::shared_ptr<IterableDataset>& stream() const { return stream_; }
  /// Batches an epoch; nothing for a stream. Of the samples divided over `ranks` (Division::padded_samples): those of
  /// each rank.
  std::optional<int64_t> batch_count(int64_t ranks = 1) const;

 private:
  std::shared_ptr<Dataset> dataset_;
  std::shared_ptr<IterableDataset> stream_;
  DataLoaderOptions options_;
};

}  // namespace troupe
