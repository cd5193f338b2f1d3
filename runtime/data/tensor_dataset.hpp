// A dataset whose samples lie in memory.
#pragma once

#include "troupe/modules/data/dataset.hpp"

#include <memory>
#include <utility>
#include <vector>

namespace troupe {

class HugePages;

/// Sample i is row i of each tensor (https://pytorch.org/docs/stable/data.html#torch.utils.data.TensorDataset). A batch
/// costs one copy of its rows a tensor. Any thread may call it; the tensors must not change meanwhile. With the first
/// batch the system is asked, on a thread beside, to move tensors of 16 MiB or more to huge pages, which makes rows at
/// random places faster: their memory stays the caller's and at its addresses.
///
///     auto data = std::make_shared<TensorDataset>(images, labels);
class TensorDataset : public Dataset {
 public:
  /// The tensors' names, if any, become those of the samples. Throws UsageError for no tensors, an undefined one or one
  /// without dimensions, and for first dimensions that differ (all of them are named).
  explicit TensorDataset(Batch tensors);
  template <class... Tensors>
  explicit TensorDataset(torch::Tensor first, Tensors... rest)
      : TensorDataset(Batch(std::vector<torch::Tensor>{std::move(first), std::move(rest)...})) {}

  int64_t size() const override { return size_; }
  /// Views of the rows, not copies.
  Batch get(int64_t index) override;
  std::optional<Batch> get_batch(at::IntArrayRef indices) override;
  const Batch& tensors() const { return tensors_; }

 private:
  Batch tensors_;
  int64_t size_ = 0;
  std::shared_ptr<HugePages> huge_pages_;  // null if no tensor is large
};

}  // namespace troupe
