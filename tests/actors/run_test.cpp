// The members of the cast around the worker: logger, checkpointer, their end.
#include "tests/support/lines.hpp"
#include "tests/support/run_by_hand.hpp"
#include "troupe/actors/coordinator.hpp"
#include "troupe/actors/logger.hpp"
#include "troupe/actors/messages.hpp"
#include "troupe/modules/hook_order.hpp"
#include "troupe/runtime/report/run_card.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <future>
#include <thread>
#include <utility>

namespace troupe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Keeps what it gets.
class Memory : public Sink {
 public:
  std::string name() const override { return "memory"; }
  void write(const Record& record) override {
    threads_.push_back(std::this_thread::get_id());
    records.push_back(record);
    unflushed = true;
  }
  void flush() override { unflushed = false; }

  bool wrote_on(std::thread::id thread) const {
    return std::find(threads_.begin(), threads_.end(), thread) != threads_.end();
  }
  std::vector<ScalarsRecord> scalars(const std::string& name) const {
    std::vector<ScalarsRecord> out;
    for (const auto& record : records) {
      const auto* scalars = std::get_if<ScalarsRecord>(&record);
      if (!scalars) continue;
      for (const auto& [metric, value] : scalars->values) {
        if (metric == name) out.push_back(*scalars);
      }
    }
    return out;
  }
  std::vector<Record> records;
  bool unflushed = false;

 private:
  std::vector<std::thread::id> threads_;
};

TrainerOptions logged(const TempDir& dir, std::shared_ptr<Sink> sink) {
  auto options = quiet(dir);
  options.loggers = {};
  options.sinks = {std::move(sink)};
  options.log_every_n_steps = 1;
  return options;
}

TEST(Logger, HasEverythingWhenFitReturnsP7) {
  const TempDir dir;
  const auto sink = std::make_shared<Memory>();
  auto options = logged(dir, sink);
  options.max_epochs = 25;
  Trainer trainer(options);
  trainer.fit<Line>({}, points(), points());
  EXPECT_FALSE(sink->unflushed);
  EXPECT_EQ(sink->scalars("train_loss_step").size(), 100u);
  EXPECT_EQ(sink->scalars("train_loss_epoch").size(), 25u);
  EXPECT_EQ(sink->scalars("val_loss").size(), 25u);  // the sanity check is not logged
  EXPECT_TRUE(std::holds_alternative<HparamsRecord>(sink->records.front()));
  EXPECT_FALSE(sink->wrote_on(std::this_thread::get_id()));
}

TEST(Logger, StepsAreCountedFromZeroAsInLightning) {
  const TempDir dir;
  const auto sink = std::make_shared<Memory>();
  auto options = logged(dir, sink);
  options.log_every_n_steps = 3;
  Trainer trainer(options);
  trainer.fit<Line>({}, points());
  std::vector<int64_t> steps;
  for (const auto& record : sink->scalars("train_loss_step")) steps.push_back(record.step);
  EXPECT_EQ(steps, (std::vector<int64_t>{2, 5}));
  EXPECT_EQ(sink->scalars("train_loss_epoch").front().step, 3);
}

class FullDisk : public Memory {
 public:
  std::string name() const override { return "full"; }
  void write(const Record&) override { throw std::runtime_error("no space left"); }
};

TEST(Logger, AFailingSinkEndsTheRunWithItsNameP6) {
  const TempDir dir;
  auto options = logged(dir, std::make_shared<FullDisk>());
  options.max_epochs = 1000000;
  Trainer trainer(options);
  const auto error = error_of([&] { trainer.fit<Line>({}, points()); });
  EXPECT_THAT(error, HasSubstr("no space left"));
  EXPECT_THAT(error, HasSubstr("logger full"));
  EXPECT_NE(trainer.module(), nullptr);
}

// Takes its time for each record, until it is let go.
class Slow : public Memory {
 public:
  void write(const Record& record) override {
    std::this_thread::yield();
    Memory::write(record);
  }
};

TEST(Logger, ASlowSinkLosesNothingP5) {
  const TempDir dir;
  const auto sink = std::make_shared<Slow>();
  auto options = logged(dir, sink);
  options.max_epochs = 2000;  // more records than may wait
  options.enable_checkpointing = false;
  Trainer trainer(options);
  trainer.fit<Line>({}, points());
  EXPECT_EQ(sink->scalars("train_loss_step").size(), 8000u);
}

