// A run that ends within an epoch, and one that goes on from there: to the bits of a run that did not end.
#include "tests/launch/resume/numbered_stream.hpp"
#include "tests/support/ddp.hpp"

#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace troupe {
namespace {

// Eight batches an epoch. Training and validation draw random numbers and the hook of the epoch's end changes weights,
// so that the bits show each draw and each hook that one run has and another has not.
class Walk : public Net {
 public:
  using Net::Net;
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    batches.push_back(std::to_string(current_epoch()) + ":" + std::to_string(batch_idx));
    return Net::training_step(batch, batch_idx)["loss"] * torch::rand({}, torch::kFloat64);
  }
  StepOutput validation_step(const Batch& batch, int64_t batch_idx) override {
    (void)torch::rand({3});
    return Net::validation_step(batch, batch_idx);
  }
  Optimizers configure_optimizers() override {
    const auto optimizer = optim::sgd(parameters(), {.lr = options().lr, .momentum = 0.9});
    return {optimizer, lr_schedulers::exponential(optimizer, {.gamma = 0.5})};
  }
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t batch_idx) override {
    const bool is_there = current_epoch() == stop_at.first && batch_idx == stop_at.second;
    if (is_there && global_rank() == 0) trainer().request_stop("as the test says");
  }
  void on_train_epoch_end() override {
    epoch_ends.push_back(current_epoch());
    const torch::NoGradGuard no_gradients;
    for (auto& parameter : parameters()) parameter.mul_(0.75);
  }
  std::vector<std::string> batches;
  std::vector<int64_t> epoch_ends;
  static inline std::pair<int64_t, int64_t> stop_at{-1, -1};  // after this batch
};

using Changes = std::function<void(TrainerOptions&)>;

struct Walked {
  std::shared_ptr<Walk> model;
  MetricMap metrics;
  int64_t epoch = 0;
};

// Two epochs below `dir`, from the newest checkpoint there where it `goes_on`. `data`: to train and to validate on.
Walked walk(const TempDir& dir, bool goes_on, const Changes& change, std::pair<int64_t, int64_t> stop_at = {-1, -1},
            const std::optional<DataLoader>& data = std::nullopt) {
  Walk::stop_at = stop_at;
  auto options = exact(dir);
  options.max_epochs = 2;
  change(options);
  Trainer trainer(options);
  const auto per_device = 4 / std::max<int64_t>(1, options.devices);
  const DataLoader own(samples(32), {.batch_size = per_device, .shuffle = true});
  Walked out;
  out.model = trainer.fit<Walk>({}, data.value_or(own), data.value_or(DataLoader(samples(8), {.batch_size = 4})),
                                {.ckpt_path = goes_on ? "last" : ""});
  out.metrics = trainer.callback_metrics();
  out.epoch = trainer.current_epoch();
  return out;
}

void expect_same_end(const Walked& resumed, const Walked& straight) {
  EXPECT_EQ(largest_difference(resumed.model->weights(), straight.model->weights()), 0);
  EXPECT_EQ(resumed.metrics, straight.metrics);
  EXPECT_EQ(resumed.epoch, straight.epoch);
}

std::vector<std::string> rest_after(const Walked& straight, std::size_t batches) {
  return {straight.model->batches.begin() + static_cast<std::ptrdiff_t>(batches), straight.model->batches.end()};
}

TEST(EndWithinAnEpoch, AtMaxStepsIsGoneOnFromWithTheRestOfTheEpoch) {
  for (const int64_t devices : {1, 2}) {
    const auto common = [&](TrainerOptions& options) { options.devices = devices; };
    const TempDir whole, parts;
    const auto straight = walk(whole, false, common);
    const auto cut = walk(parts, false, [&](TrainerOptions& options) {
      common(options);
      options.max_steps = 5;
    });
    EXPECT_EQ(cut.model->batches.back(), "0:4");
    EXPECT_EQ(cut.model->epoch_ends, (std::vector<int64_t>{0})) << "for those who never go on";
    EXPECT_EQ(cut.epoch, 0);
    const auto resumed = walk(parts, true, common);
    EXPECT_EQ(resumed.model->batches, rest_after(straight, 5));
    EXPECT_EQ(resumed.model->epoch_ends, (std::vector<int64_t>{0, 1}));
    expect_same_end(resumed, straight);
  }
}

