// Several datasets as one.
#pragma once

#include "troupe/modules/data/dataset.hpp"

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace troupe {

/// The samples of several datasets one after the other
/// (https://pytorch.org/docs/stable/data.html#torch.utils.data.ConcatDataset). MixtureSampler mixes them by weight.
///
/// A batch of samples of several datasets is made by each dataset's `get_batch` if all of them have it, or written into
/// one memory if they all have the same one (`batch_memory`); else sample by sample. Their samples then need the same
/// names, types and shapes. Safe to call from several threads if the datasets are.
class ConcatDataset : public Dataset {
 public:
  /// Where a sample lies.
  struct Place {
    std::size_t dataset = 0;
    int64_t index = 0;  ///< in that dataset
  };

  /// Throws UsageError for no datasets, a null one (its position is named) and one whose size is below 0.
  explicit ConcatDataset(std::vector<std::shared_ptr<Dataset>> datasets);

  int64_t size() const override { return ends_.back(); }
  Batch get(int64_t index) override;
  /// Throws UsageError, which names the dataset, for parts that do not fit together.
  std::optional<Batch> get_batch(at::IntArrayRef indices) override;
  std::optional<Batch> batch_memory(int64_t samples) override;
  void get_into(int64_t index, Batch& batch, int64_t row) override;
  /// Of the datasets that have replicas; the others are shared. Null if none has one.
  std::shared_ptr<Dataset> replicate() const override;

  /// Throws UsageError for an index outside of 0 .. size() - 1.
  Place place(int64_t index) const;
  const std::vector<std::shared_ptr<Dataset>>& datasets() const { return datasets_; }
  /// Of each dataset, as they were when this one was made.
  std::vector<int64_t> sizes() const;

 private:
  std::vector<std::shared_ptr<Dataset>> datasets_;
  std::vector<int64_t> ends_;  // of each dataset, in this one's indices
  std::once_flag compared_;
  bool share_memory_ = false;  // all have the same batch memory
};

}  // namespace troupe
