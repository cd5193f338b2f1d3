#include "troupe/runtime/data/epoch_plan.hpp"

#include "troupe/modules/failure.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/data/samplers.hpp"

#include <algorithm>
#include <string>

namespace troupe {

namespace {

void check_indices(const std::vector<int64_t>& indices, int64_t size) {
  const auto outside =
      std::find_if(indices.begin(), indices.end(), [&](int64_t index) { return index < 0 || index >= size; });
  if (outside == indices.end()) return;
  throw UsageError("the sampler gave index " + std::to_string(*outside) + " for a dataset of " + std::to_string(size) +
                   " samples");
}

}  // namespace

EpochPlan::EpochPlan(const DataLoader& loader, const EpochRequest& request)
    : batch_size_(loader.options().batch_size), shard_(request.shard), shards_(request.shards) {
  if (!loader.dataset()) throw UsageError("a stream has no plan of its epoch: its length is unknown");
  if (shards_ < 1 || shard_ < 0 || shard_ >= shards_) {
    throw UsageError("shard " + std::to_string(shard_) + " is not one of " + std::to_string(shards_) + " shards");
  }
  const int64_t size = loader.dataset()->size();
  if (size < 0) throw UsageError("the dataset's size() is " + std::to_string(size) + "; it must be at least 0");
  int64_t total = size;
  const auto& options = loader.options();
  if (options.sampler) {
    order_ = options.sampler->indices(size, request.seed, request.epoch);
    check_indices(order_, size);
    total = static_cast<int64_t>(order_.size());
  } else if (options.shuffle && request.allow_shuffle) {
    order_ = random_permutation(size, mix(request.seed, request.epoch));
  }
  samples_ = total > shard_ ? (total - shard_ - 1) / shards_ + 1 : 0;
  batches_ = samples_ / batch_size_ + (!options.drop_last && samples_ % batch_size_ != 0 ? 1 : 0);
  if (request.limit >= 0) batches_ = std::min(batches_, request.limit);
}

std::vector<int64_t> EpochPlan::batch(int64_t index) const {
  const int64_t first = index * batch_size_;
  const int64_t end = std::min(first + batch_size_, samples_);
  std::vector<int64_t> out;
  out.reserve(static_cast<std::size_t>(std::max<int64_t>(0, end - first)));
  for (int64_t i = first; i < end; ++i) {
    const int64_t place = shard_ + i * shards_;
    out.push_back(order_.empty() ? place : order_[static_cast<std::size_t>(place)]);
  }
  return out;
}

}  // namespace troupe