TEST(EndWithinAnEpoch, AtARequestIsGoneOnFromAlsoInAWindowAndTwiceInAnEpoch) {
  const auto common = [](TrainerOptions& options) { options.accumulate_grad_batches = 3; };
  const TempDir whole, parts;
  const auto straight = walk(whole, false, common);
  walk(parts, false, common, {0, 1});
  const auto second = walk(parts, true, common, {0, 4});
  EXPECT_EQ(second.model->batches, (std::vector<std::string>{"0:2", "0:3", "0:4"}));
  walk(parts, true, common, {1, 6});
  const auto resumed = walk(parts, true, common);
  EXPECT_EQ(resumed.model->batches, rest_after(straight, 15));
  EXPECT_EQ(largest_difference(resumed.model->weights(), straight.model->weights()), 0);
  EXPECT_EQ(resumed.metrics, straight.metrics);
}

TEST(EndWithinAnEpoch, AtMaxTimeIsGoneOnFrom) {
  const DataLoader data(samples(1'000'000), {.batch_size = 4, .shuffle = true});  // an epoch of more than a second
  const auto until = [&](const TempDir& dir, bool goes_on, const std::string& max_time, int64_t max_steps) {
    return walk(
        dir, goes_on,
        [&](TrainerOptions& options) {
          options.max_time = max_time;
          options.max_steps = max_steps;
          options.limit_val_batches = 1;
          options.logger = false;
        },
        {-1, -1}, data);
  };
  const TempDir whole, parts;
  const auto steps = static_cast<int64_t>(until(parts, false, "1s", -1).model->batches.size());
  const auto resumed = until(parts, true, "", steps + 3);
  const auto straight = until(whole, false, "", steps + 3);
  EXPECT_EQ(resumed.model->batches, rest_after(straight, static_cast<std::size_t>(steps)));
  expect_same_end(resumed, straight);
}

TEST(EndWithinAnEpoch, AtAValidationWithinItIsGoneOnFrom) {
  const auto common = [](TrainerOptions& options) { options.val_check_interval = 4; };
  const TempDir whole, parts;
  const auto straight = walk(whole, false, common);
  const auto cut = walk(parts, false, [&](TrainerOptions& options) {
    common(options);
    options.callbacks = {
        std::make_shared<EarlyStopping>(EarlyStoppingOptions{.monitor = "val_loss", .stopping_threshold = 1e9})};
  });
  EXPECT_EQ(cut.model->batches.back(), "0:3");
  const auto resumed = walk(parts, true, common);
  EXPECT_EQ(resumed.model->batches, rest_after(straight, 4));
  expect_same_end(resumed, straight);
}

// Nobody who starts the same program once more gets another epoch for it; who changes the monitor, or drops it, does.
TEST(EndOfARun, ThatAMonitorDecidedStandsForWhoeverGoesOnWithThatMonitor) {
  const auto stopping = [](double threshold) {
    return std::make_shared<EarlyStopping>(
        EarlyStoppingOptions{.monitor = "val_loss", .stopping_threshold = threshold});
  };
  for (const double interval : {1.0, 0.5}) {
    for (const int64_t devices : {1, 2}) {
      const auto common = [&](TrainerOptions& options) {
        options.devices = devices;
        options.val_check_interval = interval;
      };
      const auto stopped = [&](TrainerOptions& options) {
        common(options);
        options.callbacks = {stopping(1e9)};
      };
      const TempDir dir;
      const auto straight = walk(dir, false, stopped);
      EXPECT_EQ(straight.model->batches.size(), interval == 1 ? 8u : 4u);
      const auto again = walk(dir, true, stopped);
      EXPECT_THAT(again.model->batches, ::testing::IsEmpty());
      const auto other = walk(dir, true, [&](TrainerOptions& options) {
        common(options);
        options.callbacks = {stopping(-1e9)};
      });
      EXPECT_EQ(other.model->batches.size(), 16 - straight.model->batches.size());
    }
  }
}

