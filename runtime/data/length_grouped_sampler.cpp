#include "troupe/runtime/data/length_grouped_sampler.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/data/samplers.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace troupe {

namespace {

constexpr uint64_t kBatchOrderSalt = 0x6261746368657321;
constexpr int64_t kLeastWindows = 4;  // of an epoch, so that its batches differ from the last one's

}  // namespace

LengthGroupedSampler::LengthGroupedSampler(std::vector<int64_t> lengths, LengthGroupedOptions options)
    : lengths_(std::move(lengths)), options_(options) {
  const auto at_least_one = [](const char* name, int64_t value) {
    if (value >= 1) return;
    throw UsageError(std::string("LengthGroupedSampler: ") + name + " = " + std::to_string(value) +
                     " must be at least 1");
  };
  at_least_one("batch_size", options_.batch_size);
  at_least_one("window_batches", options_.window_batches);
  if (lengths_.empty()) throw UsageError("LengthGroupedSampler needs the length of each sample, but has none");
  for (std::size_t i = 0; i < lengths_.size(); ++i) {
    if (lengths_[i] >= 0) continue;
    throw UsageError("LengthGroupedSampler: length " + std::to_string(i) + " = " + std::to_string(lengths_[i]) +
                     " must be at least 0");
  }
}

std::vector<int64_t> LengthGroupedSampler::indices(int64_t size, uint64_t seed, int64_t epoch) const {
  const auto samples = static_cast<int64_t>(lengths_.size());
  if (size != samples) {
    throw UsageError("LengthGroupedSampler has " + std::to_string(samples) + " lengths for a dataset of " +
                     std::to_string(size) + " samples");
  }
  const int64_t batch = std::min(options_.batch_size, samples);
  const int64_t most = std::max<int64_t>(1, samples / batch / kLeastWindows);
  const int64_t window = std::min(options_.window_batches, most) * batch;
  auto sorted = random_permutation(samples, mix(seed, epoch));
  // Of equal lengths the random order stays.
  const auto longer = [this](int64_t a, int64_t b) { return length(a) > length(b); };
  for (int64_t first = 0; first < samples; first += window) {
    std::stable_sort(sorted.begin() + first, sorted.begin() + std::min(first + window, samples), longer);
  }
  const int64_t full = samples / batch;
  auto batches = random_permutation(full, mix(seed, epoch, kBatchOrderSalt));
  if (options_.longest_first) {
    const auto longest = std::ranges::max_element(
        batches, {}, [&](int64_t one) { return length(sorted[static_cast<std::size_t>(one * batch)]); });
    std::iter_swap(batches.begin(), longest);
  }
  std::vector<int64_t> out;
  out.reserve(sorted.size());
  for (const int64_t one : batches) {
    out.insert(out.end(), sorted.begin() + one * batch, sorted.begin() + (one + 1) * batch);
  }
  out.insert(out.end(), sorted.begin() + full * batch, sorted.end());
  return out;
}

}  // namespace troupe
