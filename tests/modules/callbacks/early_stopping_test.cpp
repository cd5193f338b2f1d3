#include "troupe/modules/callbacks/early_stopping.hpp"

#include "tests/support/refusal.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

namespace troupe {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

EarlyStopping started(EarlyStoppingOptions options, bool has_validation = true) {
  EarlyStopping stopping(std::move(options));
  stopping.start({.run_dir = "/runs/version_0", .has_validation = has_validation});
  return stopping;
}

// An epoch with a validation at its end; the first decision to stop.
Decision epoch(EarlyStopping& stopping, int64_t number, double val_loss) {
  const Progress at{.epoch = number, .batch_idx = 10, .global_step = 10 * (number + 1)};
  stopping.decide(Moment::train_batch_end, at, {});
  const Decision decision = stopping.decide(Moment::validation_end, at, {{"val_loss", val_loss}});
  return decision.stop ? decision : stopping.decide(Moment::train_epoch_end, at, {{"val_loss", val_loss}});
}

// The epoch after which it stops, or -1.
int64_t stops_after(EarlyStopping& stopping, const std::vector<double>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (epoch(stopping, static_cast<int64_t>(i), values[i]).stop) return static_cast<int64_t>(i);
  }
  return -1;
}

TEST(EarlyStopping, StopsWhenTheMetricDidNotImproveForPatienceChecksAndSaysSo) {
  auto stopping = started({.monitor = "val_loss"});
  EXPECT_FALSE(epoch(stopping, 0, 0.5).stop);
  EXPECT_FALSE(epoch(stopping, 1, 0.123).stop);
  EXPECT_FALSE(epoch(stopping, 2, 0.2).stop);
  EXPECT_FALSE(epoch(stopping, 3, 0.123).stop);
  const Decision last = epoch(stopping, 4, 0.3);
  EXPECT_TRUE(last.stop);
  EXPECT_EQ(last.reason, "val_loss did not improve on 0.123 for 3 checks");
  EXPECT_EQ(stopping.best_score(), 0.123);
  EXPECT_EQ(stopping.stopped_epoch(), 4);
}

TEST(EarlyStopping, TakesBackAStopThatWasPutOffWhenTheMetricGetsBetter) {
  auto stopping = started({.monitor = "val_loss", .patience = 1});
  epoch(stopping, 0, 1.0);
  EXPECT_TRUE(epoch(stopping, 1, 2.0).stop);
  EXPECT_TRUE(epoch(stopping, 2, 2.0).stop);  // and again, for as long as it gets no better
  const Progress at{.epoch = 3, .batch_idx = 10, .global_step = 40};
  const Decision silent = stopping.decide(Moment::train_batch_end, at, {{"val_loss", 2.0}});
  EXPECT_FALSE(silent.stop || silent.go_on);  // no check is due
  const Decision better = stopping.decide(Moment::validation_end, at, {{"val_loss", 0.5}});
  EXPECT_FALSE(better.stop);
  EXPECT_TRUE(better.go_on);
  EXPECT_EQ(stopping.stopped_epoch(), std::nullopt);
}

TEST(EarlyStopping, ABetterValueStartsTheCountAnew) {
  auto stopping = started({.monitor = "val_loss", .patience = 2});
  EXPECT_EQ(stops_after(stopping, {5, 6, 4, 5, 3, 4}), -1);
  EXPECT_EQ(stopping.wait_count(), 1);
}

TEST(EarlyStopping, ModeMaxWantsLargerValues) {
  auto stopping = started({.monitor = "val_loss", .patience = 1, .mode = MonitorMode::max});
  EXPECT_EQ(stops_after(stopping, {1, 2, 3, 2.5}), 3);
}

