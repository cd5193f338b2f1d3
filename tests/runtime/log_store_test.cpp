#include "troupe/runtime/log_store.hpp"

#include "tests/refusal.hpp"
#include "troupe/modules/failure.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

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

}  // namespace
}  // namespace troupe
