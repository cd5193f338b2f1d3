#include "troupe/modules/callbacks/model_checkpoint.hpp"

#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/base/failure.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <limits>
#include <set>
#include <string>

namespace troupe {
namespace {

constexpr double no_number = std::numeric_limits<double>::quiet_NaN();
using Names = std::vector<std::string>;

// A run of epochs of 10 batches, whose files are made at once, as the checkpointer would.
class ModelCheckpointTest : public ::testing::Test {
 protected:
  void start(ModelCheckpointOptions options, bool has_validation = true, const std::string& run = "version_0") {
    checkpoint_.emplace(std::move(options));
    info_ = {.run_dir = dir_ / run, .has_validation = has_validation, .train_batches = 10};
    checkpoint_->start(info_);
  }

  Names ask(Moment moment, const Progress& at, const MetricMap& metrics) {
    return carry_out(checkpoint_->decide(moment, at, metrics));
  }

  // What is written in an epoch with a validation at its end.
  Names epoch(int64_t number, const MetricMap& metrics) {
    const Progress at = end_of(number);
    ask(Moment::train_batch_end, at, latest_);
    EXPECT_EQ(ask(Moment::validation_end, at, metrics), Names{});
    latest_ = metrics;
    return ask(Moment::train_epoch_end, at, metrics);
  }
  // The same without validation.
  Names epoch_without_validation(int64_t number) {
    ask(Moment::train_batch_end, end_of(number), latest_);
    return ask(Moment::train_epoch_end, end_of(number), latest_);
  }

  static Progress end_of(int64_t epoch) {
    return {.epoch = epoch, .batch_idx = 10, .global_step = 10 * (epoch + 1), .total_batches = 10 * (epoch + 1)};
  }

  std::set<std::string> files(const std::string& run = "version_0") const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder(run))) names.insert(entry.path().filename());
    return names;
  }
  std::filesystem::path folder(const std::string& run = "version_0") const { return dir_ / run / "checkpoints"; }

  static void write(const std::filesystem::path& path) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << "x";
  }
  static Names carry_out(const Decision& decision) {
    Names written;
    for (const auto& request : decision.save) {
      write(request.path);
      written.push_back(request.path.filename());
      for (const auto& old : request.remove) EXPECT_TRUE(std::filesystem::remove(old)) << old;
    }
    return written;
  }

  TempDir dir_;
  RunInfo info_;
  MetricMap latest_;
  std::optional<ModelCheckpoint> checkpoint_;
};

TEST_F(ModelCheckpointTest, KeepsTheLastAndTheBestByValLossByDefault) {
  start({.save_last = true});
  EXPECT_EQ(epoch(0, {{"val_loss", 0.5}}), (Names{"epoch=0-step=10.safetensors", "last.safetensors"}));
  EXPECT_EQ(epoch(1, {{"val_loss", 0.4}}), (Names{"epoch=1-step=20.safetensors", "last.safetensors"}));
  EXPECT_EQ(epoch(2, {{"val_loss", 0.6}}), Names{"last.safetensors"});
  EXPECT_EQ(ask(Moment::train_end, end_of(2), latest_), Names{});
  EXPECT_EQ(files(), (std::set<std::string>{"epoch=1-step=20.safetensors", "last.safetensors"}));
  EXPECT_EQ(checkpoint_->best_model_path(), folder() / "epoch=1-step=20.safetensors");
  EXPECT_EQ(checkpoint_->best_model_score(), 0.4);
  EXPECT_EQ(checkpoint_->last_model_path(), folder() / "last.safetensors");
}

TEST_F(ModelCheckpointTest, TheNewestIsTheBestWithoutValLoss) {
  start({}, /*has_validation=*/false);
  epoch_without_validation(0);
  EXPECT_EQ(epoch_without_validation(1), Names{"epoch=1-step=20.safetensors"});
  EXPECT_EQ(files(), std::set<std::string>{"epoch=1-step=20.safetensors"});
  EXPECT_EQ(checkpoint_->best_model_score(), std::nullopt);
}

