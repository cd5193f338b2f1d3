// The batches of a data loader for a loop of one's own.
#pragma once

#include "troupe/modules/batch.hpp"
#include "troupe/modules/data/data_loader.hpp"

#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>

namespace troupe {

class CopyAhead;

/// What decides a FabricLoader's batches and where they go, besides the loader itself.
struct FabricLoaderPlace {
  uint64_t seed = 0;
  int64_t shard = 0;  ///< the rank's
  int64_t shards = 1;
  Division division = Division::padded_samples;
  torch::Device device = torch::kCPU;
  torch::ScalarType floating_type = torch::kFloat32;  ///< what floating-point tensors become
  CopyAhead* copier = nullptr;                        ///< the rank's, which outlives the loader; null: none
};

/// Fabric::setup_dataloaders makes it. Each `for (const Batch& batch : loader)` is an epoch, the next one each time:
/// this rank's batches, on its device, floating-point tensors in the type of `precision`. Batches are those that a
/// Trainer with the same seed trains on.
///
/// Threads of its own make the batches ahead: num_workers of them, one if that is 0, at most `prefetch` batches; they
/// draw random numbers of their own. They end with the epoch, or when the next one begins.
///
/// A cheap, copyable handle, used by the thread that runs Fabric::launch's function, and not after it. Iterating throws
/// what the dataset or the collate function threw, after the sample's index, and UsageError for a sampler's index
/// outside of the dataset.
class FabricLoader {
  struct State;

 public:
  FabricLoader(DataLoader loader, FabricLoaderPlace place);

  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Batch;
    using difference_type = std::ptrdiff_t;
    using pointer = const Batch*;
    using reference = const Batch&;

    const Batch& operator*() const { return batch_; }
    const Batch* operator->() const { return &batch_; }
    Iterator& operator++();
    friend bool operator==(const Iterator& it, std::default_sentinel_t) { return it.is_over_; }

   private:
    friend class FabricLoader;
    explicit Iterator(std::shared_ptr<State> state);

    std::shared_ptr<State> state_;
    int64_t beginning_;  // how often an epoch had begun
    Batch batch_;
    bool is_over_ = false;
  };

  /// Begins an epoch. An iterator of an epoch before gives nothing any more.
  Iterator begin();
  std::default_sentinel_t end() const { return {}; }

  /// Batches of an epoch for this rank; nothing for a stream.
  std::optional<int64_t> size() const;
  /// The epoch that begins next, and the batch that it begins at: for a loop that goes on where another one has ended.
  /// Throws UsageError for a negative number.
  void set_epoch(int64_t epoch, int64_t from_batch = 0);
  /// The epoch in progress, or the one that was iterated last; -1 before the first.
  int64_t epoch() const;

 private:
  class Epoch;

  std::shared_ptr<State> state_;
};

}  // namespace troupe
