// Whole runs: one process, one CPU device, every actor in its place.
#include "tests/support/lines.hpp"

#include "tests/support/file_content.hpp"
#include "troupe/actors/messages.hpp"
#include "troupe/launch/actor_system.hpp"
#include "troupe/launch/prediction_shapes.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <set>
#include <thread>

namespace troupe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Looks at where it runs.
class Watched : public Line {
 public:
  using Line::Line;
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    threads.insert(std::this_thread::get_id());
    return Line::training_step(batch, batch_idx);
  }
  StepOutput validation_step(const Batch& batch, int64_t batch_idx) override {
    EXPECT_FALSE(is_training());
    EXPECT_FALSE(torch::GradMode::is_enabled());
    return Line::validation_step(batch, batch_idx);
  }
  Optimizers configure_optimizers() override {
    stepping_batches = trainer().estimated_stepping_batches();
    return Line::configure_optimizers();
  }
  std::set<std::thread::id> threads;
  std::optional<int64_t> stepping_batches;
};

TEST(Fit, LearnsALine) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = 20;
  Trainer trainer(options);
  const auto model = trainer.fit<Watched>({.lr = 0.3}, points(), points(64, false));
  EXPECT_NEAR(model->weight(), 2, 0.01);
  EXPECT_NEAR(model->bias(), 1, 0.01);
  EXPECT_EQ(trainer.global_step(), 80);
  EXPECT_EQ(trainer.current_epoch(), 20);
  EXPECT_LT(trainer.callback_metrics().at("val_loss"), 1e-4);
  EXPECT_TRUE(trainer.callback_metrics().contains("train_loss_step"));
  EXPECT_TRUE(trainer.callback_metrics().contains("train_loss_epoch"));
  EXPECT_EQ(model->stepping_batches, 80);
}

TEST(Fit, TheModuleBelongsToOneWorkerThreadP1) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  const auto model = trainer.fit<Watched>({}, points(), points());
  EXPECT_EQ(model->threads.size(), 1u);
  EXPECT_FALSE(model->threads.contains(std::this_thread::get_id()));
  EXPECT_FALSE(model->in_run());
}

TEST(Fit, TwoRunsWithOneSeedGiveTheSameBitsP9) {
  std::vector<double> weights;
  for (const int64_t workers : {0, 0, 3}) {
    const TempDir dir;
    Trainer trainer(quiet(dir));
    DataLoader loader(points().dataset(), {.batch_size = 8, .shuffle = true, .num_workers = workers});
    weights.push_back(trainer.fit<Line>({}, loader)->weight());
  }
  EXPECT_EQ(weights[0], weights[1]);
  EXPECT_EQ(weights[0], weights[2]);
}

TEST(Fit, LeavesOptionsMetricsEventsAndCheckpointsInARunFolder) {
  const TempDir dir;
  auto options = quiet(dir);
  options.log_every_n_steps = 2;
  Trainer trainer(options);
  trainer.fit<Line>({}, points(), points());
  EXPECT_EQ(trainer.run_dir(), dir.path() / "line" / "version_0");
  const std::string config = content_of(trainer.run_dir() / "config.toml");
  EXPECT_THAT(config, HasSubstr("[model]"));
  EXPECT_THAT(config, HasSubstr("seed = 7"));
  const std::string metrics = content_of(trainer.run_dir() / "metrics.csv");
  for (const char* column : {"epoch", "step", "train_loss_step", "train_loss_epoch", "val_loss"}) {
    EXPECT_THAT(metrics.substr(0, metrics.find('\n')), HasSubstr(column));
  }
  EXPECT_TRUE(std::filesystem::exists(trainer.run_dir() / "checkpoints" / "last.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(trainer.best_model_path()));

  Trainer second(options);
  second.fit<Line>({}, points());
  EXPECT_EQ(second.run_dir().filename(), "version_1");
}

TEST(Fit, GoesOnFromACheckpointAsIfItHadNotStopped) {
  const TempDir whole_dir, parts_dir;
  auto options = quiet(whole_dir);
  options.max_epochs = 4;
  Trainer whole(options);
  const auto expected = whole.fit<Line>({}, points(), points());

  options.default_root_dir = parts_dir.path();
  options.max_epochs = 2;
  Trainer first(options);
  first.fit<Line>({}, points(), points());
  options.max_epochs = 4;
  Trainer second(options);
  const auto resumed = second.fit<Line>({}, points(), points(), {.ckpt_path = "last"});
  EXPECT_EQ(second.global_step(), 16);
  EXPECT_EQ(resumed->weight(), expected->weight());
  EXPECT_EQ(resumed->bias(), expected->bias());
}

TEST(Fit, TestAfterFitTakesTheBestWeights) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = 3;
  Trainer trainer(options);
  // A learning rate at which every epoch is worse than the one before: the first is the best.
  const auto model = trainer.fit<Line>({.lr = 2.5}, points(64), points(64, false));
  const double last = trainer.callback_metrics().at("val_loss");
  const auto results = trainer.test(points(64, false));
  ASSERT_EQ(results.size(), 1u);
  EXPECT_LT(results[0].at("test_loss"), last);
}

TEST(Fit, PredictReturnsEveryBatchInOrder) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  const auto model = std::make_shared<Line>();
  const auto outputs = trainer.predict(model, points(10, false));
  ASSERT_EQ(outputs.size(), 7u);
  EXPECT_EQ(outputs[6]["prediction"].size(0), 4);
}

