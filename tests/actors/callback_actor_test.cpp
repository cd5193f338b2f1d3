// Actors of the user's own beside a run.
#include "troupe/modules/callback_actor.hpp"

#include "tests/support/lines.hpp"
#include "troupe/actors/caf_callback_actor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <mutex>

namespace troupe {
namespace {

using ::testing::HasSubstr;

TEST(CallbackActor, SeesTheEventsThatItsBehaviorNames) {
  const TempDir dir;
  struct Seen {
    std::mutex mutex;
    std::vector<std::string> events;
    void add(std::string event) {
      std::lock_guard lock(mutex);
      events.push_back(std::move(event));
    }
  };
  const auto seen = std::make_shared<Seen>();
  auto options = quiet(dir);
  options.max_epochs = 1;
  Trainer trainer(options);
  trainer.add_actor(
      "watcher",
      on_events(
          [seen](const RunStarted& event, RunHandle&) { seen->add("start " + std::string(to_string(event.stage))); },
          [seen](const TrainBatchEnded& event, RunHandle&) {
            EXPECT_TRUE(event.metrics.contains("train_loss_step"));
            seen->add("batch " + std::to_string(event.progress.global_step));
          },
          [seen](const ValidationEnded& event, RunHandle&) {
            EXPECT_TRUE(event.metrics.contains("val_loss"));
            seen->add("validation");
          },
          [seen](const TrainEpochEnded& event, RunHandle&) {
            seen->add("epoch " + std::to_string(event.progress.epoch));
          },
          [seen](const RunEnded& event, RunHandle&) { seen->add(event.failed ? "failed" : "end"); }),
      {.capacity = 1000, .patience = 60});
  trainer.fit<Line>({}, points(32), points());
  EXPECT_THAT(seen->events, testing::ElementsAre("start fit", "batch 1", "batch 2", "validation", "epoch 0", "end"));
  EXPECT_EQ(trainer.dropped_events().at(0), std::make_pair(std::string("watcher"), int64_t{0}));
}

TEST(CallbackActor, AsksForAStopThatTheCoordinatorAnswers) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = -1;
  Trainer trainer(options);
  trainer.add_actor("stopper", on_events([](const TrainBatchEnded& event, RunHandle& run) {
                      if (event.progress.global_step >= 5) run.request_stop("five steps are enough");
                    }));
  trainer.fit<Line>({}, points());
  EXPECT_EQ(trainer.stop_reason(), "five steps are enough");
  EXPECT_GE(trainer.global_step(), 5);
}

TEST(CallbackActor, AsksForACheckpoint) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = -1;
  Trainer trainer(options);
  trainer.add_actor("saver", on_events(
                                 [](const TrainBatchEnded& event, RunHandle& run) {
                                   if (event.progress.global_step == 3) run.request_checkpoint();
                                 },
                                 [](const CheckpointSaved& event, RunHandle& run) {
                                   if (event.path.filename().string().starts_with("requested"))
                                     run.request_stop("saved");
                                 }));
  trainer.fit<Line>({}, points());
  EXPECT_EQ(trainer.stop_reason(), "saved");
}

TEST(CallbackActor, OneThatBlocksSlowsNobodyAndItsLossesAreCountedP5) {
  const TempDir dir;
  std::promise<void> release;
  const auto released = release.get_future().share();
  auto options = quiet(dir);
  options.max_epochs = 50;
  {
    Trainer trainer(options);
    trainer.add_actor("sleeper", on_events([released](const TrainBatchEnded&, RunHandle&) { released.wait(); }),
                      {.capacity = 8, .patience = 0.05});
    trainer.fit<Line>({}, points());
    EXPECT_EQ(trainer.global_step(), 200);  // to its end, while the actor was blocked
    EXPECT_EQ(trainer.dropped_events().at(0).first, "sleeper");
    EXPECT_GE(trainer.dropped_events().at(0).second, 200 - 8 - 1);
    release.set_value();  // the Trainer's destructor waits for its actors
  }
}

// Lets go of an actor when all training batches are through.
class Releases : public Line {
 public:
  explicit Releases(std::promise<void>& release) : release_(release) {}
  void on_train_epoch_end() override {
    if (global_step() == 8) release_.set_value();
  }

 private:
  std::promise<void>& release_;
};

