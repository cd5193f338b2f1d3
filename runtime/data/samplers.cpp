#include "troupe/runtime/data/samplers.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/runtime/data/random.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
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

void shuffle(std::vector<int64_t>& values, Engine& engine) {
  for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(engine, i)]);
}

std::vector<int64_t> ascending(int64_t size) {
  std::vector<int64_t> out(static_cast<std::size_t>(std::max<int64_t>(0, size)));
  std::iota(out.begin(), out.end(), int64_t{0});
  return out;
}

void check_num_samples(const char* sampler, int64_t num_samples) {
  if (num_samples >= 1) return;
  throw UsageError(std::string(sampler) + ": num_samples = " + std::to_string(num_samples) + " must be at least 1");
}

}  // namespace

std::vector<int64_t> random_permutation(int64_t size, uint64_t seed) {
  auto out = ascending(size);
  Engine engine(seed);
  shuffle(out, engine);
  return out;
}

std::vector<int64_t> SequentialSampler::indices(int64_t size, uint64_t, int64_t) const {
  return ascending(size);
}

RandomSampler::RandomSampler(RandomSamplerOptions options) : options_(options) {
  if (options_.num_samples) check_num_samples("RandomSampler", *options_.num_samples);
}

int64_t RandomSampler::count(int64_t size) const {
  return size > 0 ? options_.num_samples.value_or(size) : 0;
}

std::vector<int64_t> RandomSampler::indices(int64_t size, uint64_t seed, int64_t epoch) const {
  const auto wanted = static_cast<std::size_t>(count(size));
  if (!options_.replacement && wanted == static_cast<std::size_t>(size)) {
    return random_permutation(size, mix(seed, epoch));
  }
  Engine engine(mix(seed, epoch));
  std::vector<int64_t> out;
  out.reserve(wanted);
  if (options_.replacement) {
    while (out.size() < wanted) out.push_back(static_cast<int64_t>(below(engine, static_cast<uint64_t>(size))));
    return out;
  }
  auto permutation = ascending(size);
  while (out.size() < wanted) {
    shuffle(permutation, engine);
    const auto part = std::min(permutation.size(), wanted - out.size());
    out.insert(out.end(), permutation.begin(), permutation.begin() + static_cast<std::ptrdiff_t>(part));
  }
  return out;
}

WeightedRandomSampler::WeightedRandomSampler(std::vector<double> weights, int64_t num_samples, bool replacement)
    : weights_(std::move(weights)), num_samples_(num_samples), replacement_(replacement) {
  check_num_samples("WeightedRandomSampler", num_samples);
  double sum = 0;
  int64_t positive = 0;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (!std::isfinite(weights_[i]) || weights_[i] < 0) {
      throw UsageError("WeightedRandomSampler: weight " + std::to_string(i) + " = " + double_to_text(weights_[i]) +
                       " must be a finite number of at least 0");
    }
    sum += weights_[i];
    positive += weights_[i] > 0 ? 1 : 0;
    cumulative_.push_back(sum);
  }
  if (positive == 0) throw UsageError("WeightedRandomSampler needs at least one weight above 0");
  if (!std::isfinite(sum)) throw UsageError("WeightedRandomSampler: the weights' sum overflows; scale them down");
  if (!replacement && num_samples > positive) {
    throw UsageError("WeightedRandomSampler: num_samples = " + std::to_string(num_samples) +
                     " without replacement from " + std::to_string(positive) +
                     " weights above 0; ask for that many or draw with replacement");
  }
}

std::vector<int64_t> WeightedRandomSampler::indices(int64_t size, uint64_t seed, int64_t epoch) const {
  if (size != static_cast<int64_t>(weights_.size())) {
    throw UsageError("WeightedRandomSampler has " + std::to_string(weights_.size()) + " weights for a dataset of " +
                     std::to_string(size) + " samples");
  }
  return replacement_ ? with_replacement(mix(seed, epoch)) : without_replacement(mix(seed, epoch));
}

std::vector<int64_t> WeightedRandomSampler::with_replacement(uint64_t seed) const {
  Engine engine(seed);
  std::vector<int64_t> out;
  out.reserve(static_cast<std::size_t>(num_samples_));
  for (int64_t i = 0; i < num_samples_; ++i) {
    // The first cumulative weight above the draw: never one of weight 0, which equals the one before it.
    const double draw = unit(engine) * cumulative_.back();
    auto found = std::upper_bound(cumulative_.begin(), cumulative_.end(), draw);
    if (found == cumulative_.end())
      found = std::lower_bound(cumulative_.begin(), cumulative_.end(), cumulative_.back());
    out.push_back(found - cumulative_.begin());
  }
  return out;
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

std::vector<int64_t> SubsetRandomSampler::indices(int64_t, uint64_t seed, int64_t epoch) const {
  auto out = subset_;
  Engine engine(mix(seed, epoch));
  shuffle(out, engine);
  return out;
}

}  // namespace troupe
