#include "troupe/runtime/data/samplers.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/keyed_permutation.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/data/weights.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <utility>

namespace troupe {

namespace {

// The standard specifies this engine's numbers, but not those of its distributions: these are drawn here.
using Engine = std::mt19937_64;

/// Uniform in [0, bound), without bias (Lemire, https://arxiv.org/abs/1805.10941).
uint64_t below(Engine& engine, uint64_t bound) {
  __extension__ using Wide = unsigned __int128;
  Wide product = static_cast<Wide>(engine()) * bound;
  if (static_cast<uint64_t>(product) < bound) {
    const uint64_t threshold = (0 - bound) % bound;
    while (static_cast<uint64_t>(product) < threshold) product = static_cast<Wide>(engine()) * bound;
  }
  return static_cast<uint64_t>(product >> 64);
}

/// Uniform in [0, 1).
double unit(Engine& engine) {
  return static_cast<double>(engine() >> 11) * 0x1.0p-53;
}

template <class Index>
void shuffle(std::vector<Index>& values, Engine& engine) {
  for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(engine, i)]);
}

template <class Index>
std::vector<Index> ascending(int64_t size) {
  std::vector<Index> out(static_cast<std::size_t>(std::max<int64_t>(0, size)));
  std::iota(out.begin(), out.end(), Index{0});
  return out;
}

template <class Index>
std::vector<Index> permutation_of(int64_t size, uint64_t seed) {
  auto out = ascending<Index>(size);
  Engine engine(seed);
  shuffle(out, engine);
  return out;
}

/// A permutation in memory, 4 bytes a position. It lists nothing: its indices are right by construction.
struct StoredPermutation : IndexOrder {
  explicit StoredPermutation(std::vector<uint32_t> order) : indices(std::move(order)) {}
  int64_t size() const override { return static_cast<int64_t>(indices.size()); }
  int64_t at(int64_t position) const override { return indices[static_cast<std::size_t>(position)]; }
  std::vector<uint32_t> indices;
};

/// What SplitMix64 hashes at `position` of its sequence from `seed` on.
uint64_t splitmix_state(uint64_t seed, int64_t position) {
  return seed + static_cast<uint64_t>(position) * kSplitMixStep;
}

struct DatasetOrder : IndexOrder {
  explicit DatasetOrder(int64_t size) : samples(size) {}
  int64_t size() const override { return samples; }
  int64_t at(int64_t position) const override { return position; }
  int64_t samples;
};

/// Independent draws of 0 .. bound - 1.
struct UniformDraws : IndexOrder {
  UniformDraws(int64_t bound, int64_t count, uint64_t seed) : bound(bound), count(count), seed(seed) {}
  int64_t size() const override { return count; }
  int64_t at(int64_t position) const override {
    return static_cast<int64_t>(hashed_below(splitmix_state(seed, position), static_cast<uint64_t>(bound)));
  }
  int64_t bound, count;
  uint64_t seed;
};

/// Computed permutations, one after the other: each has a key of its own.
struct Permutations : IndexOrder {
  Permutations(int64_t samples, int64_t count, uint64_t seed) : permutation(samples), count(count), seed(seed) {}
  int64_t size() const override { return count; }
  int64_t at(int64_t position) const override {
    const int64_t samples = permutation.size();
    return permutation.at(position % samples, mix(seed, position / samples));
  }
  KeyedPermutation permutation;
  int64_t count;
  uint64_t seed;
};

/// What stands at the positions of a list that another order gives.
struct OrderOfList : IndexOrder {
  OrderOfList(std::shared_ptr<const std::vector<int64_t>> list, std::unique_ptr<const IndexOrder> order)
      : list(std::move(list)), order(std::move(order)) {}
  int64_t size() const override { return order->size(); }
  int64_t at(int64_t position) const override { return (*list)[static_cast<std::size_t>(order->at(position))]; }
  std::span<const int64_t> listed() const override { return *list; }
  std::shared_ptr<const std::vector<int64_t>> list;
  std::unique_ptr<const IndexOrder> order;
};

