// A run that goes on from a checkpoint: in the middle of a window of accumulation, with other numbers of ranks, with
// other batches, by hand.
#include "tests/launch/resume/numbered_stream.hpp"
#include "tests/support/ddp.hpp"

#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace troupe {
namespace {

using ::testing::HasSubstr;

// --- Which samples were seen ---

// Filled by the workers of a run.
class Seen {
 public:
  void add(int64_t batch_idx, const torch::Tensor& numbers) {
    const std::lock_guard lock(mutex_);
    const auto* values = numbers.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < numbers.numel(); ++i) samples_.emplace(batch_idx, values[i]);
  }
  /// The samples of batches below `end`; -1: all.
  std::multiset<int64_t> before(int64_t end = -1) const {
    std::multiset<int64_t> out;
    for (const auto& [batch, sample] : samples_) {
      if (end < 0 || batch < end) out.insert(sample);
    }
    return out;
  }
  void clear() { samples_.clear(); }

 private:
  mutable std::mutex mutex_;
  std::multimap<int64_t, int64_t> samples_;
};

Seen seen;

// One step an epoch, of all gradients: what does not depend on how they were divided.
class Summing : public Net {
 public:
  explicit Summing(NetOptions options = {}) : Net(options) {
    error_ = register_metric("error", metrics::MeanSquaredError());
  }
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    seen.add(batch_idx, batch[2]);
    error_.update(forward(batch[0]).detach(), batch[1]);
    log("train_error", error_, {.on_step = false, .on_epoch = true});
    return Net::training_step(batch, batch_idx);
  }

 private:
  MetricHolder<metrics::MeanSquaredError> error_;
};

DataLoader numbered(int64_t batch_size) {
  const auto x = torch::arange(sample_count * 4, torch::kFloat64).reshape({sample_count, 4}).mul(0.37).sin();
  const auto y = torch::stack({x.select(1, 0) * x.select(1, 1), x.select(1, 2) - x.select(1, 3)}, 1);
  return {std::make_shared<TensorDataset>(x, y, torch::arange(sample_count)),
          {.batch_size = batch_size, .shuffle = true}};
}

TrainerOptions summing(const TempDir& dir, int64_t devices) {
  auto options = exact(dir, devices);
  options.max_epochs = 2;
  options.accumulate_grad_batches = 1000;
  options.val_check_interval = 5;  // batches: a checkpoint after each validation
  options.callbacks = {
      std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{.monitor = "val_loss", .save_top_k = -1})};
  return options;
}

// The checkpoint below `dir` after so many batches of the first epoch.
std::filesystem::path checkpoint_at(const TempDir& dir, int64_t batch_idx) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir.path())) {
    if (entry.path().extension() != ".safetensors") continue;
    const auto progress = read_checkpoint_metadata(entry.path()).at("progress");
    if (progress.at("batch_idx") == batch_idx && progress.at("epoch") == 0) return entry.path();
  }
  throw std::runtime_error("there is no checkpoint at batch " + std::to_string(batch_idx));
}

struct Ended {
  torch::Tensor weights;
  MetricMap metrics;
};

Ended fit(TrainerOptions options, const DataLoader& train, const std::filesystem::path& from = {}) {
  seen.clear();
  Trainer trainer(options);
  RunArguments arguments;
  if (!from.empty()) arguments.ckpt_path = from.string();
  const auto model = trainer.fit<Summing>({}, train, DataLoader(samples(8), {.batch_size = 4}), arguments);
  return {model->weights(), trainer.callback_metrics()};
}

std::multiset<int64_t> all_samples(int64_t times) {
  std::multiset<int64_t> all;
  for (int64_t i = 0; i < sample_count * times; ++i) all.insert(i % sample_count);
  return all;
}

class ResumeInAWindow : public ::testing::Test {
 protected:
  // Two devices; the epoch has 30 batches of 4 on each, and validations within it.
  void SetUp() override {
    whole_ = fit(summing(dir_, 2), numbered(4));
    first_ = seen.before(5);
    ASSERT_EQ(seen.before(), all_samples(2));
    ASSERT_EQ(first_.size(), 2u * 2 * 5 * 4);  // of both epochs
    checkpoint_ = checkpoint_at(dir_, 5);
  }