TEST(Fit, PredictReturnsNothingWhereItIsToldSo) {
  const TempDir dir;
  for (const int64_t devices : {1, 2}) {
    auto options = quiet(dir);
    options.accelerator = Accelerator::cpu;
    options.devices = devices;
    const auto shapes = std::make_shared<PredictionShapes>();
    options.callbacks = {shapes};
    Trainer trainer(options);
    trainer.fit<Line>({}, points());
    EXPECT_TRUE(trainer.predict({points(10, false), points(64, false)}, {.return_predictions = false}).empty());
    EXPECT_EQ(shapes->text(), "loader 0: prediction [64, 1] Float\nloader 1: prediction [64, 1] Float\n");
  }
}

TEST(Fit, AccumulatesAndClips) {
  const TempDir dir;
  auto options = quiet(dir);
  options.accumulate_grad_batches = 3;
  options.gradient_clip_val = 0.01;
  options.max_epochs = 1;
  Trainer trainer(options);
  const auto before = std::make_shared<Line>();
  const double start = before->weight();
  const auto model = trainer.fit(before, points(16, false));
  EXPECT_EQ(trainer.global_step(), 2);  // windows of three and one of four batches
  EXPECT_LE(std::abs(model->weight() - start), 2 * 0.1 * 0.01 + 1e-7);
}

TEST(Fit, FastDevRunWritesNothing) {
  const TempDir dir;
  auto options = quiet(dir);
  options.fast_dev_run = 1;
  Trainer trainer(options);
  trainer.fit<Line>({}, points(), points());
  EXPECT_EQ(trainer.global_step(), 1);
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(Fit, MaxTimeEndsTheRun) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = -1;
  options.max_time = "00:00:00:01";
  Trainer trainer(options);
  trainer.fit<Line>({}, points());
  EXPECT_THAT(trainer.stop_reason(), HasSubstr("max_time"));
}

class StopsItself : public Line {
 public:
  using Line::Line;
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t batch_idx) override {
    if (batch_idx == 1) trainer().request_stop("enough");
  }
};

TEST(Fit, AModuleMayEndTheRun) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  trainer.fit<StopsItself>({}, points());
  EXPECT_EQ(trainer.global_step(), 2);
  EXPECT_EQ(trainer.stop_reason(), "enough");
}

class Interrupts : public Line {
 public:
  using Line::Line;
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t) override {
    if (global_step() == 6) raise(SIGINT);
  }
};

TEST(Fit, CtrlCKeepsTheModelAndWritesACheckpoint) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = 100000;
  options.name = "line";
  Trainer trainer(options);
  const auto model = trainer.fit<Interrupts>({}, points());
  EXPECT_TRUE(trainer.was_interrupted());
  ASSERT_NE(model, nullptr);
  EXPECT_GE(trainer.global_step(), 6);
  EXPECT_TRUE(std::filesystem::exists(trainer.run_dir() / "checkpoints" / "last.safetensors"));
  Trainer second(options);
  const auto at = trainer.global_step();
  options.max_epochs = at / 4 + 1;
  Trainer resumed(options);
  resumed.fit<Line>({}, points(), {}, {.ckpt_path = "last"});
  EXPECT_EQ(resumed.global_step(), (at / 4 + 1) * 4);
}

