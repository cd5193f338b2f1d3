// Parts of a dataset (https://pytorch.org/docs/stable/data.html#torch.utils.data.random_split).
#pragma once

#include "troupe/modules/data/dataset.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace troupe {

/// The samples of another dataset at `indices`, in that order; whole batches where the other one serves them. Random
/// states follow the position in the subset.
class Subset : public Dataset {
 public:
  /// Throws UsageError for no dataset and for an index outside of it.
  Subset(std::shared_ptr<Dataset> dataset, std::vector<int64_t> indices);

  int64_t size() const override { return static_cast<int64_t>(indices_->size()); }
  Batch get(int64_t index) override { return dataset_->get(indices_->at(static_cast<std::size_t>(index))); }
  std::optional<Batch> get_batch(at::IntArrayRef indices) override;
  std::optional<Batch> batch_memory(int64_t samples) override { return dataset_->batch_memory(samples); }
  void get_into(int64_t index, Batch& batch, int64_t row) override {
    dataset_->get_into(indices_->at(static_cast<std::size_t>(index)), batch, row);
  }
  /// Of the other dataset's replica, sharing the indices.
  std::shared_ptr<Dataset> replicate() const override;
  const std::vector<int64_t>& indices() const { return *indices_; }

 private:
  Subset(std::shared_ptr<Dataset> dataset, std::shared_ptr<const std::vector<int64_t>> indices)
      : dataset_(std::move(dataset)), indices_(std::move(indices)) {}

  std::shared_ptr<Dataset> dataset_;
  std::shared_ptr<const std::vector<int64_t>> indices_;
};

/// Splits a dataset at random into parts of `lengths` samples, which together are all of it; a pure function of `seed`.
/// Throws UsageError if the lengths do not add up to the dataset's size (both are named).
std::vector<std::shared_ptr<Subset>> random_split(const std::shared_ptr<Dataset>& dataset,
                                                  const std::vector<int64_t>& lengths, uint64_t seed);

}  // namespace troupe