std::vector<int64_t> several_permutations(int64_t size, int64_t count, uint64_t seed) {
  Engine engine(seed);
  std::vector<int64_t> out;
  out.reserve(static_cast<std::size_t>(count));
  auto permutation = ascending<int64_t>(size);
  while (out.size() < static_cast<std::size_t>(count)) {
    shuffle(permutation, engine);
    const auto part = std::min(permutation.size(), static_cast<std::size_t>(count) - out.size());
    out.insert(out.end(), permutation.begin(), permutation.begin() + static_cast<std::ptrdiff_t>(part));
  }
  return out;
}

void check_num_samples(const char* sampler, int64_t num_samples) {
  if (num_samples >= 1) return;
  throw UsageError(std::string(sampler) + ": num_samples = " + std::to_string(num_samples) + " must be at least 1");
}

}  // namespace

std::vector<int64_t> random_permutation(int64_t size, uint64_t seed) {
  return permutation_of<int64_t>(size, seed);
}

std::unique_ptr<const IndexOrder> shuffled_order(int64_t size, uint64_t seed) {
  static_assert(kMostStoredIndices <= std::numeric_limits<uint32_t>::max());
  if (size <= kMostStoredIndices) {
    return std::make_unique<const StoredPermutation>(permutation_of<uint32_t>(size, seed));
  }
  return std::make_unique<const Permutations>(size, size, seed);
}

std::unique_ptr<const IndexOrder> SequentialSampler::order(int64_t size, uint64_t, int64_t) const {
  return std::make_unique<const DatasetOrder>(size);
}

RandomSampler::RandomSampler(RandomSamplerOptions options) : options_(options) {
  if (options_.num_samples) check_num_samples("RandomSampler", *options_.num_samples);
}

int64_t RandomSampler::count(int64_t size) const {
  return size > 0 ? options_.num_samples.value_or(size) : 0;
}

std::unique_ptr<const IndexOrder> RandomSampler::order(int64_t size, uint64_t seed, int64_t epoch) const {
  const int64_t wanted = count(size);
  const uint64_t key = mix(seed, epoch);
  if (options_.replacement) return std::make_unique<const UniformDraws>(size, wanted, key);
  if (wanted == size || size <= 0) return shuffled_order(size, key);
  if (std::max(size, wanted) > kMostStoredIndices) return std::make_unique<const Permutations>(size, wanted, key);
  return std::make_unique<const StoredOrder>(several_permutations(size, wanted, key));
}

/// Draws by weight in constant time: an entry is drawn uniformly, and then it or its alias. Source: Vose, A linear
/// algorithm for generating random numbers with a given distribution, 1991 (https://doi.org/10.1109/32.92917).
class WeightedRandomSampler::AliasTable {
 public:
  /// `sum` is that of the weights, finite and above 0.
  AliasTable(const std::vector<double>& weights, double sum);
  /// A draw out of a random number.
  int64_t at(uint64_t random) const {
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(random) * entries_.size();
    const auto index = static_cast<int64_t>(product >> 64);
    const Entry& entry = entries_[static_cast<std::size_t>(index)];
    return static_cast<uint64_t>(product) < entry.threshold ? index : entry.alias;
  }

 private:
  struct Entry {
    uint64_t threshold = 0;  // the entry's own part, of 2^64
    int64_t alias = 0;
  };
  std::vector<Entry> entries_;
};

