// The samplers of PyTorch (https://pytorch.org/docs/stable/data.html#torch.utils.data.Sampler), as pure functions of
// (dataset size, seed, epoch): the order is the same on every machine and leaves the threads' random generators alone.
#pragma once

#include "troupe/modules/data/sampler.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace troupe {

/// A permutation of 0 .. size - 1, each equally likely (Fisher and Yates); a pure function of its arguments. This is
/// the order of `shuffle`, with mix(seed, epoch) for the seed.
std::vector<int64_t> random_permutation(int64_t size, uint64_t seed);

/// 0, 1, 2, ...
class SequentialSampler : public Sampler {
 public:
  std::vector<int64_t> indices(int64_t size, uint64_t seed, int64_t epoch) const override;
  int64_t count(int64_t size) const override { return size; }
};

struct RandomSamplerOptions {
  /// Draw each index independently of the others, so that some come several times.
  bool replacement = false;
  /// Indices an epoch; the dataset's size when not given. More than that without replacement: several permutations.
  std::optional<int64_t> num_samples = std::nullopt;
};

/// Every sample equally likely.
class RandomSampler : public Sampler {
 public:
  /// Throws UsageError for num_samples < 1.
  explicit RandomSampler(RandomSamplerOptions options = {});
  std::vector<int64_t> indices(int64_t size, uint64_t seed, int64_t epoch) const override;
  int64_t count(int64_t size) const override;

 private:
  RandomSamplerOptions options_;
};

/// Sample i with a probability in proportion to weights[i]; the weights need not sum to 1.
class WeightedRandomSampler : public Sampler {
 public:
  /// Throws UsageError for num_samples < 1, no weights, a negative or non-finite weight, weights that are all zero, and
  /// without replacement for fewer weights above zero than num_samples.
  WeightedRandomSampler(std::vector<double> weights, int64_t num_samples, bool replacement = true);
  /// Throws UsageError if the dataset's size is not the number of weights.
  std::vector<int64_t> indices(int64_t size, uint64_t seed, int64_t epoch) const override;
  int64_t count(int64_t) const override { return num_samples_; }

 private:
  std::vector<int64_t> with_replacement(uint64_t seed) const;
  std::vector<int64_t> without_replacement(uint64_t seed) const;

  std::vector<double> weights_;
  std::vector<double> cumulative_;
  int64_t num_samples_;
  bool replacement_;
};

/// The given indices in a new order each epoch.
class SubsetRandomSampler : public Sampler {
 public:
  explicit SubsetRandomSampler(std::vector<int64_t> subset) : subset_(std::move(subset)) {}
  std::vector<int64_t> indices(int64_t size, uint64_t seed, int64_t epoch) const override;
  int64_t count(int64_t) const override { return static_cast<int64_t>(subset_.size()); }

 private:
  std::vector<int64_t> subset_;
};

}  // namespace troupe