TEST(EarlyStopping, AnImprovementOfMinDeltaIsNone) {
  auto smaller = started({.monitor = "val_loss", .min_delta = 0.5, .patience = 1});
  EXPECT_EQ(stops_after(smaller, {3, 2.5}), 1);
  auto larger = started({.monitor = "val_loss", .min_delta = 0.5, .patience = 1});
  EXPECT_EQ(stops_after(larger, {3, 2.4}), -1);
}

TEST(EarlyStopping, StopsAtAValueThatIsNotFiniteUnlessToldNotTo) {
  auto stopping = started({.monitor = "val_loss"});
  epoch(stopping, 0, 0.25);
  EXPECT_EQ(epoch(stopping, 1, nan).reason, "val_loss = nan is not finite; best 0.25");
  auto patient = started({.monitor = "val_loss", .patience = 2, .check_finite = false});
  EXPECT_EQ(stops_after(patient, {1, nan, nan}), 2);
}

TEST(EarlyStopping, ThresholdsStopAtOnce) {
  auto reached = started({.monitor = "val_loss", .stopping_threshold = 0.1});
  EXPECT_EQ(stops_after(reached, {0.1, 0.09}), 1);
  auto diverged = started({.monitor = "val_loss", .divergence_threshold = 10});
  EXPECT_EQ(stops_after(diverged, {10, 11}), 1);
  auto fell = started({.monitor = "val_loss", .mode = MonitorMode::max, .divergence_threshold = 0.2});
  EXPECT_EQ(stops_after(fell, {0.2, 0.1}), 1);
}

TEST(EarlyStopping, JudgesAValidationOnce) {
  auto stopping = started({.monitor = "val_loss", .patience = 1});
  epoch(stopping, 0, 1.0);
  const Progress at{.epoch = 1, .batch_idx = 10, .global_step = 20};
  EXPECT_FALSE(stopping.decide(Moment::train_batch_end, at, {{"val_loss", 1.0}}).stop);
  EXPECT_FALSE(stopping.decide(Moment::train_epoch_end, at, {{"val_loss", 1.0}}).stop);
  EXPECT_EQ(stopping.wait_count(), 0);
}

TEST(EarlyStopping, ChecksAtEachValidationWithinAnEpoch) {
  auto stopping = started({.monitor = "val_loss", .patience = 1});
  const Progress at{.epoch = 0, .batch_idx = 3, .global_step = 3};
  stopping.decide(Moment::validation_end, at, {{"val_loss", 1.0}});
  EXPECT_TRUE(stopping.decide(Moment::validation_end, at, {{"val_loss", 1.0}}).stop);
}

TEST(EarlyStopping, AMetricOfTrainingIsCheckedAtTheEndsOfEpochs) {
  auto stopping = started({.monitor = "train_loss", .patience = 1});
  for (int64_t i = 0; i < 2; ++i) {
    const Progress at{.epoch = i, .batch_idx = 10, .global_step = 10 * (i + 1)};
    const MetricMap before = i == 0 ? MetricMap{} : MetricMap{{"train_loss", 1.0}};
    EXPECT_FALSE(stopping.decide(Moment::validation_end, at, before).stop);
    EXPECT_EQ(stopping.decide(Moment::train_epoch_end, at, {{"train_loss", 1.0 + static_cast<double>(i)}}).stop,
              i == 1);
  }
}

TEST(EarlyStopping, CheckOnTrainEpochEndIsFollowed) {
  const Progress at{.epoch = 0, .batch_idx = 3, .global_step = 3};
  auto late = started({.monitor = "val_loss", .check_on_train_epoch_end = true});
  late.decide(Moment::validation_end, at, {{"val_loss", nan}});
  EXPECT_TRUE(late.decide(Moment::train_epoch_end, at, {{"val_loss", nan}}).stop);
  auto early = started({.monitor = "acc", .check_on_train_epoch_end = false});
  EXPECT_TRUE(early.decide(Moment::validation_end, at, {{"acc", nan}}).stop);
  auto without = started({.monitor = "acc", .check_on_train_epoch_end = false}, /*has_validation=*/false);
  EXPECT_TRUE(without.decide(Moment::train_epoch_end, at, {{"acc", nan}}).stop);
}

