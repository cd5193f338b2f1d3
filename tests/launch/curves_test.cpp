// The curves in a run's folder after several stages of one Trainer, as TensorBoard shows them: its default data server
// drops what it has of a curve from a step on to which the curve comes back.
#include "tests/support/lines.hpp"
#include "tests/support/python_output.hpp"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <stdexcept>
#include <vector>

namespace troupe {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;

using Steps = std::vector<int64_t>;

// Six batches an epoch, two of validation; values by step and by epoch, and a histogram an epoch.
class Curves : public Line {
 public:
  using Line::Line;
  StepOutput validation_step(const Batch& batch, int64_t batch_idx) override {
    log("val_by_batch", error(batch), {.on_step = true, .on_epoch = false});
    return Line::validation_step(batch, batch_idx);
  }
  StepOutput test_step(const Batch& batch, int64_t batch_idx) override {
    log("test_by_batch", error(batch), {.on_step = true, .on_epoch = false});
    return Line::test_step(batch, batch_idx);
  }
  void on_train_epoch_end() override { logger().log_histogram("weight", layer_->weight); }
};

DataLoader train_data() {
  return points(11);
}
DataLoader val_data() {
  return points(32, false);
}

TrainerOptions each_step(const TempDir& dir) {
  auto options = quiet(dir);
  options.log_every_n_steps = 1;
  return options;
}

// What the data server has.
json shown_by_server(const std::filesystem::path& folder) {
  return json::parse(python_output("read_data_server.py", "'" + folder.string() + "'"));
}
// All that was written.
json written(const std::filesystem::path& folder) {
  return json::parse(python_output("read_tensorboard.py", "'" + folder.string() + "'"));
}

Steps steps_of(const json& points, std::size_t place) {
  Steps steps;
  for (const auto& point : points) steps.push_back(point.at(place).get<int64_t>());
  return steps;
}
Steps shown_steps(const json& shown, const std::string& tag) {
  return steps_of(shown.at(tag), 0);
}

Steps from_to(int64_t first, int64_t last) {
  Steps steps;
  for (int64_t step = first; step <= last; ++step) steps.push_back(step);
  return steps;
}

// No curve of the folder ever comes back to a step before one that it had.
void expect_no_way_back(const std::filesystem::path& folder) {
  const auto all = written(folder);
  EXPECT_FALSE(all.at("scalars").empty());
  for (const auto& [tag, points] : all.at("scalars").items()) {
    const auto steps = steps_of(points, 1);
    EXPECT_TRUE(std::ranges::is_sorted(steps)) << tag << ": " << ::testing::PrintToString(steps);
  }
}

TEST(Curves, AnEvaluationAfterAFitStandsBehindIt) {
  const TempDir dir;
  Trainer trainer(each_step(dir));
  trainer.fit<Curves>({}, train_data(), val_data());
  trainer.validate(val_data());
  EXPECT_EQ(trainer.current_epoch(), 2);
  EXPECT_EQ(trainer.global_step(), 12);
  trainer.test(val_data());
  const auto shown = shown_by_server(trainer.run_dir());
  EXPECT_THAT(shown_steps(shown, "val_loss"), ElementsAre(5, 11, 12));
  EXPECT_THAT(shown_steps(shown, "test_loss"), ElementsAre(12));
  EXPECT_EQ(shown_steps(shown, "train_loss_step"), from_to(0, 11));
  EXPECT_EQ(shown_steps(shown, "epoch"), from_to(0, 12));
  EXPECT_EQ(shown.at("epoch").back(), json::parse("[12, 2.0]"));
  expect_no_way_back(trainer.run_dir());
}

TEST(Curves, ValuesOfEvaluationsLoggedOnStepGoOnAndSayNoEpoch) {
  const TempDir dir;
  auto options = each_step(dir);
  options.log_every_n_steps = 0;
  Trainer trainer(options);
  trainer.fit<Curves>({}, train_data(), val_data());
  auto shown = shown_by_server(trainer.run_dir());
  EXPECT_THAT(shown_steps(shown, "val_by_batch"), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(shown.at("epoch"), json::parse("[[5, 0.0], [11, 1.0]]"));
  trainer.validate(val_data());
  trainer.test(val_data());
  trainer.test(val_data());
  shown = shown_by_server(trainer.run_dir());
  EXPECT_THAT(shown_steps(shown, "val_by_batch"), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(shown_steps(shown, "test_by_batch"), ElementsAre(0, 1, 2, 3));

  options.max_epochs = 3;
  Trainer resumed(options);
  resumed.fit<Curves>({}, train_data(), val_data(), {.ckpt_path = "last"});
  EXPECT_THAT(shown_steps(shown_by_server(resumed.run_dir()), "val_by_batch"), ElementsAre(4, 5));
}

TEST(Curves, AFurtherFitOfTheTrainerIsWrittenBehindTheOneBefore) {
  const TempDir dir;
  Trainer trainer(each_step(dir));
  trainer.fit<Curves>({}, train_data(), val_data());
  trainer.fit<Curves>({}, train_data(), val_data());
  EXPECT_EQ(trainer.global_step(), 12);
  trainer.validate(val_data());
  trainer.fit<Curves>({}, train_data(), val_data());
  const auto shown = shown_by_server(trainer.run_dir());
  EXPECT_EQ(shown_steps(shown, "train_loss_step"), from_to(0, 35));
  EXPECT_THAT(shown_steps(shown, "val_loss"), ElementsAre(5, 11, 17, 23, 24, 29, 35));
  EXPECT_EQ(shown_steps(shown, "val_by_batch"), from_to(0, 13));
  std::vector<double> epochs;
  for (const auto& point : shown.at("epoch")) epochs.push_back(point.at(1).get<double>());
  ASSERT_EQ(epochs.size(), 36u);
  for (std::size_t i = 0; i < epochs.size(); ++i) EXPECT_EQ(epochs[i], static_cast<double>(i / 6)) << i;
  expect_no_way_back(trainer.run_dir());
  Steps histograms;
  const auto all = written(trainer.run_dir());
  for (const auto& point : all.at("histograms").at("weight")) histograms.push_back(point.at(0));
  EXPECT_THAT(histograms, ElementsAre(6, 12, 18, 24, 30, 36));
}

TEST(Curves, AFitFromAnOlderCheckpointOfTheTrainerCutsNothing) {
  const TempDir dir;
  auto options = each_step(dir);
  const auto checkpoint = std::make_shared<ModelCheckpoint>(
      ModelCheckpointOptions{.filename = "seven", .save_top_k = -1, .every_n_train_steps = 7});
  options.callbacks = {checkpoint};
  Trainer trainer(options);
  trainer.fit<Curves>({}, train_data(), val_data());
  const auto from = (trainer.run_dir() / "checkpoints" / "seven.safetensors").string();
  trainer.fit<Curves>({}, train_data(), val_data(), {.ckpt_path = from});
  const auto shown = shown_by_server(trainer.run_dir());
  EXPECT_EQ(shown_steps(shown, "train_loss_step"), from_to(0, 16));
  EXPECT_THAT(shown_steps(shown, "val_loss"), ElementsAre(5, 11, 16));
  EXPECT_EQ(shown_steps(shown, "val_by_batch"), from_to(0, 5));
  expect_no_way_back(trainer.run_dir());
}

TEST(Curves, AFitThatGoesOnWhereTheOneBeforeStoppedIsWrittenAsItCounts) {
  class Stops : public Curves {
   public:
    using Curves::Curves;
    void on_train_batch_end(const StepOutput&, const Batch&, int64_t batch_idx) override {
      if (stops && current_epoch() == 1 && batch_idx == 1) trainer().request_stop("enough");
    }
    bool stops = true;
  };
  const TempDir dir;
  Trainer trainer(each_step(dir));
  const auto model = trainer.fit(std::make_shared<Stops>(), train_data(), val_data());
  model->stops = false;
  trainer.fit(model, train_data(), val_data(), {.ckpt_path = "last"});
  const auto shown = shown_by_server(trainer.run_dir());
  EXPECT_EQ(shown_steps(shown, "train_loss_step"), from_to(0, 11));
  EXPECT_EQ(shown.at("epoch").back(), json::parse("[11, 1.0]"));
  expect_no_way_back(trainer.run_dir());
}

TEST(Curves, AFitAfterOneThatFailedStandsBehindWhatThatHasWritten) {
  class Fails : public Curves {
   public:
    using Curves::Curves;
    StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
      if (global_step() == 8) throw std::runtime_error("no more");
      return Curves::training_step(batch, batch_idx);
    }
  };
  const TempDir dir;
  Trainer trainer(each_step(dir));
  EXPECT_THROW(trainer.fit<Fails>({}, train_data(), val_data()), RunError);
  trainer.fit<Curves>({}, train_data(), val_data());
  const auto shown = shown_by_server(trainer.run_dir());
  EXPECT_EQ(shown_steps(shown, "train_loss_step"), from_to(0, 19));
  expect_no_way_back(trainer.run_dir());
}

// Sinks that the user makes know no Trainer: the resumed run counts as it does, and takes the place of what stood
// behind its checkpoint.
TEST(Curves, ARunResumedIntoTheSameFolderKeepsWhatStoodBeforeItsCheckpoint) {
  const TempDir dir;
  auto options = each_step(dir);
  options.callbacks = {std::make_shared<ModelCheckpoint>(
      ModelCheckpointOptions{.filename = "seven", .save_top_k = -1, .every_n_train_steps = 7})};
  options.loggers = {};
  options.sinks = {std::make_shared<TensorBoardSink>(dir / "curves")};
  Trainer first(options);
  first.fit<Curves>({}, train_data(), val_data());
  const auto from = (first.run_dir() / "checkpoints" / "seven.safetensors").string();
  options.callbacks.clear();
  options.loggers = {};
  options.sinks = {std::make_shared<TensorBoardSink>(dir / "curves")};
  Trainer second(options);
  second.fit<Curves>({}, train_data(), val_data(), {.ckpt_path = from});
  const auto shown = shown_by_server(dir / "curves");
  EXPECT_EQ(shown_steps(shown, "train_loss_step"), from_to(0, 11));
  EXPECT_EQ(shown_steps(shown, "epoch"), from_to(0, 11));
  EXPECT_THAT(shown_steps(shown, "val_loss"), ElementsAre(5, 11));
  EXPECT_THAT(shown_steps(shown, "val_by_batch"), ElementsAre(0, 1, 2, 3));
}

// A callback actor counts its steps itself, each stage anew.
TEST(Curves, ValuesOfACallbackActorGoOnInTheNextStage) {
  const TempDir dir;
  Trainer trainer(each_step(dir));
  trainer.add_actor("counter", on_events([count = int64_t{0}](const TrainBatchEnded&, RunHandle& run) mutable {
                      run.log("counted", static_cast<double>(count), count);
                      ++count;
                    }));
  trainer.fit<Curves>({}, train_data(), val_data());
  trainer.fit<Curves>({}, train_data(), val_data());
  const auto shown = shown_by_server(trainer.run_dir());
  EXPECT_EQ(shown_steps(shown, "counted"), from_to(0, 23));
  EXPECT_EQ(shown_steps(shown, "train_loss_step"), from_to(0, 23));
  expect_no_way_back(trainer.run_dir());
}

TEST(Curves, AMetricOfTrainingAndEvaluationByOneNameNeverGoesBack) {
  class OneName : public Line {
   public:
    using Line::Line;
    StepOutput training_step(const Batch& batch, int64_t) override {
      log("loss", error(batch), {.on_step = true, .on_epoch = false});
      log("epoch_loss", error(batch), {.on_step = false, .on_epoch = true});
      return error(batch);
    }
    StepOutput validation_step(const Batch& batch, int64_t) override {
      log("loss", error(batch), {.on_step = true, .on_epoch = false});
      log("epoch_loss", error(batch));
      return error(batch);
    }
  };
  const TempDir dir;
  Trainer trainer(each_step(dir));
  trainer.fit<OneName>({}, train_data(), val_data());
  trainer.validate(val_data());
  trainer.fit<OneName>({}, train_data(), val_data());
  expect_no_way_back(trainer.run_dir());
  EXPECT_GE(shown_steps(shown_by_server(trainer.run_dir()), "loss").back(), 23);
}

TEST(Curves, AnEvaluationBeforeAFitStandsAtItsBeginning) {
  const TempDir dir;
  Trainer trainer(each_step(dir));
  trainer.validate(std::make_shared<Curves>(), val_data());
  trainer.fit<Curves>({}, train_data(), val_data());
  const auto shown = shown_by_server(trainer.run_dir());
  EXPECT_THAT(shown_steps(shown, "val_loss"), ElementsAre(0, 5, 11));
  EXPECT_EQ(shown_steps(shown, "train_loss_step"), from_to(0, 11));
}

}  // namespace
}  // namespace troupe