TEST_F(ModelCheckpointTest, KeepsTheKBestByTheMode) {
  start({.filename = "{epoch}", .monitor = "val_acc", .mode = MonitorMode::max, .save_top_k = 2});
  epoch(0, {{"val_acc", 0.1}});
  epoch(1, {{"val_acc", 0.3}});
  epoch(2, {{"val_acc", 0.2}});
  EXPECT_EQ(epoch(3, {{"val_acc", 0.2}}), Names{});
  EXPECT_EQ(files(), (std::set<std::string>{"epoch=1.safetensors", "epoch=2.safetensors"}));
  EXPECT_EQ(checkpoint_->best_model_score(), 0.3);
  EXPECT_EQ(checkpoint_->kth_value(), 0.2);
  EXPECT_EQ(checkpoint_->kth_best_model_path(), folder() / "epoch=2.safetensors");
}

TEST_F(ModelCheckpointTest, MinusOneKeepsAllAndZeroNone) {
  start({.filename = "{epoch}", .save_top_k = -1});
  for (int64_t i = 0; i < 3; ++i) epoch(i, {{"val_loss", i == 1 ? no_number : static_cast<double>(i)}});
  EXPECT_EQ(files().size(), 3u);
  EXPECT_EQ(checkpoint_->best_model_path(), folder() / "epoch=0.safetensors");
  start({.save_top_k = 0});
  EXPECT_EQ(epoch(0, {{"val_loss", 0.5}}), Names{});
  EXPECT_TRUE(checkpoint_->best_model_path().empty());
}

TEST_F(ModelCheckpointTest, AValueThatIsNotFiniteIsNeverTheBest) {
  start({.save_last = true});
  EXPECT_EQ(epoch(0, {{"val_loss", no_number}}), Names{"last.safetensors"});
  EXPECT_EQ(epoch(1, {{"val_loss", -std::numeric_limits<double>::infinity()}}), Names{"last.safetensors"});
  epoch(2, {{"val_loss", 5}});
  EXPECT_EQ(checkpoint_->best_model_score(), 5);
}

TEST_F(ModelCheckpointTest, AnEpochWithoutValidationIsNotJudgedByAnOldValue) {
  start({.monitor = "val_loss", .save_top_k = 3, .save_last = true});
  EXPECT_EQ(epoch_without_validation(0), Names{"last.safetensors"});
  EXPECT_EQ(epoch(1, {{"val_loss", 0.5}}), (Names{"epoch=1-step=20.safetensors", "last.safetensors"}));
  EXPECT_EQ(epoch_without_validation(2), Names{"last.safetensors"});
}

TEST_F(ModelCheckpointTest, AMetricOfTrainingIsJudgedAtEveryEpochEnd) {
  start({.monitor = "train_loss"});
  EXPECT_EQ(ask(Moment::validation_end, {.epoch = 0, .batch_idx = 5, .global_step = 5}, {{"val_loss", 1}}), Names{});
  EXPECT_EQ(ask(Moment::train_epoch_end, end_of(0), {{"train_loss", 2}, {"val_loss", 1}}).size(), 1u);
  EXPECT_EQ(ask(Moment::train_epoch_end, end_of(1), {{"train_loss", 1}, {"val_loss", 1}}).size(), 1u);
  EXPECT_EQ(checkpoint_->best_model_score(), 1);
}

TEST_F(ModelCheckpointTest, SavesAtValidationsWithinAnEpoch) {
  start({.monitor = "val_loss", .save_top_k = 3, .save_last = true});
  const Progress middle{.epoch = 0, .batch_idx = 5, .global_step = 5};
  EXPECT_EQ(ask(Moment::validation_end, middle, {{"val_loss", 1}}),
            (Names{"epoch=0-step=5.safetensors", "last.safetensors"}));
  EXPECT_EQ(epoch(0, {{"val_loss", 2}}), (Names{"epoch=0-step=10.safetensors", "last.safetensors"}));
}

TEST_F(ModelCheckpointTest, TrainingThatStopsAtAValidationIsNotJudgedTwice) {
  start({.save_top_k = -1, .save_last = true});
  const Progress middle{.epoch = 0, .batch_idx = 5, .global_step = 5};
  EXPECT_EQ(ask(Moment::validation_end, middle, {{"val_loss", 1}}).size(), 2u);
  EXPECT_EQ(ask(Moment::train_epoch_end, middle, {{"val_loss", 1}}), Names{"last.safetensors"});
}

