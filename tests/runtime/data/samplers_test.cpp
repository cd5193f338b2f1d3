#include "troupe/runtime/data/samplers.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/random.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <map>

namespace troupe {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

TEST(Samplers, SequentialGivesEveryIndexInOrder) {
  EXPECT_THAT(SequentialSampler().indices(4, 1, 7), ElementsAre(0, 1, 2, 3));
  EXPECT_TRUE(SequentialSampler().indices(0, 1, 7).empty());
}

TEST(Samplers, P9TheOrderDependsOnSeedAndEpochAlone) {
  const RandomSampler sampler;
  const auto order = sampler.indices(100, 42, 3);
  torch::rand({10});
  EXPECT_EQ(sampler.indices(100, 42, 3), order);
  EXPECT_NE(sampler.indices(100, 42, 4), order);
  EXPECT_NE(sampler.indices(100, 43, 3), order);
  seed_thread(1);
  const auto untouched = generator_state();
  sampler.indices(100, 42, 3);
  EXPECT_TRUE(generator_state().equal(untouched));
}

TEST(Samplers, RandomGivesEveryPermutationEquallyOften) {
  std::map<std::vector<int64_t>, int> seen;
  const RandomSampler sampler;
  for (int64_t epoch = 0; epoch < 24000; ++epoch) seen[sampler.indices(4, 11, epoch)] += 1;
  EXPECT_EQ(seen.size(), 24u);
  double chi_squared = 0;
  for (const auto& [order, times] : seen) chi_squared += (times - 1000.0) * (times - 1000.0) / 1000.0;
  EXPECT_LT(chi_squared, 49.7);  // 0.1 % of fair shuffles lie above, with 23 degrees of freedom
}

TEST(Samplers, RandomDrawsAsManyAsAskedFor) {
  const auto several = RandomSampler({.num_samples = 10}).indices(4, 1, 0);
  ASSERT_EQ(several.size(), 10u);
  EXPECT_THAT(std::vector<int64_t>(several.begin(), several.begin() + 4), UnorderedElementsAre(0, 1, 2, 3));
  EXPECT_THAT(std::vector<int64_t>(several.begin() + 4, several.begin() + 8), UnorderedElementsAre(0, 1, 2, 3));
  EXPECT_EQ(RandomSampler({.num_samples = 2}).indices(4, 1, 0).size(), 2u);
  std::map<int64_t, int> seen;
  for (const auto index : RandomSampler({.replacement = true, .num_samples = 40000}).indices(4, 1, 0)) seen[index] += 1;
  for (const auto& [index, times] : seen) EXPECT_NEAR(times, 10000, 400) << index;
  EXPECT_TRUE(RandomSampler({.replacement = true, .num_samples = 3}).indices(0, 1, 0).empty());
  EXPECT_THROW(RandomSampler({.num_samples = 0}), UsageError);
}

TEST(Samplers, WeightedFollowsTheWeights) {
  const WeightedRandomSampler sampler({1, 0, 3, 0}, 40000);
  std::map<int64_t, int> seen;
  for (const auto index : sampler.indices(4, 5, 0)) seen[index] += 1;
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_NEAR(seen[0], 10000, 500);
  EXPECT_NEAR(seen[2], 30000, 500);
}

TEST(Samplers, WeightedWithoutReplacementDrawsEachOnce) {
  int heavy_first = 0;
  const WeightedRandomSampler sampler({1, 0, 3}, 2, false);
  for (int64_t epoch = 0; epoch < 4000; ++epoch) {
    const auto drawn = sampler.indices(3, 5, epoch);
    EXPECT_THAT(drawn, UnorderedElementsAre(0, 2));
    heavy_first += drawn.front() == 2 ? 1 : 0;
  }
  EXPECT_NEAR(heavy_first, 3000, 150);
}

TEST(Samplers, WeightedRefusesWeightsThatCannotBeDrawnFrom) {
  EXPECT_THROW(WeightedRandomSampler({}, 1), UsageError);
  EXPECT_THROW(WeightedRandomSampler({0, 0}, 1), UsageError);
  EXPECT_THROW(WeightedRandomSampler({1, -1}, 1), UsageError);
  EXPECT_THROW(WeightedRandomSampler({1, std::nan("")}, 1), UsageError);
  EXPECT_THROW(WeightedRandomSampler({1e308, 1e308}, 1), UsageError);
  EXPECT_THROW(WeightedRandomSampler({1, 0, 1}, 3, false), UsageError);
  EXPECT_THROW(WeightedRandomSampler({1}, 0), UsageError);
  EXPECT_THROW(WeightedRandomSampler({1, 1}, 2).indices(3, 0, 0), UsageError);
}

TEST(Samplers, SubsetKeepsToItsIndices) {
  const SubsetRandomSampler sampler({7, 3, 5});
  EXPECT_THAT(sampler.indices(10, 1, 0), UnorderedElementsAre(3, 5, 7));
  EXPECT_EQ(sampler.count(10), 3);
}

}  // namespace
}  // namespace troupe
