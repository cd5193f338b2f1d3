#include "troupe/modules/data/data_loader.hpp"

#include "tests/support/refusal.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe {
namespace {

struct Numbers : Dataset {
  explicit Numbers(int64_t count) : count(count) {}
  int64_t size() const override { return count; }
  Batch get(int64_t index) override { return {torch::tensor(index)}; }
  int64_t count;
};

struct Endless : IterableDataset {
  void start(int64_t, int64_t, int64_t) override {}
  std::optional<Batch> next() override { return Batch{torch::zeros(1)}; }
};

struct FirstThree : Sampler {
  std::vector<int64_t> indices(int64_t, uint64_t, int64_t) const override { return {0, 1, 2}; }
};

std::shared_ptr<Dataset> numbers(int64_t count) {
  return std::make_shared<Numbers>(count);
}

TEST(DataLoader, CountsTheBatchesOfAnEpoch) {
  EXPECT_EQ(DataLoader(numbers(10), {.batch_size = 4}).batch_count(), 3);
  EXPECT_EQ(DataLoader(numbers(10), {.batch_size = 4, .drop_last = true}).batch_count(), 2);
  EXPECT_EQ(DataLoader(numbers(8), {.batch_size = 4}).batch_count(), 2);
  EXPECT_EQ(DataLoader(numbers(0), {.batch_size = 4}).batch_count(), 0);
  EXPECT_EQ(DataLoader(numbers(10), {.batch_size = 2, .sampler = std::make_shared<FirstThree>()}).batch_count(), 2);
  EXPECT_EQ(DataLoader(std::make_shared<Endless>()).batch_count(), std::nullopt);
}

TEST(DataLoader, RefusesOptionsThatCannotWorkAndNamesTheValue) {
  const auto with = [](DataLoaderOptions options) { return refusal([&] { DataLoader(numbers(3), options); }); };
  EXPECT_EQ(with({.batch_size = 0}), "DataLoader: batch_size = 0 must be at least 1");
  EXPECT_EQ(with({.num_workers = -2}), "DataLoader: num_workers = -2 must be at least 0");
  EXPECT_EQ(with({.prefetch = 0}), "DataLoader: prefetch = 0 must be at least 1");
  EXPECT_THAT(with({.shuffle = true, .sampler = std::make_shared<FirstThree>()}), testing::HasSubstr("leave one out"));
  EXPECT_THAT(refusal([] { DataLoader{std::shared_ptr<Dataset>()}; }), testing::HasSubstr("null"));
  EXPECT_THAT(refusal([] { DataLoader(std::make_shared<Endless>(), {.shuffle = true}); }),
              testing::HasSubstr("shuffle = true cannot order a stream"));
}

TEST(DefaultCollate, StacksTensorsAndKeepsNamesAndExtras) {
  Batch one{{"image", torch::ones({2, 3})}, {"label", torch::tensor(int64_t{7})}};
  one.extra = std::string("seven");
  Batch two{{"image", torch::zeros({2, 3})}, {"label", torch::tensor(int64_t{8})}};
  const Batch batch = default_collate({one, two});
  EXPECT_EQ(batch["image"].sizes(), (std::vector<int64_t>{2, 2, 3}));
  EXPECT_TRUE(batch["label"].equal(torch::tensor({7, 8}, torch::kInt64)));
  const auto extras = std::any_cast<std::vector<std::any>>(batch.extra);
  ASSERT_EQ(extras.size(), 2u);
  EXPECT_EQ(std::any_cast<std::string>(extras[0]), "seven");
  EXPECT_FALSE(extras[1].has_value());
}

TEST(DefaultCollate, NamesTheSampleThatDoesNotFit) {
  const auto collate = [](Batch second) {
    return refusal([&] { default_collate({Batch{{"x", torch::zeros({2})}}, second}); });
  };
  EXPECT_EQ(collate(Batch{{"x", torch::zeros({3})}}),
            "sample at position 1 of the batch: tensor 0 has shape [3], the batch's first sample has [2]; samples of "
            "several shapes need a collate function");
  EXPECT_THAT(collate(Batch{{"y", torch::zeros({2})}}), testing::HasSubstr("named y"));
  EXPECT_THAT(collate(Batch{}), testing::HasSubstr("has 0 tensors, the batch's first sample has 1"));
  EXPECT_THAT(collate(Batch{{"x", torch::zeros({2}, torch::kInt64)}}), testing::HasSubstr("of type Long"));
  EXPECT_THAT(collate(Batch{{"x", torch::Tensor()}}), testing::HasSubstr("undefined"));
}

}  // namespace
}  // namespace troupe