// The run's threads may have come to their sixth step, or to a stop, before the one that started them goes on.
TEST(ActorSystem, AStopFromWhileTheRunStartsIsHeard) {
  ActorSystem system;
  std::vector<std::string> heard;
  {
    caf::scoped_actor coordinator{system.actors()};
    const cast::Run run{caf::actor_cast<cast::ActorRef>(coordinator), {}};
    const auto hear = [&] {
      coordinator->receive([&](const cast::StopRun& stop) { heard.push_back(stop.request.reason); },
                           caf::after(std::chrono::seconds(20)) >> [] { ADD_FAILURE() << "nothing was heard"; });
    };
    system.stop("before any run", false);
    system.begin_run();
    system.stop("interrupted", true, SIGINT);
    system.stop("enough", false);
    system.set(&run);
    hear();
    hear();
    system.stop("in the run", false);
    hear();
    system.set(nullptr);
    system.stop("behind the run", false);
    system.begin_run();
    system.set(&run);
    system.stop("the next", false);
    hear();
  }
  cast::forget_system();  // which the scoped actor left with this thread, and the system would wait for
  EXPECT_THAT(heard, ElementsAre("interrupted", "enough", "in the run", "the next"));
}

class Queued : public Line {
 public:
  using Line::Line;
  void add_to_queue(ResultQueue& queue) override { queue.put(std::string("from the worker")); }
  void get_from_queue(ResultQueue& queue) override { received = queue.get<std::string>(); }
  std::string received;
};

class ThrowsAtTheEnd : public Line {
 public:
  using Line::Line;
  void add_to_queue(ResultQueue&) override { throw std::runtime_error("nothing to hand back"); }
};

TEST(Fit, AFailureWhileTheModuleIsHandedBackEndsTheRunP6) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  const auto error = error_of([&] { trainer.fit<ThrowsAtTheEnd>({}, points()); });
  EXPECT_THAT(error, HasSubstr("nothing to hand back (in add_to_queue"));
  EXPECT_NE(trainer.module(), nullptr);
}

// val_loss by epoch: 1, 2, 2, 2, and less and less from then on.
class BetterInTheEnd : public Line {
 public:
  StepOutput validation_step(const Batch&, int64_t) override {
    const auto epoch = static_cast<double>(current_epoch());
    log("val_loss", epoch == 0 ? 1.0 : epoch < 4 ? 2.0 : 1 / epoch);
    return {};
  }
};

TEST(Fit, AStopThatMinEpochsPutsOffIsTakenBackWhenTheMetricGetsBetter) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = 10;
  options.min_epochs = 6;
  const auto stopping = std::make_shared<EarlyStopping>(EarlyStoppingOptions{.monitor = "val_loss", .patience = 2});
  options.callbacks = {stopping};
  Trainer trainer(options);
  trainer.fit(std::make_shared<BetterInTheEnd>(), points(), points());
  EXPECT_EQ(trainer.current_epoch(), 10);
  EXPECT_EQ(trainer.stop_reason(), "");
  EXPECT_EQ(stopping->stopped_epoch(), std::nullopt);
}

TEST(Fit, AStopOfTheUsersStandsUntilMinEpochsAreThere) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = 10;
  options.min_epochs = 6;
  struct Asks : BetterInTheEnd {
    void on_train_start() override { trainer().request_stop("enough"); }
  };
  Trainer trainer(options);
  trainer.fit(std::make_shared<Asks>(), points(), points());
  EXPECT_EQ(trainer.current_epoch(), 6);
  EXPECT_EQ(trainer.stop_reason(), "enough");
}

// Destroyed by exit(), after what belongs to the main thread.
TEST(FitDeathTest, AStaticTrainerLetsTheProgramEnd) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto end_with_a_static_trainer = [](bool fits) {
    static const TempDir dir;
    static Trainer trainer(quiet(dir));
    if (fits) trainer.fit<Line>({}, points());
    std::exit(0);
  };
  EXPECT_EXIT(end_with_a_static_trainer(false), ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(end_with_a_static_trainer(true), ::testing::ExitedWithCode(0), "");
}

// exit() destroys the Trainer on the thread of the worker, which the run would wait for.
TEST(FitDeathTest, AHookMayEndTheProgramOfAStaticTrainer) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  class Ends : public Line {
   public:
    using Line::Line;
    StepOutput training_step(const Batch&, int64_t) override { std::exit(3); }
  };
  const auto end_within_a_step = [] {
    static const TempDir dir;
    static Trainer trainer(quiet(dir));
    trainer.fit<Ends>({}, points());
  };
  EXPECT_EXIT(end_within_a_step(), ::testing::ExitedWithCode(3), "");
}

TEST(Fit, HandsValuesBackThroughTheQueue) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  EXPECT_EQ(trainer.fit<Queued>({}, points())->received, "from the worker");
}

}  // namespace
}  // namespace troupe
