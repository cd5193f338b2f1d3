// The threads of a loader without actors; the thread sanitizer runs this too (tests/sanitizers.cmake).
#include "troupe/runtime/fabric/fabric_loader.hpp"

#include "troupe/runtime/data/tensor_dataset.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

namespace troupe {
namespace {

using testing::ElementsAre;

std::vector<int64_t> numbers_of(FabricLoader& loader, std::size_t most = 1000) {
  std::vector<int64_t> numbers;
  for (const Batch& batch : loader) {
    numbers.push_back(batch[0][0].item<int64_t>());
    if (numbers.size() == most) break;
  }
  return numbers;
}

DataLoader hundred(int64_t workers, bool shuffle) {
  return {std::make_shared<TensorDataset>(torch::arange(100)),
          {.batch_size = 1, .shuffle = shuffle, .num_workers = workers, .prefetch = 3}};
}

TEST(FabricLoader, GivesTheSameBatchesHoweverManyThreadsMakeThem) {
  FabricLoader alone(hundred(0, true), {.seed = 3}), together(hundred(4, true), {.seed = 3});
  for (int epoch = 0; epoch < 2; ++epoch) {
    const auto numbers = numbers_of(alone);
    EXPECT_EQ(numbers.size(), 100u);
    EXPECT_EQ(numbers_of(together), numbers);
    EXPECT_EQ(together.epoch(), epoch);
  }
}

TEST(FabricLoader, EndsItsThreadsWhenAnEpochIsLeft) {
  FabricLoader loader(hundred(4, false), {});
  for (std::size_t most = 1; most < 12; ++most) EXPECT_EQ(numbers_of(loader, most).size(), most);
  auto former = loader.begin();
  EXPECT_THAT(numbers_of(loader, 3), ElementsAre(0, 1, 2));
  ++former;
  EXPECT_TRUE(former == loader.end()) << "its epoch is over";
}

class Counting : public IterableDataset {
 public:
  void start(int64_t, int64_t, int64_t) override { next_ = 0; }
  std::optional<Batch> next() override {
    if (next_ == 5) return std::nullopt;
    return Batch{torch::tensor(next_++)};
  }

 private:
  int64_t next_ = 0;
};

TEST(FabricLoader, ReadsAStreamToItsEnd) {
  FabricLoader loader(DataLoader(std::make_shared<Counting>(), {.batch_size = 2, .num_workers = 3}), {});
  EXPECT_EQ(loader.size(), std::nullopt);
  EXPECT_THAT(numbers_of(loader), ElementsAre(0, 2, 4));
  EXPECT_THAT(numbers_of(loader), ElementsAre(0, 2, 4));
}

class Brittle : public Dataset {
 public:
  int64_t size() const override { return 20; }
  Batch get(int64_t index) override {
    if (index == 7) throw std::runtime_error("no such picture");
    return {torch::tensor(index)};
  }
};

TEST(FabricLoader, ThrowsWhatADatasetThrewAtItsPlace) {
  FabricLoader loader(DataLoader(std::make_shared<Brittle>(), {.num_workers = 4}), {});
  std::vector<int64_t> numbers;
  try {
    for (const Batch& batch : loader) numbers.push_back(batch[0][0].item<int64_t>());
    ADD_FAILURE() << "no exception";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "sample 7: no such picture");
  }
  EXPECT_THAT(numbers, ElementsAre(0, 1, 2, 3, 4, 5, 6));
}

}  // namespace
}  // namespace troupe
