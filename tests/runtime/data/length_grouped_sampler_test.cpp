#include "troupe/runtime/data/length_grouped_sampler.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/epoch_plan.hpp"
#include "troupe/runtime/data/random.hpp"

#include "tests/support/refusal.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace troupe {
namespace {

using testing::HasSubstr;

std::vector<int64_t> spread_lengths(int64_t count) {
  std::vector<int64_t> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(static_cast<int64_t>(mix(1, i) % 500));
  return out;
}

/// The part of all batches that is padding.
double padding_of(const std::vector<int64_t>& order, const std::vector<int64_t>& lengths, std::size_t batch) {
  int64_t longest_sum = 0, sum = 0;
  for (std::size_t first = 0; first < order.size(); first += batch) {
    const std::size_t end = std::min(first + batch, order.size());
    int64_t longest = 0;
    for (std::size_t i = first; i < end; ++i) {
      const int64_t length = lengths[static_cast<std::size_t>(order[i])];
      longest = std::max(longest, length);
      sum += length;
    }
    longest_sum += longest * static_cast<int64_t>(end - first);
  }
  return 1 - static_cast<double>(sum) / static_cast<double>(longest_sum);
}

TEST(LengthGroupedSampler, GivesEachSampleOnceInBatchesOfSimilarLength) {
  const auto lengths = spread_lengths(4003);
  const LengthGroupedSampler sampler(lengths, {.batch_size = 16, .window_batches = 50});
  const auto order = sampler.indices(4003, 1, 0);
  auto sorted = order;
  std::ranges::sort(sorted);
  std::vector<int64_t> all(4003);
  std::iota(all.begin(), all.end(), int64_t{0});
  EXPECT_EQ(sorted, all);
  EXPECT_GT(padding_of(all, lengths, 16), 0.4) << "what it is compared with";
  EXPECT_LT(padding_of(order, lengths, 16), 0.03);
  EXPECT_EQ(sampler.count(4003), 4003);
}

TEST(LengthGroupedSampler, BeginsWithTheLongestAndShufflesTheBatches) {
  const auto lengths = spread_lengths(3200);
  const LengthGroupedSampler sampler(lengths, {.batch_size = 32});
  const auto order = sampler.indices(3200, 1, 0);
  EXPECT_EQ(lengths[static_cast<std::size_t>(order[0])], *std::ranges::max_element(lengths));
  int64_t descents = 0;
  for (std::size_t first = 32; first < order.size(); first += 32) {
    descents += lengths[static_cast<std::size_t>(order[first])] < lengths[static_cast<std::size_t>(order[first - 32])];
  }
  EXPECT_NEAR(static_cast<double>(descents), 50, 20) << "of 99 steps from batch to batch";
}

TEST(LengthGroupedSampler, P9TheOrderDependsOnSeedAndEpochAlone) {
  const LengthGroupedSampler sampler(spread_lengths(300), {.batch_size = 8});
  EXPECT_EQ(sampler.indices(300, 4, 2), sampler.indices(300, 4, 2));
  EXPECT_NE(sampler.indices(300, 4, 2), sampler.indices(300, 4, 3));
  EXPECT_NE(sampler.indices(300, 4, 2), sampler.indices(300, 5, 2));
  EXPECT_EQ(LengthGroupedSampler({3, 1, 2}, {.batch_size = 8}).indices(3, 1, 0), (std::vector<int64_t>{0, 2, 1}));
}

TEST(LengthGroupedSampler, ItsBatchesAreDividedOverRanks) {
  struct Sized : Dataset {
    int64_t size() const override { return 4000; }
    Batch get(int64_t) override { return {}; }
  };
  const auto lengths = spread_lengths(4000);
  // Two ranks, each with batches of 8: one step has 16 samples.
  const DataLoader loader(std::make_shared<Sized>(), {.batch_size = 8,
                                                      .sampler = std::make_shared<LengthGroupedSampler>(
                                                          lengths, LengthGroupedOptions{.batch_size = 16})});
  std::vector<int64_t> seen;
  for (int64_t shard = 0; shard < 2; ++shard) {
    const EpochPlan plan(loader, {.seed = 3, .shard = shard, .shards = 2});
    std::vector<int64_t> own;
    for (int64_t i = 0; i < plan.batches(); ++i) {
      const auto batch = plan.batch(i);
      own.insert(own.end(), batch.begin(), batch.end());
    }
    EXPECT_LT(padding_of(own, lengths, 8), 0.03);
    seen.insert(seen.end(), own.begin(), own.end());
  }
  std::ranges::sort(seen);
  EXPECT_EQ(std::ranges::adjacent_find(seen), seen.end());
  EXPECT_EQ(seen.size(), 4000u);
}

TEST(LengthGroupedSampler, RefusesWhatCannotBeGrouped) {
  const auto refused = [](std::vector<int64_t> lengths, LengthGroupedOptions options, int64_t size) {
    return refusal([&] { LengthGroupedSampler(std::move(lengths), options).indices(size, 0, 0); });
  };
  EXPECT_THAT(refused({}, {}, 0), HasSubstr("has none"));
  EXPECT_THAT(refused({1, -2}, {}, 2), HasSubstr("length 1 = -2"));
  EXPECT_THAT(refused({1}, {.batch_size = 0}, 1), HasSubstr("batch_size = 0"));
  EXPECT_THAT(refused({1}, {.window_batches = 0}, 1), HasSubstr("window_batches = 0"));
  EXPECT_THAT(refused({1, 2}, {}, 3), HasSubstr("2 lengths for a dataset of 3 samples"));
}

}  // namespace
}  // namespace troupe
