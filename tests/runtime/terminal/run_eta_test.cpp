#include "troupe/runtime/terminal/run_eta.hpp"

#include <gtest/gtest.h>

namespace troupe {
namespace {

TrainerOptions three_epochs() {
  TrainerOptions options;
  options.max_epochs = 3;
  return resolved(options);
}

Progress after(int64_t epoch, int64_t batch_idx, int64_t batches_of_epoch) {
  Progress progress;
  progress.epoch = epoch;
  progress.batch_idx = batch_idx;
  progress.total_batches = progress.global_step = epoch * batches_of_epoch + batch_idx;
  return progress;
}

/// Ten batches a second, told of at each, from `from` on.
void train_evenly(RunEta& eta, int64_t batches, double from = 0) {
  for (int64_t i = 1; i <= batches; ++i) eta.trained(from + 0.1 * static_cast<double>(i), after(0, i, 100));
}

TEST(RunEta, CountsTheBatchesOfAllEpochs) {
  RunEta eta(three_epochs(), 0, 100);
  train_evenly(eta, 50);
  ASSERT_TRUE(eta.seconds_left());
  EXPECT_NEAR(*eta.seconds_left(), 25, 1e-6);
  EXPECT_NEAR(*eta.batches_per_second(), 10, 1e-6);
}

TEST(RunEta, SaysNothingWhereTheEndIsNotKnown) {
  auto options = three_epochs();
  RunEta of_stream(options, 0, std::nullopt);
  train_evenly(of_stream, 50);
  EXPECT_FALSE(of_stream.seconds_left());
  options.max_epochs = -1;
  RunEta without_end(options, 0, 100);
  train_evenly(without_end, 50);
  EXPECT_FALSE(without_end.seconds_left());
}

TEST(RunEta, SaysNothingOfTheFirstSecond) {
  RunEta eta(three_epochs(), 0, 100);
  EXPECT_FALSE(eta.seconds_left());
  train_evenly(eta, 10);
  EXPECT_FALSE(eta.seconds_left());
  train_evenly(eta, 12);
  EXPECT_TRUE(eta.seconds_left());
}

TEST(RunEta, EndsWithWhateverComesFirst) {
  auto options = three_epochs();
  options.max_steps = 150;
  RunEta by_steps(options, 0, 100);
  train_evenly(by_steps, 50);
  EXPECT_NEAR(*by_steps.seconds_left(), 10, 1e-6);
  options.max_time = "00:00:00:12";
  RunEta by_time(options, 0, 100);
  EXPECT_NEAR(*by_time.seconds_left(), 12, 1e-6);  // nothing else is known yet
  train_evenly(by_time, 50);
  EXPECT_NEAR(*by_time.seconds_left(), 7, 1e-6);
}

TEST(RunEta, WaitsForTheMinimaBeforeMaxTimeEndsIt) {
  auto options = three_epochs();
  options.max_time = "00:00:00:12";
  options.min_epochs = 2;
  RunEta by_epochs(options, 0, 100);
  EXPECT_FALSE(by_epochs.seconds_left()) << "the pace is not known yet";
  train_evenly(by_epochs, 50);
  EXPECT_NEAR(*by_epochs.seconds_left(), 15, 1e-6);
  options.min_epochs = 0;
  options.min_steps = 90;
  RunEta by_steps(options, 0, 100);
  train_evenly(by_steps, 50);
  EXPECT_NEAR(*by_steps.seconds_left(), 7, 1e-6) << "the minimum is reached before";
  options.min_steps = 1000;
  RunEta for_long(options, 0, 100);
  train_evenly(for_long, 50);
  EXPECT_NEAR(*for_long.seconds_left(), 25, 1e-6) << "max_epochs wins over min_steps";
}

TEST(RunEta, TellsHowManyBatchesThereWillBe) {
  auto options = three_epochs();
  RunEta by_epochs(options, 0, 100);
  EXPECT_EQ(by_epochs.total_batches(), 300);
  train_evenly(by_epochs, 50);
  EXPECT_EQ(by_epochs.total_batches(), 300);
  options.max_steps = 150;
  RunEta by_steps(options, 0, 100);
  train_evenly(by_steps, 50);
  EXPECT_EQ(by_steps.total_batches(), 150);
  options.max_time = "00:00:00:12";
  RunEta by_time(options, 0, 100);
  EXPECT_FALSE(by_time.total_batches()) << "the pace is not known yet";
  train_evenly(by_time, 50);
  EXPECT_EQ(by_time.total_batches(), 120);
  options.max_epochs = options.max_steps = -1;
  RunEta of_stream(options, 0, std::nullopt);
  EXPECT_FALSE(of_stream.total_batches());
  train_evenly(of_stream, 50);
  EXPECT_EQ(of_stream.total_batches(), 120);
}

TEST(RunEta, CountsBatchesOfAStepWhereGradientsAreAccumulated) {
  auto options = three_epochs();
  options.max_epochs = -1;
  options.max_steps = 100;
  options.accumulate_grad_batches = 4;
  RunEta eta(options, 0, std::nullopt);
  for (int64_t i = 1; i <= 40; ++i) {
    Progress progress = after(0, i, 1000);
    progress.global_step = i / 4;
    eta.trained(0.1 * static_cast<double>(i), progress);
  }
  EXPECT_NEAR(*eta.seconds_left(), 36, 1e-6);
}

TEST(RunEta, AddsTheValidationsThatAreStillToCome) {
  RunEta eta(three_epochs(), 0, 100);
  train_evenly(eta, 100);
  EXPECT_NEAR(*eta.seconds_left(), 20, 1e-6);  // how long a validation takes is not known yet
  eta.validated(2, after(0, 100, 100));
  eta.validated(3, after(0, 100, 100));  // its second loader
  EXPECT_NEAR(*eta.seconds_left(), 20 + 2 * 5, 1e-6);
  // The time of the validation is not that of batches.
  eta.trained(15.1, after(1, 1, 100));
  EXPECT_NEAR(*eta.batches_per_second(), 10, 1e-6);
  EXPECT_NEAR(*eta.seconds_left(), 19.9 + 2 * 5, 1e-6);
}

TEST(RunEta, FollowsTheIntervalOfValidations) {
  auto options = three_epochs();
  options.val_check_interval = 0.25;
  RunEta quarters(options, 0, 100);
  train_evenly(quarters, 25);
  quarters.validated(1, after(0, 25, 100));
  EXPECT_NEAR(*quarters.seconds_left(), 27.5 + 11, 1e-6);
  options.val_check_interval = 1.0;
  options.check_val_every_n_epoch = 2;
  options.max_epochs = 6;
  RunEta every_other(options, 0, 100);
  train_evenly(every_other, 200);
  every_other.validated(1, after(2, 0, 100));
  EXPECT_NEAR(*every_other.seconds_left(), 40 + 2, 1e-6);
}

TEST(RunEta, ForgetsASlowBeginning) {
  auto options = three_epochs();
  options.max_epochs = 1;
  RunEta eta(options, 0, 1'000'000);
  eta.trained(0, after(0, 1, 0));
  eta.trained(4, after(0, 2, 0));  // a step that was captured
  for (int64_t i = 1; i <= 100; ++i) eta.trained(4 + 0.1 * static_cast<double>(i), after(0, 2 + 100 * i, 0));
  EXPECT_NEAR(*eta.batches_per_second(), 1000, 30);
}

TEST(RunEta, GoesOnFromACheckpoint) {
  RunEta eta(three_epochs(), 0, 100);
  for (int64_t i = 50; i <= 100; ++i) eta.trained(0.1 * static_cast<double>(i - 50), after(1, i, 100));
  EXPECT_NEAR(*eta.seconds_left(), 10, 1e-6);
}

TEST(RunEta, IsZeroAtTheEnd) {
  RunEta eta(three_epochs(), 0, 100);
  train_evenly(eta, 100);
  eta.trained(31, after(3, 0, 100));
  EXPECT_EQ(*eta.seconds_left(), 0);
  RunEta of_a_moment(three_epochs(), 0, 100);
  of_a_moment.trained(0.1, after(3, 0, 100));
  EXPECT_EQ(of_a_moment.seconds_left(), 0.0);
}

}  // namespace
}  // namespace troupe
