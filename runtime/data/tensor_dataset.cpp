#include "troupe/runtime/data/tensor_dataset.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"

#include <string>

namespace troupe {

TensorDataset::TensorDataset(Batch tensors) : tensors_(std::move(tensors)) {
  if (tensors_.tensor_count() == 0) throw UsageError("TensorDataset needs at least one tensor");
  std::vector<int64_t> sizes;
  bool agree = true;
  for (std::size_t i = 0; i < tensors_.tensor_count(); ++i) {
    const auto& tensor = tensors_.tensors()[i];
    if (!tensor.defined() || tensor.dim() == 0) {
      throw UsageError(
          "TensorDataset: tensor " + std::to_string(i) +
          (tensor.defined() ? " has no dimensions; its first one must count the samples" : " is undefined"));
    }
    if (i == 0) size_ = tensor.size(0);
    agree = agree && tensor.size(0) == size_;
    sizes.push_back(tensor.size(0));
  }
  if (!agree) throw UsageError("TensorDataset: the tensors' first dimensions must agree, but are " + joined(sizes));
}

Batch TensorDataset::get(int64_t index) {
  Batch out = tensors_;
  for (auto& tensor : out.tensors()) tensor = tensor.select(0, index);
  return out;
}

std::optional<Batch> TensorDataset::get_batch(at::IntArrayRef indices) {
  // A view of the indices, which outlive this call, and no copy.
  const auto count = static_cast<int64_t>(indices.size());
  const auto rows = torch::from_blob(const_cast<int64_t*>(indices.data()), {count}, torch::kInt64);
  Batch out = tensors_;
  for (auto& tensor : out.tensors()) {
    tensor = tensor.index_select(0, tensor.is_cpu() ? rows : rows.to(tensor.device()));
  }
  return out;
}

}  // namespace troupe