TEST(EarlyStopping, TheSanityCheckIsNoCheck) {
  auto stopping = started({.monitor = "val_loss"});
  EXPECT_FALSE(stopping.decide(Moment::sanity_check_end, {}, {{"val_loss", nan}}).stop);
  EXPECT_EQ(stopping.best_score(), std::nullopt);
}

TEST(EarlyStopping, AMetricThatWasNeverLoggedIsAnErrorWithTheNearestFirst) {
  const MetricMap logged{{"acc", 1.0}, {"train_loss", 1.0}, {"val_loss", 1.0}};
  auto stopping = started({.monitor = "val_los"});
  stopping.decide(Moment::validation_end, {}, logged);
  EXPECT_EQ(refusal([&] { stopping.decide(Moment::train_epoch_end, {}, logged); }),
            "EarlyStopping's monitor: no metric 'val_los' was logged; logged: val_loss, train_loss, acc");
  auto lenient = started({.monitor = "val_los", .strict = false});
  lenient.decide(Moment::validation_end, {}, logged);
  EXPECT_FALSE(lenient.decide(Moment::train_epoch_end, {}, logged).stop);
}

TEST(EarlyStopping, WaitsForTheFirstValidationBeforeItMissesAMetric) {
  auto stopping = started({.monitor = "val_loss"});
  EXPECT_FALSE(stopping.decide(Moment::train_epoch_end, {}, {{"train_loss", 1.0}}).stop);
}

TEST(EarlyStopping, GoesOnCountingAfterAResume) {
  auto first = started({.monitor = "val_loss"});
  stops_after(first, {1.0, 2.0, 3.0});
  auto second = started({.monitor = "val_loss"});
  EXPECT_EQ(second.state_key(), "EarlyStopping{'monitor': 'val_loss', 'mode': 'min'}");
  second.load_state_dict(nlohmann::json::parse(first.state_dict().dump()));
  EXPECT_EQ(second.state_dict(), first.state_dict());
  EXPECT_EQ(epoch(second, 3, 2.0).reason, "val_loss did not improve on 1 for 3 checks");
}

TEST(EarlyStopping, ARunThatIsNotResumedStartsAfresh) {
  auto stopping = started({.monitor = "val_loss"});
  stops_after(stopping, {1.0, 2.0, 3.0});
  stopping.start({});
  EXPECT_EQ(stopping.wait_count(), 0);
  EXPECT_EQ(stopping.best_score(), std::nullopt);
}

TEST(EarlyStopping, RefusesADamagedState) {
  for (const char* text :
       {"[]", "{}", R"({"wait_count":-1,"best_score":1,"stopped_epoch":null})",
        R"({"wait_count":18446744073709551615,"best_score":1,"stopped_epoch":null})",
        R"({"wait_count":1,"best_score":"x","stopped_epoch":null})", R"({"wait_count":1,"best_score":1})"}) {
    auto stopping = started({.monitor = "val_loss"});
    EXPECT_THROW(stopping.load_state_dict(nlohmann::json::parse(text)), UsageError) << text;
  }
}

TEST(EarlyStopping, RefusesOptionsThatCannotBe) {
  EXPECT_THROW(EarlyStopping(EarlyStoppingOptions{}), UsageError);
  EXPECT_THROW(EarlyStopping({.monitor = "a", .min_delta = -1}), UsageError);
  EXPECT_THROW(EarlyStopping({.monitor = "a", .min_delta = nan}), UsageError);
  EXPECT_THROW(EarlyStopping({.monitor = "a", .patience = -1}), UsageError);
  EXPECT_THROW(EarlyStopping({.monitor = "a", .stopping_threshold = nan}), UsageError);
}

}  // namespace
}  // namespace troupe