TEST(Logger, EpochMeansAreWeightedByBatchSize) {
  const TempDir dir;
  const auto sink = std::make_shared<Memory>();
  Trainer trainer(logged(dir, sink));
  const auto module = std::make_shared<Line>();
  // Batches of 60 and 4 samples: the mean over samples, not over batches.
  const auto uneven = trainer.validate(module, points(60, false));
  const auto whole = trainer.validate(module, points(64, false));
  EXPECT_NEAR(uneven[0].at("val_loss"), whole[0].at("val_loss"), 1e-6);
}

TEST(Checkpointer, AFileThatCannotBeWrittenEndsTheRunAndKeepsTheModelP6) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = 1000;
  const auto checkpoint =
      std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{.dirpath = dir.path() / "kept", .save_last = true});
  options.callbacks = {checkpoint};
  class Breaks : public Line {
   public:
    explicit Breaks(std::filesystem::path folder) : folder_(std::move(folder)) {}
    void on_train_start() override {  // the folder is there, and nothing is being written to it yet
      std::filesystem::remove_all(folder_);
      std::ofstream(folder_) << "a file where the folder was";
    }

   private:
    std::filesystem::path folder_;
  };
  Trainer trainer(options);
  const auto error = error_of([&] { trainer.fit(std::make_shared<Breaks>(dir.path() / "kept"), points()); });
  EXPECT_THAT(error, HasSubstr("checkpointer"));
  EXPECT_THAT(error, HasSubstr((dir.path() / "kept").string()));
  EXPECT_NE(trainer.module(), nullptr);
}

// A run without a Trainer, whose coordinator is at hand.
class Coordinator : public ::testing::Test {
 protected:
  // Trains for ever.
  struct Endless : Line {
    StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
      if (!std::exchange(began_, true)) began.set_value();
      return Line::training_step(batch, batch_idx);
    }
    void teardown(Stage) override { ++teardowns; }
    std::promise<void> began;
    int teardowns = 0;

   private:
    bool began_ = false;
  };

  cast::Run start() {
    cast::RunSetup setup;
    auto options = quiet(dir_);
    options.max_epochs = -1;
    setup.state.options = setup.replica.options = std::make_shared<const TrainerOptions>(resolved(options));
    setup.replica.callbacks = options.callbacks;
    setup.replica.make_module = [module = module_] { return module; };
    setup.replica.overridden = module_hooks(*module_);
    setup.replica.train_loaders = points();
    setup.devices = {torch::kCPU};
    setup.pulses = {std::make_shared<Pulse>("worker 0")};
    auto run = cast::start_run(system_, std::move(setup));
    module_->began.get_future().wait();
    return run;
  }

  const TempDir dir_;
  std::shared_ptr<Endless> module_ = std::make_shared<Endless>();
  caf::actor_system_config config_;
  caf::actor_system system_{config_};
};

TEST_F(Coordinator, ThatIsKilledEndsTheRunAndAllItsMembersP10) {
  auto run = start();
  caf::anon_send_exit(run.coordinator, caf::exit_reason::kill);
  const auto result = run.result.get();
  ASSERT_TRUE(result.failure);
  EXPECT_EQ(result.failure->hook, "coordinator");
  EXPECT_NE(result.failure->message, "");
  EXPECT_TRUE(result.lost_coordinator);
  system_.await_all_actors_done();
  EXPECT_EQ(module_->teardowns, 1);
}

TEST_F(Coordinator, ThatIsToldToEndEndsTheRunInOrderP7) {
  auto run = start();
  caf::anon_send_exit(run.coordinator, caf::exit_reason::user_shutdown);
  const auto result = run.result.get();
  ASSERT_TRUE(result.failure);
  EXPECT_THAT(result.failure->message, HasSubstr("somebody has told the coordinator to end"));
  EXPECT_FALSE(result.lost_coordinator);
  EXPECT_EQ(result.module, module_);
  EXPECT_EQ(module_->teardowns, 1);
  system_.await_all_actors_done();
}

TEST_F(RunByHand, AMemberThatHangsIsNoticedAndLeftBehindP10) {
  start();
  ASSERT_TRUE(train(1));
  const auto worker = actor("worker");
  pulse_->works = true;  // and never goes on
  for (int second = 0; second <= 10; ++second) {
    hand_.all({worker});
    EXPECT_FALSE(has_result());
    hand_.pass(std::chrono::seconds(1));
  }
  hand_.all({worker});
  EXPECT_FALSE(has_result()) << "others may come to their end first";
  hand_.pass(std::chrono::seconds(2));
  hand_.all({worker});
  ASSERT_TRUE(has_result());
  const auto end = run_.result.get();
  ASSERT_TRUE(end.failure);
  EXPECT_EQ(end.failure->message, "worker 0 has made no progress for 10.0 s (trainer.watchdog_timeout)");
  EXPECT_TRUE(end.left_behind);
  EXPECT_EQ(end.module, nullptr);
  EXPECT_EQ(module_->teardowns, 0);
}