TEST_F(ModelCheckpointTest, AStreamOfUnknownLengthIsSavedAtValidationsWithinEpochsOnly) {
  start({});
  const Progress at{.epoch = 0, .batch_idx = 5, .global_step = 5};
  checkpoint_->start({.run_dir = dir_ / "version_0", .has_validation = true});
  EXPECT_EQ(ask(Moment::validation_end, at, {{"val_loss", 1}}), Names{});
  checkpoint_->start({.run_dir = dir_ / "version_0", .has_validation = true, .validates_mid_epoch = true});
  EXPECT_EQ(ask(Moment::validation_end, at, {{"val_loss", 1}}).size(), 1u);
}

TEST_F(ModelCheckpointTest, SaveOnTrainEpochEndChoosesTheMoment) {
  const Progress middle{.epoch = 0, .batch_idx = 5, .global_step = 5};
  start({.save_on_train_epoch_end = true});
  EXPECT_EQ(ask(Moment::validation_end, middle, {{"val_loss", 1}}), Names{});
  EXPECT_EQ(ask(Moment::train_epoch_end, end_of(0), {{"val_loss", 1}}).size(), 1u);
  start({.save_on_train_epoch_end = false});
  EXPECT_EQ(ask(Moment::validation_end, end_of(0), {{"val_loss", 1}}).size(), 1u);
  EXPECT_EQ(ask(Moment::train_epoch_end, end_of(0), {{"val_loss", 1}}), Names{});
  start({.save_on_train_epoch_end = false}, /*has_validation=*/false);
  EXPECT_EQ(epoch_without_validation(0).size(), 1u);
}

TEST_F(ModelCheckpointTest, EveryNEpochsCountsEpochs) {
  start({.every_n_epochs = 2});
  EXPECT_EQ(epoch(0, {{"val_loss", 3}}), Names{});
  EXPECT_EQ(epoch(1, {{"val_loss", 2}}), Names{"epoch=1-step=20.safetensors"});
  EXPECT_EQ(epoch(2, {{"val_loss", 1}}), Names{});
}

TEST_F(ModelCheckpointTest, EveryNTrainStepsPlansItsStepsAndSavesAtThemOnly) {
  start({.save_last = true, .every_n_train_steps = 4});
  EXPECT_EQ(checkpoint_->next_step({.global_step = 0}), 4);
  EXPECT_EQ(checkpoint_->next_step({.global_step = 4}), 8);
  const Progress at{.epoch = 0, .batch_idx = 4, .global_step = 4};
  EXPECT_EQ(ask(Moment::train_batch_end, at, {}), (Names{"epoch=0-step=4.safetensors", "last.safetensors"}));
  EXPECT_EQ(ask(Moment::train_batch_end, at, {}), Names{});
  EXPECT_EQ(ask(Moment::train_batch_end, {.batch_idx = 5, .global_step = 5}, {}), Names{});
  EXPECT_EQ(ask(Moment::train_end, {.batch_idx = 5, .global_step = 5}, {}), Names{"last.safetensors"});
}

TEST_F(ModelCheckpointTest, ATimeIsPlannedAndSavesBetweenBatchesOnly) {
  double now = 100;
  const auto start_at = [&](bool decides) {
    checkpoint_.emplace(ModelCheckpointOptions{.save_top_k = -1, .train_time_interval = std::chrono::seconds(10)});
    info_ = {.run_dir = dir_ / "version_0", .has_validation = true, .train_batches = 10};
    info_.seconds = [&] { return now; };
    info_.decides_times = decides;
    checkpoint_->start(info_);
  };
  start_at(true);
  EXPECT_EQ(checkpoint_->next_time(), 110);
  now = 109;
  EXPECT_EQ(ask(Moment::train_batch_end, {.global_step = 3}, {}), Names{});
  now = 112;
  EXPECT_EQ(ask(Moment::train_batch_end, {.global_step = 4}, {}), Names{"epoch=0-step=4.safetensors"});
  EXPECT_EQ(checkpoint_->next_time(), 122) << "from the save, not from when it was due";
  now = 130;
  EXPECT_EQ(ask(Moment::train_epoch_end, {.global_step = 4}, {}), Names{}) << "ends of epochs do not save";
  EXPECT_EQ(ask(Moment::train_batch_end, {.global_step = 4}, {}), Names{}) << "nothing was trained since";
  const auto state = checkpoint_->state_dict();
  now = 1000;
  start_at(true);
  checkpoint_->load_state_dict(state);
  EXPECT_EQ(checkpoint_->next_time(), 992) << "18 of 10 seconds had passed";
  start_at(false);
  EXPECT_EQ(checkpoint_->next_time(), std::nullopt);
  EXPECT_EQ(
      refusal([] { ModelCheckpoint({.every_n_train_steps = 1, .train_time_interval = std::chrono::seconds(1)}); }),
      "ModelCheckpoint: every_n_train_steps and train_time_interval are both set; use one of them");
  EXPECT_EQ(refusal([] { ModelCheckpoint({.train_time_interval = std::chrono::seconds(0)}); }),
            "ModelCheckpoint: train_time_interval = 0 ms; use at least 1 ms");
}

