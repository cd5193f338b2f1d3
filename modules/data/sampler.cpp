#include "troupe/modules/data/sampler.hpp"

#include "troupe/base/failure.hpp"

namespace troupe {

std::unique_ptr<const IndexOrder> Sampler::order(int64_t size, uint64_t seed, int64_t epoch) const {
  return std::make_unique<const StoredOrder>(indices(size, seed, epoch));
}

std::unique_ptr<const IndexOrder> Sampler::checked_order(int64_t size, uint64_t seed, int64_t epoch) const {
  auto out = order(size, seed, epoch);
  if (!out) throw UsageError("the sampler's order is null; it needs an IndexOrder");
  return out;
}

std::vector<int64_t> ComputedSampler::indices(int64_t size, uint64_t seed, int64_t epoch) const {
  const auto all = checked_order(size, seed, epoch);
  std::vector<int64_t> out;
  out.reserve(static_cast<std::size_t>(all->size()));
  for (int64_t position = 0; position < all->size(); ++position) out.push_back(all->at(position));
  return out;
}

}  // namespace troupe