class EndByHand : public RunByHand {
 protected:
  EndByHand() { files_ = std::make_shared<RunFiles>(RunCard{}, RunFiles::Options{.folder = dir_.path()}); }

  // The worker hangs in a run until it is given up; nothing is delivered to `held`.
  void hang(const std::vector<cast::ActorRef>& held) {
    pulse_->works = true;
    for (int second = 0; second <= 10; ++second) {
      hand_.all(held);
      hand_.pass(std::chrono::seconds(1));
    }
    hand_.all(held);
    EXPECT_FALSE(has_result()) << "others may come to their end first";
    hand_.pass(std::chrono::seconds(2));
    hand_.all(held);
  }
  // What sinks and files say: that the run has failed, once.
  void expect_that_all_know(const std::string& why) const {
    ASSERT_EQ(sink_->ends.size(), 1u);
    EXPECT_EQ(sink_->ends[0].status, RunStatus::failed);
    EXPECT_THAT(sink_->ends[0].message, HasSubstr(why));
    expect_that_files_know(why);
  }
  void expect_that_files_know(const std::string& why) const {
    const auto card = stored_run_card(dir_.path());
    EXPECT_EQ(card.status, RunStatus::failed);
    EXPECT_THAT(card.message, HasSubstr(why));
    EXPECT_TRUE(card.ended);
    EXPECT_TRUE(std::filesystem::exists(dir_ / "failure.json"));
  }
};

TEST_F(EndByHand, SinksAndFilesHearOfAMemberThatHangsBeforeTheResultP7) {
  start();
  ASSERT_TRUE(train(1));
  hang({actor("worker")});
  ASSERT_TRUE(has_result());
  EXPECT_EQ(run_.result.get().files, files_);
  expect_that_all_know("worker 0 has made no progress");
}

TEST_F(EndByHand, TheFilesDoNotWaitForASinkThatHangsTooP7) {
  start();
  ASSERT_TRUE(train(1));
  const std::vector<cast::ActorRef> held = {actor("worker"), actor("logger")};
  hang(held);
  EXPECT_FALSE(has_result()) << "the logger has a moment";
  hand_.pass(std::chrono::seconds(2));
  hand_.all(held);
  ASSERT_TRUE(has_result());
  EXPECT_TRUE(run_.result.get().left_behind);
  expect_that_files_know("worker 0 has made no progress");
}

TEST_F(EndByHand, SinksAndFilesHearOfACoordinatorThatIsKilledP10) {
  start();
  ASSERT_TRUE(train(1));
  caf::anon_send_exit(run_.coordinator, caf::exit_reason::kill);
  auto end = result();
  hand_.all();
  ASSERT_TRUE(end.lost_coordinator);
  EXPECT_EQ(stored_run_card(dir_.path()).status, RunStatus::running);
  cast::tell_of_failure(end, Stage::fit, {sink_});
  expect_that_all_know("in coordinator");
}

TEST_F(EndByHand, FilesHearOfARecorderThatIsKilledAndSinksOnceP10) {
  start();
  ASSERT_TRUE(train(1));
  caf::anon_send_exit(actor("recorder"), caf::exit_reason::kill);
  auto end = result();
  EXPECT_EQ(end.files, files_);
  cast::tell_of_failure(end, Stage::fit, {sink_});
  expect_that_all_know("in recorder");
}

TEST_F(RunByHand, AValidationBesideTheTrainingIsWatchedTooP10) {
  start(/*validates_beside=*/true);
  ASSERT_TRUE(train(1));
  const auto worker = actor("worker");
  validation_pulse_->works = true;
  for (int second = 0; second <= 12; ++second) {
    hand_.all({worker});
    hand_.pass(std::chrono::seconds(1));
  }
  hand_.pass(std::chrono::seconds(2));
  hand_.all({worker});
  ASSERT_TRUE(has_result());
  const auto end = run_.result.get();
  ASSERT_TRUE(end.failure);
  EXPECT_EQ(end.failure->message, "the validation worker has made no progress for 10.0 s (trainer.watchdog_timeout)");
  EXPECT_TRUE(end.left_behind);
}