TEST_F(ModelCheckpointTest, SavesWhereABatchOfSeveralOptimizersPassesAMultiple) {
  start({.every_n_train_steps = 5});
  EXPECT_EQ(ask(Moment::train_batch_end, {.batch_idx = 2, .global_step = 4}, {}), Names{});
  EXPECT_EQ(ask(Moment::train_batch_end, {.batch_idx = 3, .global_step = 6}, {}), Names{"epoch=0-step=6.safetensors"});
  EXPECT_EQ(ask(Moment::train_batch_end, {.batch_idx = 4, .global_step = 8}, {}), Names{});
}

TEST_F(ModelCheckpointTest, NoStepIsPlannedWithoutEveryNTrainSteps) {
  start({});
  EXPECT_EQ(checkpoint_->next_step({.global_step = 4}), std::nullopt);
}

TEST_F(ModelCheckpointTest, AnInterruptionWritesTheLast) {
  start({.save_last = true});
  EXPECT_EQ(ask(Moment::exception, {.batch_idx = 3, .global_step = 3}, {}), Names{"last.safetensors"});
  start({});
  EXPECT_EQ(ask(Moment::exception, {.batch_idx = 3, .global_step = 3}, {}), Names{});
}

TEST_F(ModelCheckpointTest, TheSanityCheckSavesNothing) {
  start({.save_last = true});
  EXPECT_EQ(ask(Moment::sanity_check_end, {}, {{"val_loss", 1}}), Names{});
}

TEST_F(ModelCheckpointTest, ARunWithoutAFolderSavesNothing) {
  checkpoint_.emplace(ModelCheckpointOptions{.dirpath = dir_ / "x", .save_last = true});
  checkpoint_->start({});
  EXPECT_EQ(ask(Moment::train_epoch_end, end_of(0), {}), Names{});
  EXPECT_FALSE(std::filesystem::exists(dir_ / "x"));
}

TEST_F(ModelCheckpointTest, FilesOfOthersAreNotOverwritten) {
  write(folder() / "last.safetensors");
  write(folder() / "epoch=0.safetensors");
  write(folder() / "epoch=0-v1.safetensors");
  start({.filename = "{epoch}", .save_last = true});
  EXPECT_EQ(epoch(0, {{"val_loss", 1}}), (Names{"epoch=0-v2.safetensors", "last-v1.safetensors"}));
  EXPECT_EQ(epoch(1, {{"val_loss", 2}}), Names{"last-v1.safetensors"});
}

TEST_F(ModelCheckpointTest, ATemplateWithoutCountersReusesTheNameOfTheFileThatItReplaces) {
  start({.filename = "best", .save_top_k = 2});
  EXPECT_EQ(epoch(0, {{"val_loss", 3}}), Names{"best.safetensors"});
  EXPECT_EQ(epoch(1, {{"val_loss", 2}}), Names{"best-v1.safetensors"});
  EXPECT_EQ(epoch(2, {{"val_loss", 1}}), Names{"best.safetensors"});
  EXPECT_EQ(files(), (std::set<std::string>{"best.safetensors", "best-v1.safetensors"}));
}