  const TempDir dir_;
  Ended whole_;
  std::multiset<int64_t> first_;
  std::filesystem::path checkpoint_;
};

TEST_F(ResumeInAWindow, WithTheSameRanksIsBitIdentical) {
  const TempDir dir;
  const auto resumed = fit(summing(dir, 2), numbered(4), checkpoint_);
  EXPECT_EQ(largest_difference(resumed.weights, whole_.weights), 0);
  EXPECT_EQ(resumed.metrics, whole_.metrics);
}

// An epoch's gradients, its loss and its metric are sums over samples, so they show each sample that is left out or
// seen twice.
TEST_F(ResumeInAWindow, WithOtherRanksSeesEachSampleOnce) {
  for (const int64_t devices : {1, 4}) {
    const TempDir dir;
    const auto resumed = fit(summing(dir, devices), numbered(4), checkpoint_);
    EXPECT_EQ(seen.before().size(), 2u * sample_count - 40) << devices;
    EXPECT_LT(largest_difference(resumed.weights, whole_.weights), 1e-12) << devices;
    for (const auto& name : {"train_loss", "train_error", "val_loss"}) {
      EXPECT_NEAR(resumed.metrics.at(name), whole_.metrics.at(name), 1e-12) << devices << name;
    }
  }
}

TEST_F(ResumeInAWindow, WithOtherBatchesSeesEachSampleOnce) {
  const TempDir dir;
  const auto resumed = fit(summing(dir, 2), numbered(10), checkpoint_);
  EXPECT_EQ(seen.before().size(), 2u * sample_count - 40);
  EXPECT_LT(largest_difference(resumed.weights, whole_.weights), 1e-12);
}

// An epoch that other ranks have begun is cut once more, and gone on with by a third number of them.
TEST_F(ResumeInAWindow, GoesThroughSeveralNumbersOfRanks) {
  const TempDir second, third;
  const auto once = fit(summing(second, 1), numbered(4), checkpoint_);
  // 40 samples were behind, which are 10 batches of one rank; the next validation is after batch 15.
  const auto resumed = fit(summing(third, 4), numbered(4), checkpoint_at(second, 15));
  EXPECT_LT(largest_difference(resumed.weights, whole_.weights), 1e-12);
  EXPECT_NEAR(resumed.metrics.at("train_loss"), whole_.metrics.at("train_loss"), 1e-12);
  const TempDir fourth;
  const auto same = fit(summing(fourth, 1), numbered(4), checkpoint_at(second, 15));
  EXPECT_EQ(largest_difference(same.weights, once.weights), 0);
}

// A position that no run has written is refused, not read from.
TEST_F(ResumeInAWindow, RefusesPositionsThatCannotBe) {
  const auto refusal = [&](const std::string& key, const nlohmann::json& value) {
    auto checkpoint = read_checkpoint(checkpoint_);
    if (key == "skipped_in_row") {
      checkpoint.metadata["windows"][0][key] = value;
    } else {
      checkpoint.metadata["data_position"][key] = value;
    }
    const TempDir dir;
    write_checkpoint(checkpoint, dir / "odd.safetensors");
    return error_of([&] { fit(summing(dir, 1), numbered(4), dir / "odd.safetensors"); });
  };
  EXPECT_THAT(refusal("ranks", 0), HasSubstr("data_position.ranks is not a count: 0"));
  EXPECT_THAT(refusal("ranks", int64_t{1} << 47), HasSubstr("the checkpoint's data_position is of "));
  EXPECT_THAT(refusal("batch_size", -4), HasSubstr("data_position.batch_size is not a count: -4"));
  EXPECT_THAT(refusal("epoch", 0.5), HasSubstr("data_position.epoch is not a count: 0.5"));
  EXPECT_THAT(refusal("skipped_in_row", 1e300), HasSubstr("skipped_in_row is not a count"));
  auto checkpoint = read_checkpoint(checkpoint_);
  checkpoint.metadata["data_position"]["epoch"] = 0;
  checkpoint.metadata["data_position"]["batches"] = 6;
  const TempDir dir;
  write_checkpoint(checkpoint, dir / "odd.safetensors");
  EXPECT_THAT(error_of([&] { fit(summing(dir, 2), numbered(4), dir / "odd.safetensors"); }),
              HasSubstr("data_position.batches is 6, more than the epoch's 5 so far"));
}

