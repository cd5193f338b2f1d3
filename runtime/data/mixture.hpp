// Datasets and streams mixed by weight, in exact proportions.
#pragma once

#include "troupe/modules/data/dataset.hpp"
#include "troupe/modules/data/sampler.hpp"
#include "troupe/runtime/data/concat_dataset.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace troupe {

/// Which of several sources serves which position, by weight: after any number of positions each source has served its
/// share of them to within less than one. A position is all that it takes to go on.
///
/// A table of one period, which repeats. Its slots are those of a fair schedule: item j of a source with share s comes
/// in the window [floor(j / s), ceil((j + 1) / s) - 1], the earliest deadline first (Baruah et al., Proportionate
/// progress, 1996, https://doi.org/10.1007/BF01940883). Within their windows items are exchanged at random, so that the
/// sources do not fall into step with the ranks that positions are dealt out to; the table is the same for every seed.
/// Any thread may use it.
class MixtureSchedule {
 public:
  /// The longest period. Weights with a common denominator of so much at most (all decimal fractions of six digits) are
  /// kept exactly; others are rounded to this many parts.
  static constexpr int64_t kMostParts = int64_t{1} << 20;

  struct Slot {
    std::size_t source = 0;
    int64_t index = 0;  ///< among the source's items, from 0
  };

  /// Weights in any unit; a source of weight 0 is left out. Throws UsageError for no weights, a negative or non-finite
  /// one, weights that are all zero, more than 65,535 of them, and one that is above 0 but less than one of kMostParts.
  explicit MixtureSchedule(const std::vector<double>& weights);

  Slot at(int64_t position) const;
  /// Items of each source among the first `positions`.
  std::vector<int64_t> counts(int64_t positions) const;
  /// The part of all positions that each source gets.
  std::vector<double> shares() const;

 private:
  std::vector<uint16_t> sources_;    // of each position of the period
  std::vector<uint32_t> indices_;    // the item among its source's
  std::vector<int64_t> per_period_;  // items of each source
};

struct MixtureSamplerOptions {
  /// Samples of an epoch; the sum of the datasets' sizes if not given.
  std::optional<int64_t> num_samples = std::nullopt;
  /// Each pass over a dataset in an order of its own; false: in the dataset's order.
  bool shuffle = true;
};

/// Mixes the datasets of a ConcatDataset by weight (MixtureSchedule): whatever their sizes, after any number of samples
/// of the epoch each has served its share of them to within less than one. A dataset that is used up begins anew in a
/// new order; passes go on over the epochs, so every sample of a dataset comes once before one comes again. The order
/// is computed (KeyedPermutation), so that an epoch may have any length and is resumed at no cost.
///
///     auto all = std::make_shared<ConcatDataset>(std::vector<std::shared_ptr<Dataset>>{web, books, code});
///     auto mixture = std::make_shared<MixtureSampler>(*all, std::vector<double>{0.7, 0.2, 0.1});
///     DataLoader loader(all, {.batch_size = 64, .sampler = mixture});
class MixtureSampler : public ComputedSampler {
 public:
  /// `sizes` of the datasets. Throws UsageError for num_samples < 1, for another number of weights than of datasets,
  /// for an empty dataset with a weight above 0, and as MixtureSchedule does.
  MixtureSampler(std::vector<int64_t> sizes, const std::vector<double>& weights, MixtureSamplerOptions options = {});
  MixtureSampler(const ConcatDataset& datasets, const std::vector<double>& weights, MixtureSamplerOptions options = {})
      : MixtureSampler(datasets.sizes(), weights, options) {}

  /// Throws UsageError if the dataset's size is not the sum of the sizes.
  std::unique_ptr<const IndexOrder> order(int64_t size, uint64_t seed, int64_t epoch) const override;
  int64_t count(int64_t) const override { return num_samples_; }
  const MixtureSchedule& schedule() const { return *schedule_; }

 private:
  std::vector<int64_t> sizes_;
  int64_t all_ = 0;
  std::shared_ptr<const MixtureSchedule> schedule_;
  int64_t num_samples_;
  bool shuffle_;
};

struct MixtureStreamOptions {
  /// Samples of an epoch, divided among its readers; a stream that ends earlier begins anew. If not given, the epoch
  /// ends when the first stream does.
  std::optional<int64_t> num_samples = std::nullopt;
};

/// Mixes streams by weight as MixtureSampler mixes datasets. Pass number p over a stream in an epoch, from 0, is
/// started as that stream's epoch `epoch + p * 2^32`. Streams that can `skip` and know their `length` are resumed by a
/// seek, if all do; else the samples up to there are read again. One thread uses it, and each stream belongs to it
/// alone.
class MixtureStream : public IterableDataset {
 public:
  /// Throws UsageError for a null stream, another number of weights than of streams, num_samples < 1, and as
  /// MixtureSchedule does.
  MixtureStream(std::vector<std::shared_ptr<IterableDataset>> streams, std::vector<double> weights,
                MixtureStreamOptions options = {});

  void start(int64_t epoch, int64_t shard, int64_t shards) override;
  /// Throws UsageError for a stream that has nothing for this reader and is to begin anew.
  std::optional<Batch> next() override;
  bool skip(int64_t samples) override;
  std::optional<int64_t> length() const override;
  /// Shares the schedule; null if a stream has no replica.
  std::shared_ptr<IterableDataset> replicate() const override;

 private:
  MixtureStream(std::vector<std::shared_ptr<IterableDataset>> streams, std::vector<double> weights,
                MixtureStreamOptions options, std::shared_ptr<const MixtureSchedule> schedule);
  void start_pass(std::size_t stream, int64_t pass);
  bool skip_in(std::size_t stream, int64_t samples);

  std::vector<std::shared_ptr<IterableDataset>> streams_;
  std::vector<double> weights_;
  MixtureStreamOptions options_;
  std::shared_ptr<const MixtureSchedule> schedule_;
  std::vector<int64_t> passes_;  // of each stream, the one at hand
  int64_t epoch_ = 0;
  int64_t shard_ = 0;
  int64_t shards_ = 1;
  int64_t position_ = 0;
  bool ended_ = false;
};

}  // namespace troupe
