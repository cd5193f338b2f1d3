#include "troupe/runtime/data/subset.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/data/samplers.hpp"

#include <string>
#include <utility>

namespace troupe {

Subset::Subset(std::shared_ptr<Dataset> dataset, std::vector<int64_t> indices) : dataset_(std::move(dataset)) {
  if (!dataset_) throw UsageError("Subset: dataset is null; it needs a Dataset");
  const int64_t size = dataset_->size();
  for (const int64_t index : indices) {
    if (index >= 0 && index < size) continue;
    throw UsageError("Subset: index " + std::to_string(index) + " is not in a dataset of " + std::to_string(size) +
                     " samples");
  }
  indices_ = std::make_shared<const std::vector<int64_t>>(std::move(indices));
}

std::optional<Batch> Subset::get_batch(at::IntArrayRef indices) {
  std::vector<int64_t> inner;
  inner.reserve(indices.size());
  for (const int64_t index : indices) inner.push_back(indices_->at(static_cast<std::size_t>(index)));
  return dataset_->get_batch(inner);
}

std::shared_ptr<Dataset> Subset::replicate() const {
  auto replica = dataset_->replicate();
  if (!replica) return nullptr;
  return std::shared_ptr<Subset>(new Subset(std::move(replica), indices_));
}

std::vector<std::shared_ptr<Subset>> random_split(const std::shared_ptr<Dataset>& dataset,
                                                  const std::vector<int64_t>& lengths, uint64_t seed) {
  if (!dataset) throw UsageError("random_split: dataset is null; it needs a Dataset");
  const int64_t size = dataset->size();
  int64_t left = size;
  std::string listed;
  bool fits = true;
  for (const int64_t length : lengths) {
    listed += (listed.empty() ? "" : " + ") + std::to_string(length);
    fits = fits && length >= 0 && length <= left;
    if (fits) left -= length;
  }
  if (!fits || left != 0) {
    throw UsageError("random_split: the lengths " + (listed.empty() ? "(none)" : listed) +
                     " must be at least 0 and add up to the dataset's size, " + std::to_string(size));
  }
  const auto order = random_permutation(size, mix(seed));
  std::vector<std::shared_ptr<Subset>> parts;
  auto at = order.begin();
  for (const int64_t length : lengths) {
    parts.push_back(std::make_shared<Subset>(dataset, std::vector<int64_t>(at, at + length)));
    at += length;
  }
  return parts;
}

}  // namespace troupe