TEST_F(ModelCheckpointTest, AMetricThatWasNeverLoggedIsAnErrorWithTheNearestFirst) {
  start({.monitor = "val_los"});
  EXPECT_EQ(refusal([&] {
              epoch(0, {{"acc", 1}, {"val_loss", 1}});
            }),
            "ModelCheckpoint's monitor: no metric 'val_los' was logged; logged: val_loss, acc");
  start({.filename = "{val_los}"});
  EXPECT_EQ(refusal([&] {
              epoch(0, {{"acc", 1}, {"val_loss", 1}});
            }),
            "ModelCheckpoint's filename: no metric 'val_los' was logged; logged: val_loss, acc");
}

TEST_F(ModelCheckpointTest, AResumedRunComparesWithTheFormerOneAndLeavesItsFilesAlone) {
  start({.save_last = true});
  epoch(0, {{"val_loss", 0.5}});
  const auto state = nlohmann::json::parse(checkpoint_->state_dict().dump());
  EXPECT_EQ(state["best_model_path"], "epoch=0-step=10.safetensors");
  EXPECT_EQ(state["last_model_path"], "last.safetensors");
  EXPECT_EQ(state["dirpath"], folder().string());

  start({.save_last = true}, true, "version_1");
  checkpoint_->load_state_dict(state);
  EXPECT_EQ(checkpoint_->best_model_path(), folder() / "epoch=0-step=10.safetensors");
  EXPECT_EQ(checkpoint_->best_model_score(), 0.5);
  EXPECT_EQ(epoch(1, {{"val_loss", 0.6}}), Names{"last.safetensors"});
  EXPECT_EQ(checkpoint_->state_dict()["best_model_path"], "../../version_0/checkpoints/epoch=0-step=10.safetensors");
  EXPECT_EQ(epoch(2, {{"val_loss", 0.4}}), (Names{"epoch=2-step=30.safetensors", "last.safetensors"}));
  EXPECT_EQ(files("version_0"), (std::set<std::string>{"epoch=0-step=10.safetensors", "last.safetensors"}));
  EXPECT_EQ(files("version_1"), (std::set<std::string>{"epoch=2-step=30.safetensors", "last.safetensors"}));
}

TEST_F(ModelCheckpointTest, ARunResumedInItsOwnFolderGoesOnWithItsFiles) {
  const ModelCheckpointOptions options{.dirpath = dir_ / "kept", .filename = "{epoch}", .save_last = true};
  start(options);
  epoch(0, {{"val_loss", 0.5}});
  const auto state = checkpoint_->state_dict();
  start(options, true, "version_1");
  checkpoint_->load_state_dict(state);
  EXPECT_EQ(checkpoint_->state_dict(), state);
  EXPECT_EQ(epoch(1, {{"val_loss", 0.4}}), (Names{"epoch=1.safetensors", "last.safetensors"}));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "kept/epoch=0.safetensors"));
}

TEST_F(ModelCheckpointTest, ASecondFitIntoTheSameFolderKeepsItsNames) {
  start({.save_last = true});
  epoch(0, {{"val_loss", 0.5}});
  checkpoint_->start(info_);
  EXPECT_EQ(epoch(1, {{"val_loss", 0.6}}), Names{"last.safetensors"});
}

TEST_F(ModelCheckpointTest, AFileThatIsGoneIsForgottenOnResume) {
  start({});
  epoch(0, {{"val_loss", 0.5}});
  const auto state = checkpoint_->state_dict();
  std::filesystem::remove(checkpoint_->best_model_path());
  start({}, true, "version_1");
  checkpoint_->load_state_dict(state);
  EXPECT_TRUE(checkpoint_->best_model_path().empty());
  EXPECT_EQ(epoch(1, {{"val_loss", 0.6}}).size(), 1u);
}

