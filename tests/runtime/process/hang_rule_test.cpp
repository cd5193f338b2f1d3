// When somebody hangs, on clocks that a test makes up.
#include "troupe/runtime/process/hang_rule.hpp"

#include <gtest/gtest.h>

namespace troupe {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Kind = Glance::Kind;

constexpr HangLimits limits{.longest = seconds(1800), .shortest = seconds(10), .factor = 20};

// A thread, and the watchdog's clock, which goes on from look to look.
class HangRuleTest : public ::testing::Test {
 protected:
  // Looks every tick for so long. What the rule has said last.
  std::optional<HangLimits::Duration> look_for(HangLimits::Duration time, const HangLimits& of = limits) {
    std::optional<HangLimits::Duration> said;
    for (const auto end = now_ + time; now_ < end && !said;) {
      now_ += of.tick();
      said = rule_.look(seen_, now_);
    }
    return said;
  }
  // Steps of `each`, and looks at them.
  void take_steps(int count, HangLimits::Duration each, Stage stage = Stage::fit) {
    seen_.stage = stage;
    seen_.kind = Kind::step;
    for (int i = 0; i < count; ++i) {
      ++seen_.beats;
      ++seen_.steps;
      ASSERT_FALSE(look_for(each)) << "step " << i;
    }
  }
  HangLimits::Duration limit(Kind kind, Stage stage = Stage::fit) const {
    return rule_.limit({.kind = kind, .stage = stage});
  }