TEST(EndWithinAnEpoch, OfAStreamIsGoneOnFromAndItsLastBatchIsTheEpochsEnd) {
  const DataLoader stream(std::make_shared<NumberedStream>(), {.batch_size = 4});  // 60 batches, which nobody knows
  const auto with_steps = [&](const TempDir& dir, bool goes_on, int64_t max_steps) {
    return walk(
        dir, goes_on, [&](TrainerOptions& options) { options.max_steps = max_steps; }, {-1, -1}, stream);
  };
  const TempDir whole, parts, ends;
  const auto straight = with_steps(whole, false, -1);
  with_steps(parts, false, 7);
  const auto resumed = with_steps(parts, true, -1);
  EXPECT_EQ(resumed.model->batches, rest_after(straight, 7));
  expect_same_end(resumed, straight);
  EXPECT_EQ(with_steps(ends, false, 60).epoch, 1);
  expect_same_end(with_steps(ends, true, -1), straight);
}

// The scale of the loss is of the epoch's middle, too.
TEST(EndWithinAnEpoch, InMixedPrecisionIsGoneOnFrom) {
  for (const auto precision : {Precision::bfloat16_mixed, Precision::float16_mixed}) {
    const auto common = [&](TrainerOptions& options) { options.precision = precision; };
    const auto x = torch::arange(32 * 4, torch::kFloat32).reshape({32, 4}).mul(0.37).sin();
    const DataLoader data(std::make_shared<TensorDataset>(x, x.slice(1, 0, 2)), {.batch_size = 4, .shuffle = true});
    const TempDir whole, parts;
    const auto straight = walk(whole, false, common, {-1, -1}, data);
    walk(parts, false, common, {0, 4}, data);
    const auto resumed = walk(parts, true, common, {-1, -1}, data);
    EXPECT_EQ(resumed.model->batches, rest_after(straight, 5)) << name_of(precision);
    expect_same_end(resumed, straight);
  }
}

TEST(EndWithinAnEpoch, LeavesAveragesOfEpochsAndEarlyStoppingAsTheyWere) {
  auto patient = [] {
    return std::make_shared<EarlyStopping>(EarlyStoppingOptions{.monitor = "train_loss", .patience = 100});
  };
  std::shared_ptr<EarlyStopping> stopping;
  std::shared_ptr<WeightAveraging> averaging;
  const auto common = [&](TrainerOptions& options) {
    stopping = patient();
    averaging = std::make_shared<WeightAveraging>(WeightAveragingOptions{.update_every_n_steps = 0});
    options.callbacks = {stopping, averaging};
  };
  const TempDir whole, parts;
  const auto straight = walk(whole, false, common);
  const auto expected = stopping->state_dict();
  EXPECT_EQ(averaging->updates(), 2);
  walk(parts, false, common, {0, 2});
  walk(parts, true, common, {1, 5});
  const auto resumed = walk(parts, true, common);
  EXPECT_EQ(averaging->updates(), 2);
  EXPECT_EQ(stopping->state_dict(), expected);
  expect_same_end(resumed, straight);
}

// What the epoch's end decides is in the files nevertheless, and the best of them is the part of the epoch there was.
TEST(EndWithinAnEpoch, IsJudgedByWhatThereWasAndSavedAsTheMiddleOfTheEpoch) {
  const TempDir dir;
  const auto checkpoint = std::make_shared<ModelCheckpoint>(
      ModelCheckpointOptions{.monitor = "train_loss", .save_top_k = 2, .save_last = true});
  const auto cut = walk(dir, false, [&](TrainerOptions& options) {
    options.max_steps = 13;
    options.callbacks = {checkpoint};
  });
  ASSERT_EQ(cut.metrics.count("train_loss"), 1u);
  const auto folder = checkpoint->best_model_path().parent_path();
  for (const char* name : {"epoch=1-step=13.safetensors", "last.safetensors"}) {
    const auto metadata = read_checkpoint_metadata(folder / name);
    EXPECT_EQ(metadata.at("progress").at("epoch"), 1) << name;
    EXPECT_EQ(metadata.at("progress").at("batch_idx"), 5) << name;
    EXPECT_EQ(metadata.at("lr_schedulers").at(0).at("epoch"), 0) << name;
    const auto& state = metadata.at("callbacks").at(checkpoint->state_key());
    EXPECT_EQ(state.at("best_k_models").size(), 2u) << name;
  }
  const auto end_of_first = read_checkpoint_metadata(folder / "epoch=0-step=8.safetensors");
  EXPECT_EQ(end_of_first.at("progress").at("epoch"), 1);
  EXPECT_EQ(end_of_first.at("progress").at("batch_idx"), 0);
}

}  // namespace
}  // namespace troupe
