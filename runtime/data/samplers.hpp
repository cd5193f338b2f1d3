// The samplers of PyTorch (https://pytorch.org/docs/stable/data.html#torch.utils.data.Sampler), as pure functions of
// (dataset size, seed, epoch): the order is the same on every machine and leaves the threads' random generators alone.
// Large orders are computed position by position and take no memory; so are all draws with replacement.
#pragma once

#include "troupe/modules/data/sampler.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace troupe {

/// The largest shuffled order that is stored (16 MiB): up to here every permutation is equally likely. Larger ones are
/// computed (KeyedPermutation): no memory, no time at an epoch's start, and about 60 ns an index rather than 25.
inline constexpr int64_t kMostStoredIndices = int64_t{1} << 22;

/// A permutation of 0 .. size - 1, each equally likely (Fisher and Yates); a pure function of its arguments.
std::vector<int64_t> random_permutation(int64_t size, uint64_t seed);
/// The order of `shuffle`, with mix(seed, epoch) for the seed: random_permutation up to kMostStoredIndices, computed
/// beyond.
std::unique_ptr<const IndexOrder> shuffled_order(int64_t size, uint64_t seed);

/// 0, 1, 2, ...
class SequentialSampler : public ComputedSampler {
 public:
  std::unique_ptr<const IndexOrder> order(int64_t size, uint64_t seed, int64_t epoch) const override;
  int64_t count(int64_t size) const override { return size; }
};

struct RandomSamplerOptions {
  /// Draw each index independently of the others, so that some come several times.
  bool replacement = false;
  /// Indices an epoch; the dataset's size when not given. More than that without replacement: several permutations.
  std::optional<int64_t> num_samples = std::nullopt;
};

/// Every sample equally likely. Without replacement and up to kMostStoredIndices samples and indices, the order is
/// stored.
class RandomSampler : public ComputedSampler {
 public:
  /// Throws UsageError for num_samples < 1.
  explicit RandomSampler(RandomSamplerOptions options = {});
  std::unique_ptr<const IndexOrder> order(int64_t size, uint64_t seed, int64_t epoch) const override;
  int64_t count(int64_t size) const override;

 private:
  RandomSamplerOptions options_;
};

/// Sample i with a probability in proportion to weights[i]; the weights need not sum to 1, and one of weight 0 is never
/// drawn. With replacement a draw costs two accesses to memory for any number of weights, and num_samples has no limit;
/// without replacement the order is stored.
class WeightedRandomSampler : public ComputedSampler {
 public:
  /// Throws UsageError for num_samples < 1, no weights, a negative or non-finite weight, weights that are all zero, and
  /// without replacement for fewer weights above zero than num_samples.
  WeightedRandomSampler(std::vector<double> weights, int64_t num_samples, bool replacement = true);
  /// Throws UsageError if the dataset's size is not the number of weights.
  std::unique_ptr<const IndexOrder> order(int64_t size, uint64_t seed, int64_t epoch) const override;
  int64_t count(int64_t) const override { return num_samples_; }

 private:
  class AliasTable;
  class Draws;
  std::vector<int64_t> without_replacement(uint64_t seed) const;

  std::vector<double> weights_;              // without replacement
  std::shared_ptr<const AliasTable> table_;  // with
  int64_t size_;
  int64_t num_samples_;
};

/// The given indices in a new order each epoch.
class SubsetRandomSampler : public ComputedSampler {
 public:
  explicit SubsetRandomSampler(std::vector<int64_t> subset)
      : subset_(std::make_shared<const std::vector<int64_t>>(std::move(subset))) {}
  std::unique_ptr<const IndexOrder> order(int64_t size, uint64_t seed, int64_t epoch) const override;
  int64_t count(int64_t) const override { return static_cast<int64_t>(subset_->size()); }

 private:
  std::shared_ptr<const std::vector<int64_t>> subset_;
};

}  // namespace troupe
