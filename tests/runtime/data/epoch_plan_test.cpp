#include "troupe/runtime/data/epoch_plan.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/samplers.hpp"

#include "tests/support/refusal.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace troupe {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

struct NumberedSamples : Dataset {
  explicit NumberedSamples(int64_t count) : count(count) {}
  int64_t size() const override { return count; }
  Batch get(int64_t) override { return {}; }
  int64_t count;
};

struct Fixed : Sampler {
  explicit Fixed(std::vector<int64_t> order) : order(std::move(order)) {}
  std::vector<int64_t> indices(int64_t, uint64_t, int64_t) const override { return order; }
  std::vector<int64_t> order;
};

EpochPlan plan(int64_t size, DataLoaderOptions options, EpochRequest request = {}) {
  return EpochPlan(DataLoader(std::make_shared<NumberedSamples>(size), std::move(options)), request);
}

std::vector<int64_t> all(const EpochPlan& plan) {
  std::vector<int64_t> out;
  for (int64_t i = 0; i < plan.batches(); ++i) {
    const auto batch = plan.batch(i);
    out.insert(out.end(), batch.begin(), batch.end());
  }
  return out;
}

TEST(EpochPlan, CutsTheOrderIntoBatches) {
  const auto five = plan(5, {.batch_size = 2});
  EXPECT_EQ(five.batches(), 3);
  EXPECT_THAT(five.batch(0), ElementsAre(0, 1));
  EXPECT_THAT(five.batch(2), ElementsAre(4));
  EXPECT_EQ(plan(5, {.batch_size = 2, .drop_last = true}).batches(), 2);
  EXPECT_EQ(plan(0, {.batch_size = 2, .shuffle = true}).batches(), 0);
}

TEST(EpochPlan, P9ShufflesByItsSeedAndEpochAlone) {
  const auto order = all(plan(50, {.batch_size = 7, .shuffle = true}, {.seed = 1, .epoch = 2}));
  EXPECT_EQ(all(plan(50, {.batch_size = 5, .shuffle = true}, {.seed = 1, .epoch = 2})), order);
  EXPECT_NE(all(plan(50, {.batch_size = 7, .shuffle = true}, {.seed = 1, .epoch = 3})), order);
  auto sorted = order;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, all(plan(50, {.batch_size = 7})));
}

TEST(EpochPlan, LeavesShuffleOutWhenItIsNotAllowed) {
  const auto order = all(plan(6, {.batch_size = 2, .shuffle = true}, {.allow_shuffle = false}));
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(EpochPlan, EndsAtTheLimit) {
  EXPECT_EQ(plan(10, {.batch_size = 2}, {.limit = 3}).batches(), 3);
  EXPECT_EQ(plan(10, {.batch_size = 2}, {.limit = 30}).batches(), 5);
  EXPECT_EQ(plan(10, {.batch_size = 2}, {.limit = 0}).batches(), 0);
}

TEST(EpochPlan, DividedSamplesAreFilledUpFromTheBeginning) {
  const auto whole = all(plan(10, {.batch_size = 6, .shuffle = true}, {.seed = 4}));
  for (int64_t shard = 0; shard < 3; ++shard) {
    const auto part = all(plan(10, {.batch_size = 2, .shuffle = true}, {.seed = 4, .shard = shard, .shards = 3}));
    ASSERT_EQ(part.size(), 4u);
    for (std::size_t i = 0; i < 4; ++i) {
      const auto place = static_cast<std::size_t>(shard) + 3 * i;
      EXPECT_EQ(part[i], whole[place % 10]) << shard << ' ' << i;
    }
  }
  EXPECT_THAT(all(plan(2, {}, {.shard = 2, .shards = 3})), ElementsAre(0));
  EXPECT_EQ(plan(0, {}, {.shard = 2, .shards = 3}).batches(), 0);
  EXPECT_THROW(plan(2, {}, {.shard = 3, .shards = 3}), UsageError);
}

TEST(EpochPlan, DividedBatchesAreThoseOfOneRankAlone) {
  const DataLoaderOptions options{.batch_size = 3};
  for (const int64_t limit : {-1, 3}) {
    const auto alone = plan(10, options, {.limit = limit});
    std::vector<std::vector<int64_t>> together(static_cast<std::size_t>(alone.batches()));
    for (int64_t shard = 0; shard < 3; ++shard) {
      const auto part = plan(10, options, {.limit = limit, .shard = shard, .shards = 3, .division = Division::batches});
      for (int64_t i = 0; i < part.batches(); ++i) together.at(static_cast<std::size_t>(shard + 3 * i)) = part.batch(i);
    }
    for (int64_t i = 0; i < alone.batches(); ++i) EXPECT_EQ(together[static_cast<std::size_t>(i)], alone.batch(i));
  }
  const EpochRequest idle{.shard = 2, .shards = 3, .division = Division::batches};
  EXPECT_EQ(plan(2, options, idle).batches(), 0);
}

TEST(EpochPlan, TakesASamplersOrderAndRefusesAnIndexOutside) {
  const auto with = [](std::vector<int64_t> order) {
    return plan(4, {.batch_size = 2, .sampler = std::make_shared<Fixed>(std::move(order))});
  };
  EXPECT_THAT(all(with({3, 3, 0})), ElementsAre(3, 3, 0));
  EXPECT_EQ(with({}).batches(), 0);
  try {
    with({0, 4});
    FAIL() << "index 4 of 4 samples was accepted";
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "the sampler gave index 4 for a dataset of 4 samples");
  }
}

TEST(EpochPlan, RefusesAnIndexOutsideOfASubsetBeforeTheEpoch) {
  const auto of_subset = [](std::vector<int64_t> subset) {
    return plan(10, {.sampler = std::make_shared<SubsetRandomSampler>(std::move(subset))});
  };
  EXPECT_THAT(all(of_subset({9, 0})), UnorderedElementsAre(0, 9));
  EXPECT_EQ(refusal([&] { of_subset({0, 999}); }), "the sampler gave index 999 for a dataset of 10 samples");
}

TEST(EpochPlan, ASamplersOrderThatIsNullIsRefusedWhereverItIsAskedFor) {
  struct Nothing : ComputedSampler {
    std::unique_ptr<const IndexOrder> order(int64_t, uint64_t, int64_t) const override { return nullptr; }
  };
  const auto sampler = std::make_shared<Nothing>();
  const std::string expected = "the sampler's order is null; it needs an IndexOrder";
  EXPECT_EQ(refusal([&] { sampler->count(3); }), expected);
  EXPECT_EQ(refusal([&] { sampler->indices(3, 0, 0); }), expected);
  EXPECT_EQ(refusal([&] { plan(3, {.sampler = sampler}); }), expected);
}

}  // namespace
}  // namespace troupe
