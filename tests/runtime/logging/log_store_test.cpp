#include "troupe/runtime/logging/log_store.hpp"

#include "tests/support/refusal.hpp"
#include "troupe/base/failure.hpp"
#include "troupe/modules/metrics/aggregation.hpp"
#include "troupe/modules/metrics/confusion_matrix.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <memory>

namespace troupe {
namespace {

LogOrigin training_step(int64_t batch_size) {
  return {.hook = "training_step", .on_step = true, .on_epoch = false, .step_allowed = true, .batch_size = batch_size};
}

LogOrigin validation_step(int64_t batch_size) {
  return {
      .hook = "validation_step", .on_step = false, .on_epoch = true, .step_allowed = true, .batch_size = batch_size};
}

TEST(LogStore, MeanOverAnEpochIsWeightedByBatchSize) {
  LogStore store;
  store.set_origin(validation_step(3));
  store.log("val_loss", torch::tensor(1.0));
  store.set_origin(validation_step(1));
  store.log("val_loss", torch::tensor(5.0));
  const auto values = store.take_epoch();
  ASSERT_EQ(values.size(), 1u);
  EXPECT_EQ(values[0].name, "val_loss");
  EXPECT_EQ(values[0].value, 2.0);
  EXPECT_FALSE(store.has_epoch_values());
}

TEST(LogStore, StepAndEpochTogetherGetSuffixes) {
  LogStore store;
  store.set_origin(training_step(2));
  for (const double loss : {4.0, 2.0}) store.log("train_loss", loss, {.on_epoch = true, .prog_bar = true});
  const auto step = store.take_step();
  const auto epoch = store.take_epoch();
  ASSERT_EQ(step.size(), 1u);
  EXPECT_EQ(step[0].name, "train_loss_step");
  EXPECT_EQ(step[0].value, 2.0);
  EXPECT_TRUE(step[0].prog_bar);
  ASSERT_EQ(epoch.size(), 1u);
  EXPECT_EQ(epoch[0].name, "train_loss_epoch");
  EXPECT_EQ(epoch[0].value, 3.0);
}

TEST(LogStore, DefaultsFollowTheHook) {
  LogStore store;
  store.set_origin(training_step(1));
  store.log("loss", 1.0);
  EXPECT_EQ(store.take_epoch().size(), 0u);
  EXPECT_EQ(store.take_step().size(), 1u);
  EXPECT_EQ(store.take_step().size(), 0u) << "a step's values are taken once";
}

TEST(LogStore, ReducesBySumMinimumAndMaximumToo) {
  LogStore store;
  store.set_origin(validation_step(7));
  for (const double value : {2.0, -1.0, 4.0}) {
    store.log("sum", value, {.reduce_fx = Reduce::sum});
    store.log("min", value, {.reduce_fx = Reduce::min});
    store.log("max", value, {.reduce_fx = Reduce::max});
  }
  const auto values = store.take_epoch();
  ASSERT_EQ(values.size(), 3u);
  EXPECT_EQ(values[0].value, 5.0);
  EXPECT_EQ(values[1].value, -1.0);
  EXPECT_EQ(values[2].value, 4.0);
}

TEST(LogStore, ABatchOfNoSamplesHasNoWeightInAMeanAndCountsOtherwise) {
  LogStore store;
  store.set_origin(validation_step(0));
  EXPECT_NE(refusal([&] { store.log("mean", 1.0); }).find("the batch counts as 0 samples"), std::string::npos);
  EXPECT_NE(refusal([&] { store.log("mean", torch::tensor(1.0)); }).find("0 samples"), std::string::npos);
  store.log("said", 3.0, {.batch_size = 2});
  store.log("step", 4.0, {.on_step = true, .on_epoch = false});
  for (const double value : {5.0, 7.0}) {
    store.log("min", value, {.reduce_fx = Reduce::min});
    store.log("sum", value, {.reduce_fx = Reduce::sum});
  }
  const auto values = store.take_epoch();
  ASSERT_EQ(values.size(), 3u);
  EXPECT_EQ(values[0].value, 3);
  EXPECT_EQ(values[1].value, 5);
  EXPECT_EQ(values[2].value, 12);
}

TEST(LogStore, SeveralLoadersKeepTheirMetricsApart) {
  LogStore store;
  for (int64_t loader = 0; loader < 2; ++loader) {
    auto origin = validation_step(1);
    origin.dataloader_idx = loader;
    store.set_origin(origin);
    store.log("acc", static_cast<double>(loader));
  }
  const auto values = store.take_epoch();
  ASSERT_EQ(values.size(), 2u);
  EXPECT_EQ(values[0].name, "acc/dataloader_idx_0");
  EXPECT_EQ(values[1].name, "acc/dataloader_idx_1");
}

TEST(LogStore, RefusesWhatCannotBeLogged) {
  LogStore store;
  store.set_origin(training_step(1));
  EXPECT_EQ(refusal([&] {
              store.log("x", torch::ones({2, 3}));
            }),
            "log(\"x\") in training_step: the value must be a scalar, it is of shape [2, 3]");
  EXPECT_EQ(refusal([&] { store.log("x", torch::Tensor()); }),
            "log(\"x\") in training_step: the value must be a scalar, it is undefined");
  EXPECT_NE(refusal([&] { store.log("x", 1.0, {.on_step = false, .on_epoch = false}); }), "accepted");
  EXPECT_NE(refusal([&] { store.log("y", 1.0, {.batch_size = 0}); }), "accepted");
  store.log("z", 1.0);
  EXPECT_NE(refusal([&] { store.log("z", 1.0, {.prog_bar = true}); }), "accepted");
  store.set_origin({.hook = "on_train_epoch_end"});
  EXPECT_NE(refusal([&] { store.log("w", 1.0, {.on_step = true}); }), "accepted");
}

// --- Metrics ---

using ::testing::HasSubstr;

TEST(LogStoreMetrics, GiveTheBatchOnStepAndTheEpochAtItsEnd) {
  LogStore store;
  metrics::MeanMetric mean;
  store.set_origin(training_step(1));
  for (const double value : {1.0, 3.0}) {
    store.begin_step();
    mean(value);
    store.log("mean", mean, {.on_step = true, .on_epoch = true});
  }
  const auto step = store.take_step();
  ASSERT_EQ(step.size(), 1u);
  EXPECT_EQ(step[0].name, "mean_step");
  EXPECT_EQ(step[0].value, 3.0);
  EXPECT_TRUE(store.holds(mean));
  const auto epoch = store.take_epoch();
  ASSERT_EQ(epoch.size(), 1u);
  EXPECT_EQ(epoch[0].name, "mean_epoch");
  EXPECT_EQ(epoch[0].value, 2.0);
  EXPECT_EQ(mean.compute().item<double>(), 2.0) << "hooks at the epoch's end may still look";
  store.reset_metrics();
  EXPECT_EQ(mean.update_count(), 0);
  EXPECT_FALSE(store.holds(mean));
  EXPECT_FALSE(store.has_epoch_values());
}

TEST(LogStoreMetrics, BeginAnewForEveryLoader) {
  LogStore store;
  metrics::SumMetric sum;
  auto origin = validation_step(1);
  for (int64_t loader = 0; loader < 3; ++loader) {
    if (loader > 0) store.close_loader();
    origin.dataloader_idx = loader;
    store.set_origin(origin);
    for (int i = 0; i < 2; ++i) {
      sum.update(static_cast<double>(loader + 1));
      store.log("sum", sum);
    }
  }
  const auto values = store.take_epoch();
  ASSERT_EQ(values.size(), 3u);
  EXPECT_EQ(values[0].name, "sum/dataloader_idx_0");
  EXPECT_EQ(values[0].value, 2.0);
  EXPECT_EQ(values[1].value, 4.0);
  EXPECT_EQ(values[2].value, 6.0);
}

TEST(LogStoreMetrics, OneNameForAllLoadersIsOneValue) {
  LogStore store;
  metrics::SumMetric sum;
  auto origin = validation_step(1);
  for (int64_t loader = 0; loader < 2; ++loader) {
    if (loader > 0) store.close_loader();
    origin.dataloader_idx = loader;
    store.set_origin(origin);
    sum.update(1.0);
    store.log("sum", sum, {.add_dataloader_idx = false});
  }
  EXPECT_EQ(store.take_epoch().at(0).value, 2.0);
}

TEST(LogStoreMetrics, RefuseWhatHasNoPlaceInALog) {
  LogStore store;
  metrics::ConfusionMatrix confusion({.task = metrics::Task::binary});
  metrics::SumMetric sum, other;
  store.set_origin(validation_step(1));
  EXPECT_THAT(
      refusal([&] { store.log("confusion", confusion); }),
      HasSubstr("log(\"confusion\") in validation_step: the value of ConfusionMatrix is no scalar: update() it"));
  store.log("sum", sum);
  EXPECT_EQ(refusal([&] { store.take_epoch(); }),
            "log(\"sum\"): SumMetric was logged but had no update in this epoch; update() it with each batch");
  EXPECT_THAT(refusal([&] { store.log("sum", other); }), HasSubstr("its first call had another metric"));
  EXPECT_THAT(refusal([&] { store.log("sum", 1.0); }), HasSubstr("its first call had another kind of value"));
  store.set_origin(training_step(1));
  other.update(1.0);
  EXPECT_THAT(refusal([&] { store.log("other", other); }), HasSubstr("SumMetric has no value of this batch"));
}

TEST(LogStoreMetrics, WarnOnce) {
  LogStore store;
  metrics::MaxMetric max;
  store.set_origin(validation_step(1));
  for (int epoch = 0; epoch < 2; ++epoch) {
    max.update(torch::tensor({1.0, std::nan("")}));
    store.log("max", max);
    EXPECT_EQ(store.take_epoch().at(0).value, 1.0);
    store.reset_metrics();
    EXPECT_EQ(store.take_warnings().size(), epoch == 0 ? 1u : 0u);
  }
}

// --- Replicas ---

TEST(EpochReductions, OfReplicasMergeIntoThoseOfOne) {
  struct Rank {
    Rank() { mean->set_name("mean"); }
    LogStore store;
    std::shared_ptr<metrics::MeanMetric> mean = std::make_shared<metrics::MeanMetric>();
  };
  Rank whole;
  std::vector<Rank> ranks(3);  // the last one logs nothing
  const auto log = [](Rank& rank, double value, int64_t batch_size) {
    rank.store.set_origin(validation_step(batch_size));
    rank.store.log("loss", value);
    rank.store.log("low", value, {.reduce_fx = Reduce::min});
    rank.store.log("high", value, {.reduce_fx = Reduce::max});
    rank.mean->update(value, static_cast<double>(batch_size));
    rank.store.log("mean", *rank.mean);
  };
  const double values[] = {0.5, -2.0, 4.0, 1.0};
  for (std::size_t i = 0; i < 4; ++i) {
    const auto batch_size = static_cast<int64_t>(i) + 1;
    log(whole, values[i], batch_size);
    log(ranks[i % 2], values[i], batch_size);
  }
  ranks[1].store.log("rare", 7.0, {.reduce_fx = Reduce::sum});
  whole.store.log("rare", 7.0, {.reduce_fx = Reduce::sum});
  std::vector<std::vector<EpochReduction>> all;
  for (const auto& rank : ranks) all.push_back(rank.store.epoch_reductions());
  const auto expected = whole.store.take_epoch();
  for (auto& rank : ranks) {
    rank.store.set_epoch_reductions(merged(all), {{"mean", rank.mean}});
    const auto found = rank.store.take_epoch();
    ASSERT_EQ(found.size(), 5u);
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].name, expected[i].name);
      EXPECT_DOUBLE_EQ(found[i].value, expected[i].value) << found[i].name;
    }
  }
  all[1][0].options.reduce_fx = Reduce::sum;
  EXPECT_THAT(refusal([&] { merged(all); }), HasSubstr("\"loss\" is reduced in two ways"));
}

}  // namespace
}  // namespace troupe
