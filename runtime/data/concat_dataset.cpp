#include "troupe/runtime/data/concat_dataset.hpp"

#include "troupe/base/failure.hpp"

#include <torch/torch.h>

#include <algorithm>
#include <limits>
#include <sstream>
#include <string>
#include <utility>

namespace troupe {

namespace {

/// What a batch needs of one dataset, and where it goes.
struct PartOfBatch {
  std::vector<int64_t> indices;
  std::vector<int64_t> rows;
  std::optional<Batch> batch;
};

bool same_rows(const torch::Tensor& a, const torch::Tensor& b) {
  return a.defined() && b.defined() && a.dim() > 0 && b.dim() > 0 && a.scalar_type() == b.scalar_type() &&
         a.sizes().slice(1) == b.sizes().slice(1);
}

bool same_layout(const Batch& a, const Batch& b) {
  return a.names() == b.names() && std::ranges::equal(a.tensors(), b.tensors(), same_rows);
}

std::string layout_text(const Batch& batch) {
  std::ostringstream out;
  for (std::size_t i = 0; i < batch.tensor_count(); ++i) {
    const auto& tensor = batch.tensors()[i];
    out << (i > 0 ? ", " : "") << (batch.names().empty() ? "" : batch.names()[i] + " ");
    if (tensor.defined()) {
      out << c10::toString(tensor.scalar_type()) << ' ' << tensor.sizes();
    } else {
      out << "undefined";
    }
  }
  return out.str();
}

void check_part(const PartOfBatch& part, std::size_t dataset, const PartOfBatch& first) {
  const auto count = static_cast<int64_t>(part.rows.size());
  const bool has_all = std::ranges::all_of(part.batch->tensors(), [&](const torch::Tensor& tensor) {
    return tensor.defined() && tensor.dim() > 0 && tensor.size(0) == count;
  });
  if (has_all && same_layout(*part.batch, *first.batch)) return;
  throw UsageError("ConcatDataset: dataset " + std::to_string(dataset) + " gave " + std::to_string(count) +
                   " samples as " + layout_text(*part.batch) + ", which does not fit to " + layout_text(*first.batch) +
                   "; give all datasets the same names, types and shapes, or a collate function");
}

}  // namespace

ConcatDataset::ConcatDataset(std::vector<std::shared_ptr<Dataset>> datasets) : datasets_(std::move(datasets)) {
  if (datasets_.empty()) throw UsageError("ConcatDataset needs at least one dataset");
  int64_t end = 0;
  for (std::size_t i = 0; i < datasets_.size(); ++i) {
    if (!datasets_[i]) throw UsageError("ConcatDataset: dataset " + std::to_string(i) + " is null");
    const int64_t size = datasets_[i]->size();
    if (size < 0 || size > std::numeric_limits<int64_t>::max() - end) {
      throw UsageError("ConcatDataset: the size of dataset " + std::to_string(i) + " is " + std::to_string(size) +
                       "; it must be at least 0, and all sizes together below 2^63");
    }
    end += size;
    ends_.push_back(end);
  }
}

ConcatDataset::Place ConcatDataset::place(int64_t index) const {
  if (index < 0 || index >= size()) {
    throw UsageError("ConcatDataset: index " + std::to_string(index) + " is not in a dataset of " +
                     std::to_string(size()) + " samples");
  }
  const auto dataset = static_cast<std::size_t>(std::ranges::upper_bound(ends_, index) - ends_.begin());
  return {dataset, index - (dataset == 0 ? 0 : ends_[dataset - 1])};
}

std::vector<int64_t> ConcatDataset::sizes() const {
  std::vector<int64_t> out;
  for (std::size_t i = 0; i < ends_.size(); ++i) out.push_back(ends_[i] - (i == 0 ? 0 : ends_[i - 1]));
  return out;
}

Batch ConcatDataset::get(int64_t index) {
  const Place at = place(index);
  return datasets_[at.dataset]->get(at.index);
}

std::optional<Batch> ConcatDataset::get_batch(at::IntArrayRef indices) {
  std::vector<PartOfBatch> parts(datasets_.size());
  for (std::size_t row = 0; row < indices.size(); ++row) {
    const Place at = place(indices[row]);
    parts[at.dataset].indices.push_back(at.index);
    parts[at.dataset].rows.push_back(static_cast<int64_t>(row));
  }
  const PartOfBatch* first = nullptr;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    auto& part = parts[i];
    if (part.rows.empty()) continue;
    part.batch = datasets_[i]->get_batch(part.indices);
    if (!part.batch) return std::nullopt;
    if (part.rows.size() == indices.size()) return std::move(part.batch);
    if (part.batch->extra.has_value()) return std::nullopt;  // whose form only the dataset knows
    if (!first) first = &part;
    check_part(part, i, *first);
  }
  if (!first) return std::nullopt;
  Batch out = *first->batch;
  for (std::size_t t = 0; t < out.tensor_count(); ++t) {
    auto sizes = out.tensors()[t].sizes().vec();
    sizes[0] = static_cast<int64_t>(indices.size());
    torch::Tensor whole = at::empty(sizes, out.tensors()[t].options());
    for (const auto& part : parts) {
      if (!part.batch) continue;
      const auto& tensor = part.batch->tensors()[t];
      whole.index_copy_(0, torch::tensor(part.rows).to(tensor.device()), tensor);
    }
    out.tensors()[t] = std::move(whole);
  }
  return out;
}

std::optional<Batch> ConcatDataset::batch_memory(int64_t samples) {
  std::call_once(compared_, [&] {
    std::optional<Batch> first = datasets_.front()->batch_memory(1);
    share_memory_ = first.has_value();
    for (std::size_t i = 1; share_memory_ && i < datasets_.size(); ++i) {
      const auto other = datasets_[i]->batch_memory(1);
      share_memory_ = other && same_layout(*first, *other);
    }
  });
  return share_memory_ ? datasets_.front()->batch_memory(samples) : std::nullopt;
}

void ConcatDataset::get_into(int64_t index, Batch& batch, int64_t row) {
  const Place at = place(index);
  datasets_[at.dataset]->get_into(at.index, batch, row);
}

std::shared_ptr<Dataset> ConcatDataset::replicate() const {
  auto replicas = datasets_;
  bool some = false;
  for (auto& dataset : replicas) {
    if (auto replica = dataset->replicate()) {
      dataset = std::move(replica);
      some = true;
    }
  }
  return some ? std::make_shared<ConcatDataset>(std::move(replicas)) : nullptr;
}

}  // namespace troupe
