#include "troupe/runtime/data/epoch_plan.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/data/samplers.hpp"

#include <algorithm>
#include <string>

namespace troupe {

namespace {

void check_index(int64_t index, int64_t size) {
  if (index >= 0 && index < size) return;
  throw UsageError("the sampler gave index " + std::to_string(index) + " for a dataset of " + std::to_string(size) +
                   " samples");
}

}  // namespace

int64_t share_of(int64_t count, int64_t shard, int64_t shards) {
  return count > shard ? (count - shard - 1) / shards + 1 : 0;
}

EpochPlan::EpochPlan(const DataLoader& loader, const EpochRequest& request)
    : batch_size_(loader.options().batch_size),
      shard_(request.shard),
      shards_(request.shards),
      division_(request.division),
      origin_(request.origin) {
  if (!loader.dataset()) throw UsageError("a stream has no plan of its epoch: its length is unknown");
  if (shards_ < 1 || shard_ < 0 || shard_ >= shards_) {
    throw UsageError("shard " + std::to_string(shard_) + " is not one of " + std::to_string(shards_) + " shards");
  }
  const int64_t size = loader.dataset()->size();
  if (size < 0) throw UsageError("the dataset's size() is " + std::to_string(size) + "; it must be at least 0");
  size_ = dataset_size_ = size;
  const auto& options = loader.options();
  if (options.sampler) {
    order_ = options.sampler->checked_order(size, request.seed, request.epoch);
    size_ = order_->size();
    if (size_ < 0)
      throw UsageError("the sampler's order has size " + std::to_string(size_) + "; it must be at least 0");
    for (const int64_t index : order_->listed()) check_index(index, size);
  } else if (options.shuffle && request.allow_shuffle) {
    order_ = shuffled_order(size, mix(request.seed, request.epoch));
  }
  const int64_t left = std::max<int64_t>(0, size_ - origin_.samples);
  samples_ = division_ == Division::batches ? size_ : (left + shards_ - 1) / shards_;
  batches_ = origin_.batches + samples_ / batch_size_ + (!options.drop_last && samples_ % batch_size_ != 0 ? 1 : 0);
  if (request.limit >= 0) batches_ = std::min(batches_, request.limit);
  if (division_ == Division::batches) batches_ = share_of(batches_, shard_, shards_);
}

std::vector<int64_t> EpochPlan::batch(int64_t index) const {
  const bool divides_batches = division_ == Division::batches;
  const int64_t first = (divides_batches ? shard_ + index * shards_ : index - origin_.batches) * batch_size_;
  const int64_t end = std::min(first + batch_size_, samples_);
  std::vector<int64_t> out;
  out.reserve(static_cast<std::size_t>(std::max<int64_t>(0, end - first)));
  for (int64_t i = first; i < end; ++i) {
    const int64_t place = divides_batches ? i : (origin_.samples + shard_ + i * shards_) % size_;
    const int64_t sample = order_ ? order_->at(place) : place;
    check_index(sample, dataset_size_);
    out.push_back(sample);
  }
  return out;
}

}  // namespace troupe