TEST_F(ModelCheckpointTest, AStateThatNamesOtherFilesCannotHaveThemDeleted) {
  write(dir_ / "version_0/config.toml");
  write(dir_ / "version_0/other.safetensors");
  write(folder() / "notes.txt");
  start({});
  nlohmann::json state = checkpoint_->state_dict();
  for (const char* name : {"../config.toml", "../other.safetensors", "notes.txt"}) {
    state["best_k_models"] = nlohmann::json::array({{{"path", name}, {"score", 9}}});
    start({});
    checkpoint_->load_state_dict(state);
    epoch(0, {{"val_loss", 0.5}});
  }
  EXPECT_TRUE(std::filesystem::exists(dir_ / "version_0/config.toml"));
  EXPECT_TRUE(std::filesystem::exists(dir_ / "version_0/other.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(folder() / "notes.txt"));
}

TEST_F(ModelCheckpointTest, RefusesADamagedState) {
  start({});
  const nlohmann::json good = checkpoint_->state_dict();
  EXPECT_NO_THROW(checkpoint_->load_state_dict(good));
  EXPECT_THROW(checkpoint_->load_state_dict(nlohmann::json::array()), UsageError);
  for (const auto& [key, value] : {std::pair<const char*, nlohmann::json>{"dirpath", 3},
                                   {"best_k_models", "x"},
                                   {"best_k_models", nlohmann::json::array({1})},
                                   {"last_model_path", nullptr},
                                   {"global_step", "x"}}) {
    nlohmann::json bad = good;
    bad[key] = value;
    EXPECT_THROW(checkpoint_->load_state_dict(bad), UsageError) << bad;
  }
}

TEST_F(ModelCheckpointTest, AFolderThatCannotBeWrittenIsRefusedBeforeTraining) {
  write(dir_ / "file");
  EXPECT_THROW(start({.dirpath = dir_ / "file"}), UsageError);
  EXPECT_THROW(start({.dirpath = dir_ / "file" / "below"}), UsageError);
}

TEST(ModelCheckpoint, RefusesOptionsThatCannotBe) {
  EXPECT_THROW(ModelCheckpoint({.mode = MonitorMode::max}), UsageError);
  EXPECT_THROW(ModelCheckpoint({.save_top_k = -2}), UsageError);
  EXPECT_THROW(ModelCheckpoint({.every_n_epochs = 0}), UsageError);
  EXPECT_THROW(ModelCheckpoint({.every_n_train_steps = 0}), UsageError);
  EXPECT_THROW(ModelCheckpoint({.every_n_epochs = 1, .every_n_train_steps = 1}), UsageError);
  EXPECT_THROW(ModelCheckpoint({.every_n_train_steps = 1, .save_on_train_epoch_end = true}), UsageError);
  EXPECT_THROW(ModelCheckpoint({.filename = "../x"}), UsageError);
}

TEST(ModelCheckpoint, IsIdentifiedAsInLightning) {
  EXPECT_EQ(ModelCheckpoint({.save_last = true}).state_key(),
            "ModelCheckpoint{'monitor': None, 'mode': 'min', 'every_n_train_steps': 0, 'every_n_epochs': 1}");
  EXPECT_EQ(ModelCheckpoint({.monitor = "acc", .mode = MonitorMode::max, .every_n_train_steps = 5}).state_key(),
            "ModelCheckpoint{'monitor': 'acc', 'mode': 'max', 'every_n_train_steps': 5, 'every_n_epochs': 0}");
}

TEST_F(ModelCheckpointTest, SharesAFolderWithAnotherOne) {
  // Both want "epoch=0.safetensors" at one boundary, before either file is written.
  start({.filename = "{epoch}", .monitor = "val_loss", .save_last = true});
  ModelCheckpoint other({.filename = "{epoch}", .monitor = "val_acc", .mode = MonitorMode::max, .save_last = true});
  other.start(info_);
  for (int64_t i = 0; i < 2; ++i) {
    // The first keeps epoch 0 and the second epoch 1.
    const MetricMap metrics = {{"val_loss", i}, {"val_acc", i}};
    const Progress at = end_of(i);
    for (const Moment moment : {Moment::train_batch_end, Moment::validation_end, Moment::train_epoch_end}) {
      const Decision first = checkpoint_->decide(moment, at, metrics), second = other.decide(moment, at, metrics);
      carry_out(first);
      carry_out(second);
    }
  }
  EXPECT_EQ(files(), (std::set<std::string>{"epoch=0.safetensors", "epoch=1.safetensors", "last.safetensors",
                                            "last-v1.safetensors"}));
  EXPECT_EQ(checkpoint_->best_model_path(), folder() / "epoch=0.safetensors");
  EXPECT_EQ(other.best_model_path(), folder() / "epoch=1.safetensors");
}

}  // namespace
}  // namespace troupe