TEST(CallbackActor, KeepLatestKeepsTheNewestOfEachKind) {
  const TempDir dir;
  std::promise<void> release;
  const auto released = release.get_future().share();
  const auto steps = std::make_shared<std::vector<int64_t>>();
  Trainer trainer(quiet(dir));
  trainer.add_actor(
      "slow",
      on_events([released](const RunStarted&, RunHandle&) { released.wait(); },
                [steps](const TrainBatchEnded& event, RunHandle&) { steps->push_back(event.progress.global_step); }),
      {.capacity = 4, .when_full = WhenFull::keep_latest, .patience = 60});
  trainer.fit(std::make_shared<Releases>(release), points());
  EXPECT_GT(trainer.dropped_events().at(0).second, 0);
  ASSERT_FALSE(steps->empty());
  EXPECT_EQ(steps->back(), 8);
}

// What it logs of the run's end comes to the sinks, which are told of the end behind it: here it gives them time to go.
TEST(CallbackActor, LogsToTheLast) {
  class Kept : public Sink {
   public:
    std::string name() const override { return "kept"; }
    void write(const Record& record) override {
      if (std::holds_alternative<StageEndedRecord>(record)) over.set_value();
      if (const auto* scalars = std::get_if<ScalarsRecord>(&record)) found |= scalars->values.front().first == "last";
    }
    void flush() override {}
    std::promise<void> over;
    bool found = false;
  };
  const TempDir dir;
  const auto kept = std::make_shared<Kept>();
  auto options = quiet(dir);
  options.max_epochs = 1;
  options.sinks = {kept};
  Trainer trainer(options);
  trainer.add_actor("last", on_events([over = kept->over.get_future().share()](const RunEnded&, RunHandle& run) {
                      (void)over.wait_for(std::chrono::milliseconds(100));
                      run.log("last", 1, 0);
                    }));
  trainer.fit<Line>({}, points());
  EXPECT_TRUE(kept->found);
}

TEST(CallbackActor, ThatThrowsDoesNotHarmTheRun) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  trainer.add_actor("thrower", on_events([](const TrainBatchEnded&, RunHandle&) { throw std::runtime_error("oops"); }));
  ::testing::internal::CaptureStderr();
  trainer.fit<Line>({}, points());
  EXPECT_EQ(trainer.global_step(), 8);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("the actor thrower threw, and has ended: oops"));
}

TEST(CallbackActor, BeginsEachStageWithACopyOfItsBehavior) {
  const TempDir dir;
  const auto counts = std::make_shared<std::vector<int>>();
  Trainer trainer(quiet(dir));
  trainer.add_actor("counter",
                    [counts, events = 0](const Event& event, RunHandle&) mutable {
                      ++events;
                      if (std::holds_alternative<RunEnded>(event)) counts->push_back(events);
                    },
                    {.capacity = 1000, .patience = 60});
  trainer.fit<Line>({}, points(), points());
  trainer.validate(points());
  ASSERT_EQ(counts->size(), 2);
  EXPECT_GT(counts->front(), 8);
  EXPECT_EQ(counts->back(), 2);  // the first event and the last one
}

TEST(CallbackActor, MayBeAnActorOfCaf) {
  const TempDir dir;
  const auto seen = std::make_shared<std::atomic<int64_t>>(0);
  Trainer trainer(quiet(dir));
  trainer.add_actor("caf", CafBehavior{[seen](caf::event_based_actor*, RunHandle run) -> caf::behavior {
                      return {[=](const TrainBatchEnded& event) {
                        *seen = event.progress.global_step;
                        if (*seen == 3) run.request_stop("three steps are enough");
                      }};
                    }},
                    {.patience = 60});
  trainer.fit<Line>({}, points());
  EXPECT_EQ(trainer.stop_reason(), "three steps are enough");
  EXPECT_GE(*seen, 3);
}

TEST(CallbackActor, NeedsANameOfItsOwnAndRoom) {
  Trainer trainer({.enable_checkpointing = false});
  const ActorBehavior idle = [](const Event&, RunHandle&) {};
  trainer.add_actor("one", idle);
  EXPECT_THAT(error_of([&] { trainer.add_actor("one", idle); }), HasSubstr("called one already"));
  EXPECT_THAT(error_of([&] { trainer.add_actor("two", idle, {.capacity = 0}); }), HasSubstr("capacity = 0"));
}

}  // namespace
}  // namespace troupe
