#include "troupe/runtime/data/mixture.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/batch_maker.hpp"
#include "troupe/runtime/data/epoch_plan.hpp"
#include "troupe/runtime/data/tensor_dataset.hpp"

#include "tests/support/refusal.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace troupe {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

/// The greatest distance of a source's count from its share, over all prefixes.
double worst_lag(const MixtureSchedule& schedule, const std::vector<double>& shares, int64_t positions) {
  std::vector<int64_t> counts(shares.size());
  double worst = 0;
  for (int64_t position = 0; position < positions; ++position) {
    const auto slot = schedule.at(position);
    EXPECT_EQ(slot.index, counts[slot.source]) << "items come in order";
    counts[slot.source] += 1;
    for (std::size_t i = 0; i < shares.size(); ++i) {
      worst = std::max(worst, std::abs(static_cast<double>(counts[i]) - shares[i] * static_cast<double>(position + 1)));
    }
  }
  return worst;
}

TEST(MixtureSchedule, EachSourceIsWithinOneOfItsShareAtEveryPosition) {
  const std::vector<std::vector<double>> cases = {{1},
                                                  {1, 1},
                                                  {0.7, 0.2, 0.1},
                                                  {3, 1, 0, 4, 1, 5, 9, 2, 6},
                                                  std::vector<double>(37, 1.0),
                                                  {0.333333, 0.666667},
                                                  {0.9, 0.05, 0.01, 0.01, 0.01, 0.01, 0.01}};
  for (const auto& weights : cases) {
    const MixtureSchedule schedule(weights);
    double sum = 0;
    for (const double weight : weights) sum += weight;
    auto shares = weights;
    for (auto& share : shares) share /= sum;
    for (std::size_t i = 0; i < shares.size(); ++i) EXPECT_NEAR(schedule.shares()[i], shares[i], 1e-12);
    EXPECT_LT(worst_lag(schedule, shares, 20'000), 1) << weights.size();
  }
}

TEST(MixtureSchedule, WeightsWithoutACommonDenominatorAreRoundedToAMillionth) {
  const std::vector<double> weights{std::sqrt(2.0), std::exp(1.0), 1e-3 * std::acos(-1.0)};
  const MixtureSchedule schedule(weights);
  const double sum = weights[0] + weights[1] + weights[2];
  for (std::size_t i = 0; i < weights.size(); ++i) EXPECT_NEAR(schedule.shares()[i], weights[i] / sum, 1e-6);
  EXPECT_LT(worst_lag(schedule, schedule.shares(), 50'000), 1);
}

TEST(MixtureSchedule, CountsWhatThePositionsHold) {
  const MixtureSchedule schedule({5, 3, 0, 2});
  std::vector<int64_t> counts(4);
  for (int64_t position = 0; position < 9000; ++position) {
    if (position % 997 == 0) {
      EXPECT_EQ(schedule.counts(position), counts) << position;
    }
    counts[schedule.at(position).source] += 1;
  }
  EXPECT_THAT(schedule.counts(10'000'000'000), ElementsAre(5'000'000'000, 3'000'000'000, 0, 2'000'000'000));
}

TEST(MixtureSchedule, DoesNotFallIntoStepWithTheRanks) {
  const MixtureSchedule schedule({1, 1});
  int64_t first_of_even = 0;
  for (int64_t position = 0; position < 4000; position += 2) first_of_even += schedule.at(position).source == 0 ? 1 : 0;
  EXPECT_NEAR(static_cast<double>(first_of_even), 1000, 150) << "of 2000 positions of rank 0";
}

TEST(MixtureSchedule, RefusesWeightsThatCannotBeMixed) {
  EXPECT_THAT(refusal([] { MixtureSchedule({}); }), HasSubstr("at least one weight"));
  EXPECT_THAT(refusal([] { MixtureSchedule({0, 0}); }), HasSubstr("at least one weight above 0"));
  EXPECT_THAT(refusal([] { MixtureSchedule({1, -0.5}); }), HasSubstr("weight 1 = -0.5"));
  EXPECT_THAT(refusal([] { MixtureSchedule({std::nan("")}); }), HasSubstr("weight 0 = nan"));
  EXPECT_THAT(refusal([] { MixtureSchedule({1e308, 1e308}); }), HasSubstr("scale them down"));
  EXPECT_THAT(refusal([] { MixtureSchedule({1, 1e-9}); }), HasSubstr("less than one of 1048576 parts"));
}

TEST(MixtureSampler, GoesThroughASmallDatasetAgainAndAgainInNewOrders) {
  const MixtureSampler sampler({1000, 10}, {0.75, 0.25}, {.num_samples = 80});
  std::vector<std::vector<int64_t>> passes(1);
  std::multiset<int64_t> large;
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    for (const int64_t index : sampler.indices(1010, 3, epoch)) {
      if (index < 1000) {
        large.insert(index);
        continue;
      }
      if (passes.back().size() == 10) passes.emplace_back();
      passes.back().push_back(index);
    }
  }
  EXPECT_EQ(large.size(), 240u);
  EXPECT_EQ(std::set<int64_t>(large.begin(), large.end()).size(), 240u) << "no one twice in a pass over four epochs";
  ASSERT_EQ(passes.size(), 8u);
  for (const auto& pass : passes) EXPECT_EQ(std::set<int64_t>(pass.begin(), pass.end()).size(), 10u);
  EXPECT_EQ(std::set<std::vector<int64_t>>(passes.begin(), passes.end()).size(), 8u) << "orders repeat";
}

TEST(MixtureSampler, P9TheOrderIsAFunctionOfThePositionForAnyLength) {
  const std::vector<int64_t> sizes{30, 50};
  const auto one = MixtureSampler(sizes, {1, 2}, {.num_samples = 1000}).indices(80, 5, 0);
  auto more = MixtureSampler(sizes, {1, 2}, {.num_samples = 3000}).indices(80, 5, 0);
  more.resize(1000);
  EXPECT_EQ(one, more);
  EXPECT_NE(MixtureSampler(sizes, {1, 2}, {.num_samples = 1000}).indices(80, 6, 0), one);
  const auto endless = MixtureSampler({10'000'000'000, 50}, {1, 1}, {.num_samples = 20'000'000'000});
  const auto order = endless.order(10'000'000'050, 1, 2);
  EXPECT_GE(order->at(order->size() - 1), 0);
  EXPECT_EQ(MixtureSampler(sizes, {1, 1}).count(80), 80);
  EXPECT_EQ(MixtureSampler(sizes, {0, 1}, {.num_samples = 4, .shuffle = false}).indices(80, 1, 0),
            (std::vector<int64_t>{30, 31, 32, 33}));
}

TEST(MixtureSampler, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal([] {
              MixtureSampler({4, 5}, {1});
            }),
            "MixtureSampler: datasets: 1 weights for 2; give one for each");
  EXPECT_THAT(refusal([] { MixtureSampler({4, 0}, {1, 1}); }), HasSubstr("dataset 1 has 0 samples"));
  EXPECT_THAT(refusal([] { MixtureSampler({4}, {1}, {.num_samples = 0}); }), HasSubstr("num_samples = 0"));
  EXPECT_THAT(refusal([] {
                MixtureSampler({4, 5}, {1, 1}).indices(8, 0, 0);
              }),
              HasSubstr("9 samples in all for a dataset of 8"));
  EXPECT_EQ(MixtureSampler({4, 0}, {1, 0}).count(4), 4);
}

/// `count` samples: thousand times its name, and the pass, and the number.
struct NamedStream : IterableDataset {
  NamedStream(int64_t name, int64_t count, bool seeks) : name(name), count(count), seeks(seeks) {}
  void start(int64_t epoch, int64_t shard, int64_t shards) override {
    pass = epoch >> 32;
    at = 0;
    own = share_of(count, shard, shards);
    starts += 1;
  }
  std::optional<Batch> next() override {
    if (at >= own) return std::nullopt;
    reads += 1;
    return Batch{torch::tensor(name * 1000 + pass * 100 + at++)};
  }
  bool skip(int64_t samples) override {
    if (seeks) at += samples;
    return seeks;
  }
  std::optional<int64_t> length() const override { return seeks ? std::optional(own) : std::nullopt; }
  std::shared_ptr<IterableDataset> replicate() const override {
    return std::make_shared<NamedStream>(name, count, seeks);
  }
  int64_t name, count;
  bool seeks;
  int64_t pass = 0, at = 0, own = 0, starts = 0, reads = 0;
};

std::shared_ptr<MixtureStream> stream_mixture(bool seeks, MixtureStreamOptions options = {}) {
  return std::make_shared<MixtureStream>(
      std::vector<std::shared_ptr<IterableDataset>>{std::make_shared<NamedStream>(1, 50, seeks),
                                                    std::make_shared<NamedStream>(2, 7, seeks)},
      std::vector<double>{2, 1}, options);
}

std::vector<int64_t> rest_of(IterableDataset& stream) {
  std::vector<int64_t> out;
  while (const auto sample = stream.next()) out.push_back((*sample)[0].item<int64_t>());
  return out;
}

TEST(MixtureStream, MixesStreamsAndBeginsThemAnew) {
  const auto mixture = stream_mixture(false, {.num_samples = 60});
  mixture->start(0, 0, 1);
  const auto all = rest_of(*mixture);
  ASSERT_EQ(all.size(), 60u);
  std::vector<int64_t> first, second;
  for (const int64_t value : all) (value < 2000 ? first : second).push_back(value);
  EXPECT_EQ(first.size(), 40u);
  EXPECT_TRUE(std::ranges::is_sorted(first));
  ASSERT_EQ(second.size(), 20u);
  for (int64_t i = 0; i < 20; ++i) EXPECT_EQ(second[static_cast<std::size_t>(i)], 2000 + i / 7 * 100 + i % 7);
  mixture->start(0, 1, 2);
  EXPECT_EQ(rest_of(*mixture).size(), 30u) << "the epoch's samples are divided";
}

TEST(MixtureStream, EndsWithTheFirstStreamIfNoLengthIsGiven) {
  const auto mixture = stream_mixture(false);
  mixture->start(0, 0, 1);
  const auto all = rest_of(*mixture);
  EXPECT_EQ(std::ranges::count_if(all, [](int64_t value) { return value >= 2000; }), 7);
  EXPECT_FALSE(mixture->next()) << "it stays at its end";
}

TEST(MixtureStream, IsResumedBySeeksOrByReadingAgain) {
  for (const MixtureStreamOptions options : {MixtureStreamOptions{}, MixtureStreamOptions{.num_samples = 60}}) {
    for (const bool seeks : {true, false}) {
      const auto mixture = stream_mixture(seeks, options);
      mixture->start(0, 0, 1);
      const auto all = rest_of(*mixture);
      for (std::size_t from = 0; from <= all.size(); ++from) {
        const auto resumed = stream_mixture(seeks, options);
        resumed->start(0, 0, 1);
        ASSERT_EQ(resumed->skip(static_cast<int64_t>(from)), seeks || from == 0) << from;
        if (!seeks) {
          for (std::size_t i = 0; i < from; ++i) resumed->next();
        }
        ASSERT_EQ(rest_of(*resumed), std::vector<int64_t>(all.begin() + static_cast<std::ptrdiff_t>(from), all.end()))
            << from;
      }
    }
  }
}

TEST(MixtureStream, P9AReaderOfBatchesContinuesInTheMiddle) {
  for (const bool seeks : {true, false}) {
    const DataLoader loader(stream_mixture(seeks, {.num_samples = 60}), {.batch_size = 4});
    StreamReader reader(loader, 1, 0, 1);
    reader.open(0, 0);
    std::vector<torch::Tensor> all;
    while (const auto batch = reader.next(true).batch) all.push_back((*batch)[0]);
    ASSERT_EQ(all.size(), 15u);
    reader.open(0, 11);
    for (std::size_t i = 11; i < all.size(); ++i) EXPECT_TRUE((*reader.next(true).batch)[0].equal(all[i]));
  }
}

TEST(MixtureStream, RefusesAStreamThatHasNothing) {
  const auto make = [](int64_t count) {
    return std::make_shared<MixtureStream>(
        std::vector<std::shared_ptr<IterableDataset>>{std::make_shared<NamedStream>(1, 50, true),
                                                      std::make_shared<NamedStream>(2, count, true)},
        std::vector<double>{1, 1}, MixtureStreamOptions{.num_samples = 10});
  };
  const auto mixture = make(1);
  mixture->start(0, 1, 2);
  EXPECT_THAT(refusal([&] { rest_of(*mixture); }), HasSubstr("stream 1 gives no samples to shard 1 of 2"));
  EXPECT_NE(mixture->replicate(), nullptr);
  EXPECT_THAT(refusal([] { MixtureStream({nullptr}, {1.0}); }), HasSubstr("stream 0 is null"));
}

TEST(ConcatDataset, GivesTheSamplesOfOneAfterTheOther) {
  const auto a = std::make_shared<TensorDataset>(torch::arange(3));
  const auto b = std::make_shared<TensorDataset>(torch::arange(10, 14));
  ConcatDataset all({a, b});
  EXPECT_EQ(all.size(), 7);
  EXPECT_THAT(all.sizes(), ElementsAre(3, 4));
  for (int64_t i = 0; i < 7; ++i) EXPECT_EQ(all.get(i)[0].item<int64_t>(), i < 3 ? i : i + 7);
  EXPECT_TRUE((*all.get_batch({5, 0, 3, 2}))[0].equal(torch::tensor({12, 0, 10, 2})));
  EXPECT_TRUE((*all.get_batch({6, 3}))[0].equal(torch::tensor({13, 10})));
  EXPECT_EQ(all.replicate(), nullptr);
  EXPECT_EQ(refusal([&] { all.get(7); }), "ConcatDataset: index 7 is not in a dataset of 7 samples");
}

TEST(ConcatDataset, RefusesPartsThatDoNotFitTogether) {
  ConcatDataset all(
      {std::make_shared<TensorDataset>(torch::zeros({3, 2})), std::make_shared<TensorDataset>(torch::zeros({3, 4}))});
  const auto refused = refusal([&] { all.get_batch({0, 4}); });
  EXPECT_THAT(refused, HasSubstr("dataset 1 gave 1 samples as Float [1, 4], which does not fit to Float [1, 2]"));
  EXPECT_EQ((*all.get_batch({4, 5}))[0].size(1), 4) << "alone each is served";
  EXPECT_THAT(refusal([] { ConcatDataset({}); }), HasSubstr("at least one dataset"));
  EXPECT_THAT(refusal([] { ConcatDataset({nullptr}); }), HasSubstr("dataset 0 is null"));
}

/// Written row by row into the batch's memory.
struct WrittenRows : Dataset {
  WrittenRows(int64_t width, float value) : width(width), value(value) {}
  int64_t size() const override { return 4; }
  Batch get(int64_t) override { return {torch::full({width}, value)}; }
  std::optional<Batch> batch_memory(int64_t samples) override { return Batch{torch::empty({samples, width})}; }
  void get_into(int64_t, Batch& batch, int64_t row) override {
    written += 1;
    batch[0][row].fill_(value);
  }
  std::shared_ptr<Dataset> replicate() const override { return std::make_shared<WrittenRows>(width, value); }
  int64_t width;
  float value;
  int64_t written = 0;
};

TEST(ConcatDataset, SharesTheBatchesMemoryIfAllHaveTheSame) {
  const auto same = std::make_shared<ConcatDataset>(std::vector<std::shared_ptr<Dataset>>{
      std::make_shared<WrittenRows>(2, 1.0F), std::make_shared<WrittenRows>(2, 2.0F)});
  EXPECT_NE(same->replicate(), nullptr);
  BatchMaker maker(DataLoader(same, {.batch_size = 3}), 1);
  const auto batch = maker.make(0, 0, {1, 7, 2});
  EXPECT_TRUE((*batch)[0].equal(torch::tensor({{1.0F, 1.0F}, {2.0F, 2.0F}, {1.0F, 1.0F}})));
  ConcatDataset differ({std::make_shared<WrittenRows>(2, 1.0F), std::make_shared<WrittenRows>(3, 2.0F)});
  EXPECT_FALSE(differ.batch_memory(3));
}

TEST(MixtureSampler, MixesAConcatDatasetInALoader) {
  const auto all = std::make_shared<ConcatDataset>(std::vector<std::shared_ptr<Dataset>>{
      std::make_shared<TensorDataset>(torch::zeros({100})), std::make_shared<TensorDataset>(torch::ones({5}))});
  const auto sampler = std::make_shared<MixtureSampler>(*all, std::vector<double>{0.5, 0.5});
  const DataLoader loader(all, {.batch_size = 15, .sampler = sampler});
  const EpochPlan plan(loader, {.seed = 1});
  BatchMaker maker(loader, 1);
  for (int64_t i = 0; i < plan.batches(); ++i) {
    const auto batch = maker.make(0, i, plan.batch(i));
    EXPECT_NEAR((*batch)[0].sum().item<double>(), 7.5, 1) << i;
  }
}

}  // namespace
}  // namespace troupe