TEST_F(RunByHand, AMemberThatGoesOnIsNotTakenForOneThatHangs) {
  start();
  ASSERT_TRUE(train(1));
  const auto worker = actor("worker");
  pulse_->works = true;
  for (int second = 0; second <= 30; ++second) {
    hand_.all({worker});
    pulse_->beat();
    hand_.pass(std::chrono::seconds(1));
  }
  hand_.all({worker});
  run_.stop("enough", false);
  EXPECT_FALSE(result().failure);
}

TEST_F(RunByHand, AStopOvertakesBatchesThatWait) {
  start();
  ASSERT_TRUE(train(1));
  const auto worker = actor("worker");
  hand_.all({worker});  // its loader has sent what it may
  const auto steps = module_->steps();
  run_.stop("now", true);
  hand_.all({worker});  // the coordinator has passed it on
  const auto end = result();
  EXPECT_EQ(module_->steps(), steps);
  EXPECT_FALSE(end.failure);
  EXPECT_TRUE(end.was_interrupted);
  EXPECT_EQ(end.stop_reason, "now");
}

class TwoFailuresByHand : public RunByHand {
 protected:
  // The worker and the logger fail, `second` behind the other, before the coordinator hears of either.
  cast::RunResult fail_with_second(const char* second) {
    start();
    module_->breaks_step = sink_->breaks_write = true;
    const auto worker = actor("worker"), logger = actor("logger");
    EXPECT_TRUE(hand_.until([&] { return module_->epoch_starts > 0; }, {logger}));
    hand_.all({worker, logger});  // what they fail at waits for them now
    EXPECT_EQ(module_->steps(), 0u);
    hand_.all({run_.coordinator, actor(second)});
    hand_.all({run_.coordinator});
    EXPECT_EQ(module_->steps(), 1u);
    EXPECT_EQ(module_->teardowns, 0);
    auto end = result();
    EXPECT_EQ(end.module, module_);
    EXPECT_EQ(module_->teardowns, 1);
    return end;
  }
};

TEST_F(TwoFailuresByHand, TheWorkersWinsIfItComesFirstP6) {
  const auto end = fail_with_second("logger");
  ASSERT_TRUE(end.failure);
  EXPECT_EQ(end.failure->hook, "training_step");
  EXPECT_THAT(end.failure->message, HasSubstr("the step broke"));
}

TEST_F(TwoFailuresByHand, TheLoggersWinsIfItComesFirstP6) {
  const auto end = fail_with_second("worker");
  ASSERT_TRUE(end.failure);
  EXPECT_EQ(end.failure->hook, "logger disk");
  EXPECT_THAT(end.failure->message, HasSubstr("the disk is full"));
}

TEST_F(RunByHand, AFailureWhileTheRunEndsIsTheRunsP7) {
  start();
  ASSERT_TRUE(train(1));
  sink_->breaks_flush = true;
  run_.stop("enough", false);
  const auto end = result();
  EXPECT_EQ(end.stop_reason, "enough");
  ASSERT_TRUE(end.failure);
  EXPECT_EQ(end.failure->hook, "logger disk");
  EXPECT_EQ(end.module, module_);
  EXPECT_EQ(module_->teardowns, 1);
}

TEST_F(RunByHand, AWriterThatGoesDownEndsTheRunInOrderP10) {
  start();
  ASSERT_TRUE(train(1));
  caf::anon_send_exit(actor("checkpointer"), caf::exit_reason::kill);
  const auto end = result();
  ASSERT_TRUE(end.failure);
  EXPECT_EQ(end.failure->hook, "checkpointer");
  EXPECT_NE(end.failure->message, "");
  EXPECT_EQ(end.module, module_);
  EXPECT_EQ(module_->teardowns, 1);
}

TEST_F(RunByHand, AWorkerThatGoesDownIsNotWaitedForP10) {
  start();
  ASSERT_TRUE(train(1));
  caf::anon_send_exit(actor("worker"), caf::exit_reason::kill);
  const auto end = result();
  ASSERT_TRUE(end.failure);
  EXPECT_EQ(end.failure->hook, "worker 0");
  EXPECT_EQ(end.module, nullptr);
  EXPECT_FALSE(end.left_behind);
}

