// A run that goes on from a checkpoint: in the middle of a window of accumulation, with other numbers of ranks, with
// other batches, by hand; and what comes between a checkpoint and the disk.
#include "tests/launch/ddp.hpp"

#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
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

constexpr int64_t sample_count = 240;

DataLoader numbered(int64_t batch_size) {
  const auto x = torch::arange(sample_count * 4, torch::kFloat64).reshape({sample_count, 4}).mul(0.37).sin();
  const auto y = torch::stack({x.select(1, 0) * x.select(1, 1), x.select(1, 2) - x.select(1, 3)}, 1);
  return {std::make_shared<TensorDataset>(x, y, torch::arange(sample_count)),
          {.batch_size = batch_size, .shuffle = true}};
}

// The same samples as a stream that is read in turn.
class NumberedStream : public IterableDataset {
 public:
  void start(int64_t, int64_t shard, int64_t shards) override { next_ = shard, step_ = shards; }
  std::optional<Batch> next() override {
    if (next_ >= sample_count) return std::nullopt;
    const int64_t at = std::exchange(next_, next_ + step_);
    return Batch{torch::arange(at * 4, at * 4 + 4, torch::kFloat64).mul(0.37).sin(),
                 torch::full({2}, 0.5, torch::kFloat64), torch::scalar_tensor(at, torch::kInt64)};
  }
  std::shared_ptr<IterableDataset> replicate() const override { return std::make_shared<NumberedStream>(); }

 private:
  int64_t next_ = 0, step_ = 1;
};

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
  EXPECT_THAT(refusal("ranks", 0), HasSubstr("data_position.ranks is 0, not a count"));
  EXPECT_THAT(refusal("ranks", int64_t{1} << 47), HasSubstr("the checkpoint's data_position is of "));
  EXPECT_THAT(refusal("batch_size", -4), HasSubstr("data_position.batch_size is -4, not a count"));
  EXPECT_THAT(refusal("epoch", 0.5), HasSubstr("data_position.epoch is 0.5, not a count"));
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

// --- A run that ends within an epoch ---

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

void expect_same(const Walked& resumed, const Walked& straight) {
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
    expect_same(resumed, straight);
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
  expect_same(resumed, straight);
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
  expect_same(resumed, straight);
  EXPECT_EQ(with_steps(ends, false, 60).epoch, 1);
  expect_same(with_steps(ends, true, -1), straight);
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
    expect_same(resumed, straight);
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
  expect_same(resumed, straight);
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

// --- Between a checkpoint and the disk ---

// Holds back what comes behind the first record of a step until it is told otherwise: checkpoints, too.
class Dam : public Sink {
 public:
  std::string name() const override { return "dam"; }
  void write(const Record& record) override {
    if (!std::holds_alternative<ScalarsRecord>(record)) return;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return is_open_; });
  }
  void flush() override {}
  void open() {
    const std::lock_guard lock(mutex_);
    is_open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_open_ = false;
};

struct OpensTheDam : Net {
  using Net::Net;
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    if (trainer().progress().global_step == 16) dam->open();
    log("loss", error(batch), {.on_step = true});
    return Net::training_step(batch, batch_idx);
  }
  static inline std::shared_ptr<Dam> dam;
};

TEST(Backpressure, SkipsCheckpointsOfStepsWhileOneIsBeingWrittenAndCountsThem) {
  const TempDir dir;
  auto options = exact(dir);
  options.max_epochs = 4;
  options.log_every_n_steps = 1;
  options.checkpoint_backpressure = CheckpointBackpressure::skip;
  OpensTheDam::dam = std::make_shared<Dam>();
  options.loggers = {OpensTheDam::dam};
  options.callbacks = {std::make_shared<ModelCheckpoint>(
      ModelCheckpointOptions{.save_top_k = -1, .save_last = true, .every_n_train_steps = 2})};
  Trainer trainer(options);
  trainer.fit<OpensTheDam>({}, DataLoader(samples(40), {.batch_size = 4}));
  // That of step 2 waits before the dam until step 16; at 4, 6, ... none is written.
  EXPECT_GE(trainer.skipped_checkpoints(), 6);
  EXPECT_LE(trainer.skipped_checkpoints(), 19);
  std::size_t files = 0;
  bool has_last = false;
  for (const auto& entry : std::filesystem::directory_iterator(trainer.run_dir() / "checkpoints")) {
    (void)read_checkpoint(entry.path());
    const bool is_last = entry.path().filename() == "last.safetensors";
    has_last |= is_last;
    files += is_last ? 0 : 1;
  }
  EXPECT_TRUE(has_last);
  EXPECT_EQ(static_cast<int64_t>(files) + trainer.skipped_checkpoints(), 20);
  const auto last = read_checkpoint_metadata(trainer.run_dir() / "checkpoints" / "last.safetensors");
  EXPECT_EQ(last.at("progress").at("global_step"), 40);
}

}  // namespace
}  // namespace troupe