  HangRule rule_{limits};
  Glance seen_;
  HangRule::Clock::time_point now_{seconds(1000)};
};

TEST_F(HangRuleTest, LooksAreAsFarApartAsShortLimitsAllow) {
  EXPECT_EQ(limits.tick(), milliseconds(500));
  EXPECT_EQ((HangLimits{.longest = seconds(1800), .shortest = seconds(10), .factor = 0}.tick()), seconds(5));
  EXPECT_EQ((HangLimits{.longest = seconds(1), .shortest = seconds(10), .factor = 2}.tick()), milliseconds(100));
  EXPECT_EQ((HangLimits{.longest = seconds(1), .shortest = milliseconds(1), .factor = 20}.tick()), milliseconds(5));
}

TEST_F(HangRuleTest, ShortStepsHaveTheFloor) {
  take_steps(100, milliseconds(10));
  EXPECT_EQ(limit(Kind::step), seconds(10));
  EXPECT_EQ(look_for(seconds(60)), std::optional(HangLimits::Duration(seconds(10))));
}

TEST_F(HangRuleTest, LongStepsHaveTheFactor) {
  take_steps(20, seconds(3));
  EXPECT_GE(limit(Kind::step), seconds(60));
  EXPECT_LE(limit(Kind::step), seconds(80));
  EXPECT_FALSE(look_for(seconds(56)));
  EXPECT_TRUE(look_for(seconds(30)));
}

TEST_F(HangRuleTest, NothingIsAboveTheCeiling) {
  take_steps(20, seconds(200));
  EXPECT_EQ(limit(Kind::step), seconds(1800));
}

TEST_F(HangRuleTest, FirstStepsHaveTheCeilingAndTeachNothing) {
  take_steps(1, seconds(300));
  EXPECT_EQ(limit(Kind::step), seconds(1800));
  take_steps(20, milliseconds(10));
  EXPECT_EQ(limit(Kind::step), seconds(10));
}

TEST_F(HangRuleTest, AllThatIsNoStepHasTheCeiling) {
  take_steps(100, milliseconds(10));
  seen_.kind = Kind::elsewhere;  // a hook, a snapshot, a dataset
  ++seen_.beats;
  EXPECT_FALSE(look_for(seconds(1799)));
  EXPECT_EQ(look_for(seconds(2)), std::optional(HangLimits::Duration(seconds(1800))));
}

TEST_F(HangRuleTest, ValidationIsLearnedByItself) {
  take_steps(100, milliseconds(10));
  EXPECT_EQ(limit(Kind::step, Stage::validate), seconds(1800));
  take_steps(20, seconds(2), Stage::validate);
  EXPECT_GE(limit(Kind::step, Stage::validate), seconds(40));
  EXPECT_EQ(limit(Kind::step), seconds(10)) << "a slow validation makes no step slow";
}

TEST_F(HangRuleTest, AWaitForDataIsNoHangAndTeachesNothing) {
  take_steps(100, milliseconds(10));
  seen_.kind = Kind::rest;
  EXPECT_FALSE(look_for(seconds(30)));
  take_steps(1, milliseconds(10));
  EXPECT_EQ(limit(Kind::step), seconds(10));
}

TEST_F(HangRuleTest, TimeInWhichNobodyLookedDoesNotCount) {
  take_steps(100, milliseconds(10));
  now_ += seconds(3600);  // the process was stopped
  EXPECT_FALSE(rule_.look(seen_, now_));
  EXPECT_TRUE(look_for(seconds(11)));
}

TEST_F(HangRuleTest, WithoutAFactorEverythingHasTheCeiling) {
  rule_ = HangRule({.longest = seconds(1800), .shortest = seconds(10), .factor = 0});
  take_steps(100, milliseconds(10));
  EXPECT_EQ(limit(Kind::step), seconds(1800));
}

// --- What a pulse is ---

TEST(GlanceAt, KnowsAStepFromWhatIsBesideIt) {
  Pulse pulse("worker 0");
  EXPECT_EQ(glance_at(pulse).kind, Kind::rest);
  const Working working(pulse);
  pulse.hook = Hook::setup;
  EXPECT_EQ(glance_at(pulse).kind, Kind::elsewhere);
  pulse.hook = Hook::training_step;
  EXPECT_EQ(glance_at(pulse).kind, Kind::elsewhere) << "a hook of the last batch, whose time is over";
  const InBatch in_batch(pulse);
  EXPECT_EQ(glance_at(pulse).kind, Kind::step);
  EXPECT_EQ(glance_at(pulse).steps, 1u);
  pulse.hook = Hook::on_train_batch_end;
  EXPECT_EQ(glance_at(pulse).kind, Kind::elsewhere);
  pulse.hook = Hook::optimizer_step;
  EXPECT_EQ(glance_at(pulse).kind, Kind::step);
  pulse.waits = true;
  EXPECT_EQ(glance_at(pulse).kind, Kind::rest);
}

TEST(GlanceAt, LetsDataBePrepared) {
  Pulse pulse("worker 0");
  const Working working(pulse);
  pulse.hook = Hook::prepare_data;
  EXPECT_EQ(glance_at(pulse).kind, Kind::rest);
  const Pulse loader("the loader", "loader");
  EXPECT_EQ(glance_at(loader).kind, Kind::rest) << "it waits";
}

// --- Processes that do not answer ---

TEST(SilenceRule, AsksWhenAWaitIsLongAndThenLessOften) {
  SilenceRule rule(limits);
  SilenceRule::Clock::time_point now{seconds(1000)};
  EXPECT_FALSE(rule.look(7, now));
  EXPECT_FALSE(rule.look(7, now + seconds(9)));
  EXPECT_TRUE(rule.look(7, now += seconds(10)));
  EXPECT_FALSE(rule.look(7, now)) << "one question at a time";
  EXPECT_FALSE(rule.answered(true, now));
  EXPECT_FALSE(rule.look(7, now + seconds(19)));
  EXPECT_TRUE(rule.look(7, now += seconds(20)));
}

TEST(SilenceRule, ANewOperationBeginsAnew) {
  SilenceRule rule(limits);
  SilenceRule::Clock::time_point now{seconds(1000)};
  EXPECT_FALSE(rule.look(7, now));
  EXPECT_FALSE(rule.look(8, now += seconds(9)));
  EXPECT_FALSE(rule.look(8, now + seconds(9)));
  EXPECT_FALSE(rule.look(std::nullopt, now += seconds(60)));
  EXPECT_FALSE(rule.look(9, now));
}

TEST(SilenceRule, WhoIsSilentTwiceIsGone) {
  SilenceRule rule(limits);
  SilenceRule::Clock::time_point now{seconds(1000)};
  EXPECT_FALSE(rule.look(7, now));
  EXPECT_TRUE(rule.look(7, now += seconds(10)));
  EXPECT_FALSE(rule.answered(false, now += seconds(5)));
  EXPECT_TRUE(rule.look(7, now));
  EXPECT_TRUE(rule.answered(false, now += seconds(5)));
}

TEST(SilenceRule, OneSilenceIsForgotten) {
  SilenceRule rule(limits);
  SilenceRule::Clock::time_point now{seconds(1000)};
  EXPECT_FALSE(rule.look(7, now));
  EXPECT_TRUE(rule.look(7, now += seconds(10)));
  EXPECT_FALSE(rule.answered(false, now));
  EXPECT_TRUE(rule.look(7, now));
  EXPECT_FALSE(rule.answered(true, now));
  EXPECT_FALSE(rule.look(7, now + seconds(1)));
  EXPECT_TRUE(rule.look(7, now += seconds(20)));
  EXPECT_FALSE(rule.answered(false, now));
}

}  // namespace
}  // namespace troupe
