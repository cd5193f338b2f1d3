// Actors of the user's own beside a run.
#include "troupe/actors/callback_actor.hpp"

#include "tests/support/lines.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
      [seen](caf::event_based_actor*, const RunHandle&) -> caf::behavior {
        return {
            [seen](const RunStarted& event) { seen->add("start " + std::string(to_string(event.stage))); },
            [seen](const TrainBatchEnded& event) {
              EXPECT_TRUE(event.metrics.contains("train_loss_step"));
              seen->add("batch " + std::to_string(event.progress.global_step));
            },
            [seen](const ValidationEnded& event) {
              EXPECT_TRUE(event.metrics.contains("val_loss"));
              seen->add("validation");
            },
            [seen](const TrainEpochEnded& event) { seen->add("epoch " + std::to_string(event.progress.epoch)); },
            [seen](const RunEnded& event) { seen->add(event.failed ? "failed" : "end"); },
        };
      },
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
  trainer.add_actor("stopper", [](caf::event_based_actor*, RunHandle run) -> caf::behavior {
    return {[run](const TrainBatchEnded& event) {
      if (event.progress.global_step >= 5) run.request_stop("five steps are enough");
    }};
  });
  trainer.fit<Line>({}, points());
  EXPECT_EQ(trainer.stop_reason(), "five steps are enough");
  EXPECT_GE(trainer.global_step(), 5);
}

TEST(CallbackActor, AsksForACheckpoint) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = -1;
  Trainer trainer(options);
  trainer.add_actor("saver", [](caf::event_based_actor*, RunHandle run) -> caf::behavior {
    return {[run](const TrainBatchEnded& event) {
              if (event.progress.global_step == 3) run.request_checkpoint();
            },
            [run](const CheckpointSaved& event) {
              if (event.path.filename().string().starts_with("requested")) run.request_stop("saved");
            }};
  });
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
    trainer.add_actor("sleeper",
                      [released](caf::event_based_actor*, const RunHandle&) -> caf::behavior {
                        return {[released](const TrainBatchEnded&) { released.wait(); }};
                      },
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
  trainer.add_actor("slow",
                    [released, steps](caf::event_based_actor*, const RunHandle&) -> caf::behavior {
                      return {[released](const RunStarted&) { released.wait(); },
                              [steps](const TrainBatchEnded& event) { steps->push_back(event.progress.global_step); }};
                    },
                    {.capacity = 4, .when_full = WhenFull::keep_latest, .patience = 60});
  trainer.fit(std::make_shared<Releases>(release), points());
  EXPECT_GT(trainer.dropped_events().at(0).second, 0);
  ASSERT_FALSE(steps->empty());
  EXPECT_EQ(steps->back(), 8);
}

TEST(CallbackActor, ThatThrowsDoesNotHarmTheRun) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  trainer.add_actor("thrower", [](caf::event_based_actor*, const RunHandle&) -> caf::behavior {
    return {[](const TrainBatchEnded&) { throw std::runtime_error("oops"); }};
  });
  ::testing::internal::CaptureStderr();
  trainer.fit<Line>({}, points());
  EXPECT_EQ(trainer.global_step(), 8);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("the actor thrower threw, and has ended: oops"));
}

TEST(CallbackActor, NeedsANameOfItsOwnAndRoom) {
  Trainer trainer({.enable_checkpointing = false});
  const ActorBehavior idle = [](caf::event_based_actor*, const RunHandle&) -> caf::behavior { return {[](int) {}}; };
  trainer.add_actor("one", idle);
  EXPECT_THAT(error_of([&] { trainer.add_actor("one", idle); }), HasSubstr("called one already"));
  EXPECT_THAT(error_of([&] { trainer.add_actor("two", idle, {.capacity = 0}); }), HasSubstr("capacity = 0"));
}

}  // namespace
}  // namespace troupe
