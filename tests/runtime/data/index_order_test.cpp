#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/epoch_plan.hpp"
#include "troupe/runtime/data/keyed_permutation.hpp"
#include "troupe/runtime/data/samplers.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

namespace troupe {
namespace {

using testing::Each;

struct Countless : Dataset {
  explicit Countless(int64_t count) : count(count) {}
  int64_t size() const override { return count; }
  Batch get(int64_t) override { return {}; }
  int64_t count;
};

EpochPlan countless_plan(int64_t size, DataLoaderOptions options, EpochRequest request = {}) {
  return EpochPlan(DataLoader(std::make_shared<Countless>(size), std::move(options)), request);
}

std::vector<int64_t> samples_from(const EpochPlan& plan, int64_t first, int64_t end) {
  std::vector<int64_t> out;
  for (int64_t i = first; i < end; ++i) {
    const auto batch = plan.batch(i);
    out.insert(out.end(), batch.begin(), batch.end());
  }
  return out;
}

/// How far counts are from equal ones, in standard deviations of chi-square.
double distance_from_equal(const std::vector<int64_t>& counts) {
  const double sum = static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  const double expected = sum / static_cast<double>(counts.size());
  double chi = 0;
  for (const int64_t count : counts) chi += std::pow(static_cast<double>(count) - expected, 2) / expected;
  const double freedom = static_cast<double>(counts.size() - 1);
  return (chi - freedom) / std::sqrt(2 * freedom);
}

// One more than are stored.
constexpr int64_t kComputed = kMostStoredIndices + 1;

TEST(KeyedPermutation, GivesEachIndexOnceForAnySize) {
  for (const int64_t size : {0, 1, 2, 3, 5, 16, 17, 100, 4095, 4096, 4097, 65537}) {
    const KeyedPermutation permutation(size);
    for (const uint64_t key : {0, 1, 77}) {
      std::vector<int> seen(static_cast<std::size_t>(size));
      for (int64_t i = 0; i < size; ++i) seen.at(static_cast<std::size_t>(permutation.at(i, key))) += 1;
      EXPECT_THAT(seen, Each(1)) << size;
    }
  }
}

TEST(KeyedPermutation, StaysInTheLargestSizes) {
  for (const int64_t size : {int64_t{10'000'000'000}, std::numeric_limits<int64_t>::max()}) {
    const KeyedPermutation permutation(size);
    std::vector<int64_t> eighths(8);
    for (int64_t i = 0; i < 4000; ++i) {
      const int64_t index = permutation.at(size - 1 - i, 5);
      ASSERT_GE(index, 0);
      ASSERT_LT(index, size);
      eighths.at(static_cast<std::size_t>(index / (size / 8 + 1))) += 1;
    }
    EXPECT_LT(std::abs(distance_from_equal(eighths)), 4);
  }
}

TEST(KeyedPermutation, SmallOnesAreEquallyLikely) {
  std::map<std::vector<int64_t>, int64_t> seen;
  const KeyedPermutation permutation(5);
  for (uint64_t key = 0; key < 60000; ++key) {
    std::vector<int64_t> one;
    for (int64_t i = 0; i < 5; ++i) one.push_back(permutation.at(i, mix(3, key)));
    seen[one] += 1;
  }
  std::vector<int64_t> counts;
  for (const auto& [one, count] : seen) counts.push_back(count);
  EXPECT_EQ(counts.size(), 120u);
  EXPECT_LT(std::abs(distance_from_equal(counts)), 4);
}

TEST(KeyedPermutation, PositionsAndNeighboursAreSpreadEvenly) {
  constexpr int64_t size = 5000, cells = 10;  // the least one with few rounds
  const KeyedPermutation permutation(size);
  const auto cell = [](int64_t value) { return static_cast<std::size_t>(value * cells / size); };
  std::vector<int64_t> by_position(cells * cells), by_neighbour(cells * cells), steps(cells);
  for (uint64_t key = 0; key < 40; ++key) {
    int64_t last = permutation.at(size - 1, mix(9, key));
    for (int64_t i = 0; i < size; ++i) {
      const int64_t index = permutation.at(i, mix(9, key));
      by_position[cell(i) * cells + cell(index)] += 1;
      by_neighbour[cell(last) * cells + cell(index)] += 1;
      steps[cell((index - last + size) % size)] += 1;
      last = index;
    }
  }
  EXPECT_LT(distance_from_equal(by_position), 4);
  EXPECT_LT(distance_from_equal(by_neighbour), 4);
  EXPECT_LT(distance_from_equal(steps), 4);
}

TEST(KeyedPermutation, AKeyThatDiffersByABitGivesAnotherOrder) {
  constexpr int64_t size = int64_t{1} << 32;
  const KeyedPermutation permutation(size);
  int64_t bits = 0, equal = 0;
  constexpr int64_t trials = 2000;
  for (int64_t i = 0; i < trials; ++i) {
    const auto before = static_cast<uint64_t>(permutation.at(i, mix(1, 0)));
    const auto after = static_cast<uint64_t>(permutation.at(i, mix(1, 0) ^ (uint64_t{1} << (i % 64))));
    bits += std::popcount(before ^ after);
    equal += before == after ? 1 : 0;
  }
  EXPECT_NEAR(static_cast<double>(bits) / trials, 16, 0.3);  // half of them
  EXPECT_EQ(equal, 0);
}

TEST(ShuffledOrder, IsThePermutationThatIsStoredUpToTheLimit) {
  const auto small = shuffled_order(1000, 3);
  const auto expected = random_permutation(1000, 3);
  for (int64_t i = 0; i < 1000; ++i) ASSERT_EQ(small->at(i), expected[static_cast<std::size_t>(i)]);
  EXPECT_EQ(small->size(), 1000);
  const auto large = shuffled_order(kComputed, 3);
  EXPECT_EQ(large->size(), kComputed);
  EXPECT_EQ(large->at(0), KeyedPermutation(kComputed).at(0, mix(uint64_t{3}, 0))) << "nothing of it is stored";
}

TEST(ShuffledOrder, P9OneThatIsComputedHasEachIndexOnceAndFollowsSeedAndEpoch) {
  const RandomSampler sampler;
  const auto order = sampler.order(kComputed, 7, 0);
  std::vector<bool> seen(kComputed);
  int64_t distinct = 0;
  for (int64_t i = 0; i < kComputed; ++i) {
    const auto index = static_cast<std::size_t>(order->at(i));
    distinct += seen.at(index) ? 0 : 1;
    seen[index] = true;
  }
  EXPECT_EQ(distinct, kComputed);
  const auto next_epoch = sampler.order(kComputed, 7, 1);
  const auto other_seed = sampler.order(kComputed, 8, 0);
  int64_t same = 0;
  for (int64_t i = 0; i < 20'000; ++i) {
    same += order->at(i) == i || order->at(i) == next_epoch->at(i) || order->at(i) == other_seed->at(i) ? 1 : 0;
  }
  EXPECT_LE(same, 2) << "0.01 are expected of random orders";
}

/// A computed order of a size that a test can go through.
struct SmallComputed : ComputedSampler {
  struct Order : IndexOrder {
    Order(int64_t size, uint64_t key) : permutation(size), key(key) {}
    int64_t size() const override { return permutation.size(); }
    int64_t at(int64_t position) const override { return permutation.at(position, key); }
    KeyedPermutation permutation;
    uint64_t key;
  };
  std::unique_ptr<const IndexOrder> order(int64_t size, uint64_t seed, int64_t epoch) const override {
    return std::make_unique<const Order>(size, mix(seed, epoch));
  }
};

TEST(ComputedOrder, RanksServeEverySampleOnceTogether) {
  constexpr int64_t size = 10'001;
  const DataLoaderOptions options{.batch_size = 10, .sampler = std::make_shared<SmallComputed>()};
  for (const auto division : {Division::padded_samples, Division::batches}) {
    std::vector<int64_t> seen;
    for (int64_t shard = 0; shard < 3; ++shard) {
      const auto part = countless_plan(size, options, {.seed = 4, .shard = shard, .shards = 3, .division = division});
      const auto own = samples_from(part, 0, part.batches());
      seen.insert(seen.end(), own.begin(), own.end());
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), division == Division::batches ? size : 10'002) << "filled up";
    std::ranges::sort(seen);
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    EXPECT_EQ(static_cast<int64_t>(seen.size()), size);
  }
}

TEST(ShuffledOrder, TenBillionWindowsAreResumedAnywhereOnAnyNumberOfRanks) {
  constexpr int64_t size = 10'000'000'000;
  const DataLoaderOptions options{.batch_size = 10, .shuffle = true, .drop_last = true};
  const auto whole = countless_plan(size, options, {.seed = 2, .epoch = 3});
  ASSERT_EQ(whole.batches(), size / 10);
  const int64_t late = whole.batches() / 10 * 9;
  const auto expected = samples_from(whole, late, late + 6);
  EXPECT_EQ(samples_from(countless_plan(size, options, {.seed = 2, .epoch = 3}), late, late + 6), expected);
  // The same samples go on two ranks, from an origin on.
  std::vector<int64_t> dealt(60);
  for (int64_t shard = 0; shard < 2; ++shard) {
    const auto part = countless_plan(
        size, options, {.seed = 2, .epoch = 3, .shard = shard, .shards = 2, .origin = {3, late, late * 10}});
    const auto samples = samples_from(part, late, late + 3);
    for (std::size_t i = 0; i < samples.size(); ++i) dealt[static_cast<std::size_t>(shard) + 2 * i] = samples[i];
  }
  EXPECT_EQ(dealt, expected);
  EXPECT_EQ(countless_plan(size, options, {.limit = 5}).batches(), 5);
  auto last = whole.batch(whole.batches() - 1);
  EXPECT_EQ(last.size(), 10u);
}

TEST(RandomSampler, ComputesLargeSubsetsAndSeveralPasses) {
  const auto part = RandomSampler({.num_samples = 100}).order(kComputed, 1, 0);
  std::vector<int64_t> drawn;
  for (int64_t i = 0; i < part->size(); ++i) drawn.push_back(part->at(i));
  std::ranges::sort(drawn);
  EXPECT_EQ(std::ranges::adjacent_find(drawn), drawn.end());
  EXPECT_EQ(drawn.size(), 100u);

  const auto passes = RandomSampler({.num_samples = kComputed}).order(3, 1, 0);
  std::map<std::vector<int64_t>, int64_t> seen;
  for (int64_t i = 0; i + 3 <= 30000; i += 3) seen[{passes->at(i), passes->at(i + 1), passes->at(i + 2)}] += 1;
  ASSERT_EQ(seen.size(), 6u) << "each pass has every index once";
  std::vector<int64_t> counts;
  for (const auto& [one, count] : seen) counts.push_back(count);
  EXPECT_LT(std::abs(distance_from_equal(counts)), 4);
}

TEST(RandomSampler, DrawsWithReplacementByThePosition) {
  constexpr int64_t size = 10'000'000'000;
  const auto order = RandomSampler({.replacement = true}).order(size, 1, 0);
  EXPECT_EQ(order->size(), size);
  const auto few = RandomSampler({.replacement = true, .num_samples = 100000}).order(10, 1, 0);
  std::vector<int64_t> counts(10), pairs(100);
  for (int64_t i = 0; i < few->size(); ++i) counts.at(static_cast<std::size_t>(few->at(i))) += 1;
  for (int64_t i = 1; i < few->size(); ++i) pairs.at(static_cast<std::size_t>(few->at(i - 1) * 10 + few->at(i))) += 1;
  EXPECT_LT(std::abs(distance_from_equal(counts)), 4);
  EXPECT_LT(std::abs(distance_from_equal(pairs)), 4);
}

TEST(WeightedRandomSampler, DrawsFromAMillionWeightsAndNeverAZero) {
  std::vector<double> weights(1'000'000);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = i % 3 == 0 ? 0 : static_cast<double>(i % 3);
  weights.back() = 1e6;
  const WeightedRandomSampler sampler(weights, int64_t{1} << 31);
  const auto order = sampler.order(1'000'000, 5, 0);
  EXPECT_EQ(order->size(), int64_t{1} << 31);
  std::vector<int64_t> by_rest(3);
  int64_t heavy = 0;
  constexpr int64_t draws = 300'000;
  for (int64_t i = 0; i < draws; ++i) {
    const int64_t index = order->at(order->size() - 1 - i);
    heavy += index == 999'999 ? 1 : 0;
    if (index != 999'999) by_rest.at(static_cast<std::size_t>(index % 3)) += 1;
  }
  EXPECT_EQ(by_rest[0], 0);
  EXPECT_NEAR(static_cast<double>(heavy) / draws, 0.5, 0.005);
  EXPECT_NEAR(static_cast<double>(by_rest[2]) / static_cast<double>(by_rest[1]), 2, 0.03);
}

TEST(WeightedRandomSampler, KeepsWeightsOfAllMagnitudes) {
  const WeightedRandomSampler sampler({0, 1e-300, 3e-300, 0}, 100'000);
  const auto drawn = sampler.indices(4, 2, 0);
  EXPECT_NEAR(static_cast<double>(std::ranges::count(drawn, 2)), 75'000, 600);
  EXPECT_EQ(std::ranges::count(drawn, 0) + std::ranges::count(drawn, 3), 0);
  EXPECT_THAT(WeightedRandomSampler({0, 1e-300, 1}, 1000).indices(3, 2, 0), Each(2));
  EXPECT_THAT(WeightedRandomSampler({0, 0, 7, 0}, 1000).indices(4, 2, 0), Each(2));
}

TEST(WeightedRandomSampler, P9ADrawDependsOnItsPositionAlone) {
  const std::vector<double> weights{1, 2, 3, 4};
  const auto all = WeightedRandomSampler(weights, 1000).indices(4, 6, 2);
  auto more = WeightedRandomSampler(weights, 2000).indices(4, 6, 2);
  more.resize(1000);
  EXPECT_EQ(all, more);
  EXPECT_NE(WeightedRandomSampler(weights, 1000).indices(4, 6, 3), all);
}

TEST(EpochPlan, RefusesAnIndexOutsideOfAComputedOrderWhenItsBatchIsAskedFor) {
  struct Beyond : ComputedSampler {
    struct Order : IndexOrder {
      int64_t size() const override { return 4; }
      int64_t at(int64_t position) const override { return position * 2; }
    };
    std::unique_ptr<const IndexOrder> order(int64_t, uint64_t, int64_t) const override {
      return std::make_unique<const Order>();
    }
  };
  const auto plan = countless_plan(5, {.batch_size = 2, .sampler = std::make_shared<Beyond>()});
  EXPECT_EQ(plan.batch(0), (std::vector<int64_t>{0, 2}));
  try {
    plan.batch(1);
    FAIL() << "index 6 of 5 samples was accepted";
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "the sampler gave index 6 for a dataset of 5 samples");
  }
}

}  // namespace
}  // namespace troupe