TEST_F(WorkerByHand, ThatHasFailedCarriesOutNothingMoreAndGivesItsModuleBack) {
  module_->breaks_start = true;
  EXPECT_FALSE(perform(HooksCommand{hook_order::train_start}));
  const auto failed = hear<cast::Failed>();
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->failure.hook, "on_train_start");
  EXPECT_THAT(failed->failure.message, HasSubstr("the start broke"));
  EXPECT_FALSE(perform(HooksCommand{hook_order::fit_end}));
  EXPECT_EQ(module_->fit_ends, 0);
  say(cast::EndWorker{failed->failure});
  const auto ended = hear<cast::WorkerEnded>();
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->module, module_);
  EXPECT_EQ(module_->teardowns, 1);
}

TEST_F(WorkerByHand, DropsABatchOfAnEpochThatIsClosed) {
  const cast::BatchReady late{1, 0, false, Batch{torch::ones({4, 1}), torch::ones({4, 1})}};
  EXPECT_TRUE(perform(OpenEpochCommand{0, 0, hook_order::train_epoch_start}));
  EXPECT_TRUE(perform(CloseEpochCommand{hook_order::train_epoch_end, true}));
  say(late);
  EXPECT_TRUE(perform(OpenEpochCommand{0, 0, hook_order::train_epoch_start}));
  say(late);
  EXPECT_TRUE(perform(TrainCommand{.until_batch = 1}));
  EXPECT_THAT(module_->sizes, ElementsAre(16));
  say(cast::EndWorker{});
  EXPECT_TRUE(hear<cast::WorkerEnded>());
}

TEST(Sinks, GetHistogramsImagesAndTextFromHooks) {
  const TempDir dir;
  const auto sink = std::make_shared<Memory>();
  class Emits : public Line {
   public:
    void on_train_epoch_end() override {
      trainer().emit(HistogramRecord{global_step(), "weights", torch::ones({3})});
      trainer().emit(TextRecord{global_step(), "note", "*done*"});
      trainer().emit(ImageRecord{global_step(), "image", torch::zeros({1, 4, 4})});
    }
  };
  Trainer trainer(logged(dir, sink));
  trainer.fit(std::make_shared<Emits>(), points());
  int found = 0;
  for (const auto& record : sink->records) {
    found += std::holds_alternative<HistogramRecord>(record) || std::holds_alternative<TextRecord>(record) ||
             std::holds_alternative<ImageRecord>(record);
  }
  EXPECT_EQ(found, 6);
}

// Plays everybody around a logger.
class AroundALogger : public ::testing::Test {
 protected:
  void log(int64_t step) {
    in_flight->add();
    cast::tell_anonymously(logger, cast::WriteRecord{ScalarsRecord{step, 0, {{"loss", 1.0}}}});
  }
  void flush() { cast::tell_anonymously(logger, cast::Tick{}); }
  std::vector<int64_t> recorded_steps() {
    std::vector<int64_t> steps;
    others->receive(
        [&](cast::MetricsWritten& written) {
          for (const auto& row : written.rows) steps.push_back(row.record.step);
        },
        caf::after(std::chrono::seconds(20)) >> [] { ADD_FAILURE() << "the recorder got nothing"; });
    return steps;
  }

  caf::actor_system_config config;
  caf::actor_system system{config};
  caf::scoped_actor others{system};
  std::shared_ptr<cast::InFlight> in_flight = std::make_shared<cast::InFlight>(1'000'000);
  cast::ActorRef logger =
      cast::spawn_logger(system, others, others, others, {}, in_flight, std::make_shared<Pulse>("logger"));
};

TEST_F(AroundALogger, ARecorderThatIsBehindGetsTheRestInOneMessage) {
  log(1);
  flush();
  EXPECT_THAT(recorded_steps(), ElementsAre(1));
  others->send(logger, cast::MetricsTaken{});
  log(2);
  flush();
  EXPECT_THAT(recorded_steps(), ElementsAre(2));
  for (const int64_t step : {3, 4}) {
    log(step);
    flush();
  }
  cast::tell_anonymously(logger, cast::Drain{});
  EXPECT_THAT(recorded_steps(), ElementsAre(3, 4));
}

TEST_F(AroundALogger, WhatWaitsForTheRecorderHasABoundP5) {
  constexpr int64_t steps = 200'000;
  for (int64_t step = 0; step < steps; ++step) log(step);
  cast::tell_anonymously(logger, cast::Drain{});
  const auto recorded = recorded_steps();
  EXPECT_LE(recorded.size(), cast::recorder_limit);
  EXPECT_GT(recorded.size(), cast::recorder_limit / 4);
  EXPECT_EQ(recorded.front(), 0);
  EXPECT_GE(recorded.back(), steps - 8);
}

}  // namespace
}  // namespace troupe
