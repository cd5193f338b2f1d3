#include "troupe/runtime/data/tensor_dataset.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/process/huge_pages.hpp"

#include <algorithm>
#include <cstring>
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
  huge_pages_ = HugePages::for_large(tensors_.tensors());
}

Batch TensorDataset::get(int64_t index) {
  Batch out = tensors_;
  for (auto& tensor : out.tensors()) tensor = tensor.select(0, index);
  return out;
}

namespace {

/// Whether rows of it are runs of bytes that anyone may copy.
bool has_plain_rows(const torch::Tensor& tensor) {
  return tensor.is_cpu() && tensor.layout() == torch::kStrided && !tensor.is_quantized() && tensor.is_contiguous() &&
         !tensor.is_neg() && !tensor._is_zerotensor() && !tensor.is_conj() && !tensor.requires_grad();
}

/// What index_select gives, but the next rows are on their way from memory while one is copied: rows at random places
/// are what the processor does not foresee.
torch::Tensor gathered_rows(const torch::Tensor& tensor, at::IntArrayRef indices) {
  constexpr std::size_t line = 64, most_ahead = 12 << 10, most_of_row = 4096, most_rows = 16;
  auto sizes = tensor.sizes().vec();
  sizes[0] = static_cast<int64_t>(indices.size());
  torch::Tensor out = at::empty(sizes, tensor.options());
  const std::size_t row_bytes = tensor.size(0) == 0 ? 0 : tensor.nbytes() / static_cast<std::size_t>(tensor.size(0));
  if (row_bytes == 0) return out;
  const auto* from = static_cast<const char*>(tensor.const_data_ptr());
  auto* to = static_cast<char*>(out.mutable_data_ptr());
  const auto row = [&](std::size_t i) { return from + static_cast<std::size_t>(indices[i]) * row_bytes; };
  const std::size_t rows_ahead = std::clamp<std::size_t>(most_ahead / row_bytes, 1, most_rows);
  const auto ask_for = [&](std::size_t i) {
    if (i >= indices.size()) return;
    for (std::size_t at = 0; at < std::min(row_bytes, most_of_row); at += line) __builtin_prefetch(row(i) + at);
  };
  for (std::size_t i = 0; i < rows_ahead; ++i) ask_for(i);
  for (std::size_t i = 0; i < indices.size(); ++i) {
    ask_for(i + rows_ahead);
    std::memcpy(to + i * row_bytes, row(i), row_bytes);
  }
  return out;
}

}  // namespace

std::optional<Batch> TensorDataset::get_batch(at::IntArrayRef indices) {
  for (const int64_t index : indices) {
    if (index >= 0 && index < size_) continue;
    throw UsageError("TensorDataset: index " + std::to_string(index) + " is not in a dataset of " +
                     std::to_string(size_) + " samples");
  }
  if (huge_pages_) huge_pages_->begin();
  const auto count = static_cast<int64_t>(indices.size());
  Batch out = tensors_;
  for (auto& tensor : out.tensors()) {
    if (has_plain_rows(tensor)) {
      tensor = gathered_rows(tensor, indices);
      continue;
    }
    // A view of the indices, which outlive this call, and no copy.
    const auto rows = torch::from_blob(const_cast<int64_t*>(indices.data()), {count}, torch::kInt64);
    tensor = tensor.index_select(0, tensor.is_cpu() ? rows : rows.to(tensor.device()));
  }
  return out;
}

}  // namespace troupe