TEST(ResumeAStream, WithOtherRanksSeesEachSampleOnce) {
  const TempDir dir;
  const DataLoader stream(std::make_shared<NumberedStream>(), {.batch_size = 4});
  auto options = summing(dir, 2);
  options.check_val_every_n_epoch = std::nullopt;
  options.max_epochs = 1;
  const auto whole = fit(options, stream);
  ASSERT_EQ(seen.before(), all_samples(1));
  for (const int64_t devices : {1, 4}) {
    const TempDir other;
    auto resumed_options = summing(other, devices);
    resumed_options.check_val_every_n_epoch = std::nullopt;
    resumed_options.max_epochs = 1;
    const auto resumed = fit(resumed_options, stream, checkpoint_at(dir, 5));
    EXPECT_EQ(seen.before().size(), sample_count - 40u) << devices;
    EXPECT_LT(largest_difference(resumed.weights, whole.weights), 1e-12) << devices;
  }
}

// --- By hand ---

// Steps after every fourth batch, and saves in the hook of a batch's end in between.
class ByHand : public Net {
 public:
  explicit ByHand(NetOptions options = {}) : Net(options) { automatic_optimization = false; }
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    const auto loss = error(batch);
    manual_backward(loss);
    if (batch_idx % 4 == 3) {
      optimizer().step();
      optimizer().zero_grad();
    }
    return loss;
  }
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t batch_idx) override {
    if (trainer().progress().epoch == 1 && batch_idx == 5) {
      trainer().save_checkpoint(trainer().run_dir() / "in_between.safetensors");
    }
  }
};

TEST(Resume, GoesOnWithGradientsThatWaitForAStepByHand) {
  const TempDir whole, cut;
  const DataLoader loader(samples(40), {.batch_size = 4, .shuffle = true});
  Trainer trainer(exact(whole));
  const auto expected = trainer.fit<ByHand>({}, loader)->weights();
  Trainer second(exact(cut));
  const auto from = trainer.run_dir() / "in_between.safetensors";
  const auto resumed = second.fit<ByHand>({}, loader, {}, {.ckpt_path = from.string()})->weights();
  EXPECT_EQ(largest_difference(resumed, expected), 0);
  EXPECT_EQ(second.global_step(), trainer.global_step());
}

// --- Validations ---

struct Validated : Net {
  using Net::Net;
  void on_validation_epoch_start() override {
    const std::lock_guard lock(mutex);
    at.push_back(trainer().progress().total_batches);
  }
  static inline std::mutex mutex;
  static inline std::vector<int64_t> at;
};

TEST(Resume, MakesAValidationUpThatWasDueWhenTheCheckpointWasWrittenAndNoOtherOneTwice) {
  const TempDir dir;
  auto options = exact(dir);
  options.max_epochs = 1;
  options.val_check_interval = 4;
  options.num_sanity_val_steps = 0;
  // At steps 4 and 8 before the validation there, and after it.
  options.callbacks = {std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{
                           .dirpath = dir / "before", .save_top_k = -1, .every_n_train_steps = 4}),
                       std::make_shared<ModelCheckpoint>(
                           ModelCheckpointOptions{.dirpath = dir / "after", .monitor = "val_loss", .save_top_k = -1})};
  const DataLoader train(samples(40), {.batch_size = 4}), val(samples(8), {.batch_size = 4});
  const auto validations = [&](const std::string& ckpt_path) {
    Validated::at.clear();
    auto own = options;
    if (!ckpt_path.empty()) own.callbacks.clear();
    Trainer(own).fit<Validated>({}, train, val, {.ckpt_path = ckpt_path});
    return Validated::at;
  };
  EXPECT_EQ(validations(""), (std::vector<int64_t>{4, 8}));
  EXPECT_EQ(validations((dir / "before" / "epoch=0-step=4.safetensors").string()), (std::vector<int64_t>{4, 8}));
  EXPECT_EQ(validations((dir / "after" / "epoch=0-step=4.safetensors").string()), (std::vector<int64_t>{8}));
}

}  // namespace
}  // namespace troupe