WeightedRandomSampler::AliasTable::AliasTable(const std::vector<double>& weights, double sum)
    : entries_(weights.size()) {
  std::vector<double> parts;  // of an entry's share: 1 on average
  std::vector<std::size_t> below, above;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    parts.push_back(weights[i] / sum * static_cast<double>(weights.size()));
    (parts[i] < 1 ? below : above).push_back(i);
  }
  const auto heaviest = std::max_element(weights.begin(), weights.end()) - weights.begin();
  // An entry whose part is below 1 gives the rest to one above, for which it counts.
  while (!below.empty() && !above.empty()) {
    const std::size_t low = below.back(), high = above.back();
    below.pop_back();
    entries_[low] = {static_cast<uint64_t>(std::ldexp(parts[low], 64)), static_cast<int64_t>(high)};
    parts[high] -= 1 - parts[low];
    if (parts[high] >= 1) continue;
    above.pop_back();
    below.push_back(high);
  }
  // What is left has a part of 1, but for rounding; an entry of weight 0 must stay out all the same.
  above.insert(above.end(), below.begin(), below.end());
  for (const std::size_t i : above) {
    entries_[i] = {0, weights[i] > 0 ? static_cast<int64_t>(i) : static_cast<int64_t>(heaviest)};
  }
}

class WeightedRandomSampler::Draws : public IndexOrder {
 public:
  Draws(std::shared_ptr<const AliasTable> table, int64_t count, uint64_t seed)
      : table_(std::move(table)), count_(count), seed_(seed) {}
  int64_t size() const override { return count_; }
  int64_t at(int64_t position) const override { return table_->at(mix(splitmix_state(seed_, position))); }

 private:
  std::shared_ptr<const AliasTable> table_;
  int64_t count_;
  uint64_t seed_;
};

WeightedRandomSampler::WeightedRandomSampler(std::vector<double> weights, int64_t num_samples, bool replacement)
    : size_(static_cast<int64_t>(weights.size())), num_samples_(num_samples) {
  check_num_samples("WeightedRandomSampler", num_samples);
  const double sum = checked_sum_of_weights(weights, "WeightedRandomSampler", "WeightedRandomSampler");
  const auto positive = std::ranges::count_if(weights, [](double weight) { return weight > 0; });
  if (!replacement && num_samples > positive) {
    throw UsageError("WeightedRandomSampler: num_samples = " + std::to_string(num_samples) +
                     " without replacement from " + std::to_string(positive) +
                     " weights above 0; ask for that many or draw with replacement");
  }
  if (replacement) {
    table_ = std::make_shared<const AliasTable>(weights, sum);
  } else {
    weights_ = std::move(weights);
  }
}

std::unique_ptr<const IndexOrder> WeightedRandomSampler::order(int64_t size, uint64_t seed, int64_t epoch) const {
  if (size != size_) {
    throw UsageError("WeightedRandomSampler has " + std::to_string(size_) + " weights for a dataset of " +
                     std::to_string(size) + " samples");
  }
  const uint64_t key = mix(seed, epoch);
  if (table_) return std::make_unique<const Draws>(table_, num_samples_, key);
  return std::make_unique<const StoredOrder>(without_replacement(key));
}

std::vector<int64_t> WeightedRandomSampler::without_replacement(uint64_t seed) const {
  // Exponential waiting times at a rate of the weight: the first to arrive are a weighted draw in the right order
  // (Efraimidis and Spirakis, https://doi.org/10.1016/j.ipl.2005.11.003).
  Engine engine(seed);
  std::vector<std::pair<double, int64_t>> arrivals;
  arrivals.reserve(weights_.size());
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    const double draw = unit(engine);
    if (weights_[i] > 0) arrivals.emplace_back(-std::log1p(-draw) / weights_[i], static_cast<int64_t>(i));
  }
  std::partial_sort(arrivals.begin(), arrivals.begin() + num_samples_, arrivals.end());
  std::vector<int64_t> out;
  out.reserve(static_cast<std::size_t>(num_samples_));
  for (int64_t i = 0; i < num_samples_; ++i) out.push_back(arrivals[static_cast<std::size_t>(i)].second);
  return out;
}

std::unique_ptr<const IndexOrder> SubsetRandomSampler::order(int64_t, uint64_t seed, int64_t epoch) const {
  auto order = shuffled_order(static_cast<int64_t>(subset_->size()), mix(seed, epoch));
  return std::make_unique<const OrderOfList>(subset_, std::move(order));
}

}  // namespace troupe
