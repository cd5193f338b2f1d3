#include "troupe/runtime/data/random.hpp"

#include "troupe/base/failure.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <set>
#include <thread>

namespace troupe {
namespace {

TEST(Random, P9EveryThreadHasItsOwnGenerator) {
  ASSERT_TRUE(per_thread_generators());
  seed_thread(5);
  const auto expected = torch::rand({3});
  seed_thread(5);
  torch::Tensor other;
  std::thread([&] {
    seed_thread(5);
    other = torch::rand({3});
  }).join();
  EXPECT_TRUE(other.equal(expected));
  EXPECT_TRUE(torch::rand({3}).equal(expected)) << "another thread drew from this thread's generator";
}

TEST(Random, CheckingTheGeneratorsDrawsNothing) {
  seed_thread(1);
  const auto expected = torch::rand({3});
  seed_thread(1);
  per_thread_generators();
  EXPECT_TRUE(torch::rand({3}).equal(expected));
}

TEST(Random, ManualSeedAndModulesUseTheThreadsGenerator) {
  const auto draw = [] {
    auto dropout = torch::nn::Dropout(0.5);
    return torch::cat({torch::randn({7}), dropout(torch::ones({9})), torch::randperm(5).to(torch::kFloat)});
  };
  torch::manual_seed(3);
  const auto first = draw();
  seed_thread(3);
  EXPECT_TRUE(draw().equal(first));
}

TEST(Random, AStateContinuesWhereItWasTaken) {
  seed_thread(9);
  torch::randn({3});  // leaves half of a pair of normal samples behind, which belongs to the state
  const auto state = generator_state();
  const auto expected = torch::randn({5});
  set_generator_state(state);
  EXPECT_TRUE(torch::randn({5}).equal(expected));
}

TEST(Random, RefusesWhatIsNotAState) {
  EXPECT_THROW(set_generator_state(torch::Tensor()), UsageError);
  EXPECT_THROW(set_generator_state(torch::zeros({3}, torch::kByte)), UsageError);
  EXPECT_THROW(set_generator_state(torch::zeros_like(generator_state())), UsageError);
}

TEST(Random, MixSpreadsNeighbouringSeeds) {
  std::set<uint64_t> seen;
  for (int seed = 0; seed < 20; ++seed) {
    for (int epoch = 0; epoch < 20; ++epoch) {
      for (int index = 0; index < 20; ++index) seen.insert(mix(seed, epoch, index));
    }
  }
  EXPECT_EQ(seen.size(), 8000u);
  EXPECT_NE(mix(1, 2, 3), mix(1, 3, 2));
}

}  // namespace
}  // namespace troupe
