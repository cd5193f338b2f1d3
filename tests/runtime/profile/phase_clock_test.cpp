#include "troupe/runtime/profile/phase_clock.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

namespace troupe {
namespace {

// One tick is a second here.
PhaseReport phases_at(const PhaseClock& clock, uint64_t now, PhaseTable table = PhaseTable::all) {
  return clock.report_at(now, 1.0, table);
}

std::optional<PhaseTime> phase_named(const std::vector<PhaseTime>& phases, const std::string& name) {
  const auto found = std::ranges::find(phases, name, &PhaseTime::name);
  return found == phases.end() ? std::nullopt : std::optional(*found);
}

void expect_phase(const std::vector<PhaseTime>& phases, const std::string& name, double seconds, int64_t count,
                  double longest) {
  const auto phase = phase_named(phases, name);
  ASSERT_TRUE(phase) << name;
  EXPECT_EQ(phase->seconds, seconds) << name;
  EXPECT_EQ(phase->count, count) << name;
  EXPECT_EQ(phase->longest, longest) << name;
}

double sum_of(const std::vector<PhaseTime>& phases) {
  return std::accumulate(phases.begin(), phases.end(), 0.0,
                         [](double sum, const PhaseTime& phase) { return sum + phase.seconds; });
}

TEST(PhaseClock, GivesTheTimeBetweenTwoMarksToThePhaseThatRan) {
  PhaseClock clock(Phase::start_up, 100);
  clock.enter_at(id_of(Phase::forward), 105);
  clock.enter_at(id_of(Phase::backward), 107);
  clock.enter_at(id_of(Phase::forward), 110);
  const auto report = phases_at(clock, 120);
  expect_phase(report.phases, "start-up", 5, 1, 5);
  expect_phase(report.phases, "forward", 12, 2, 10);
  expect_phase(report.phases, "backward", 3, 1, 3);
  EXPECT_EQ(report.seconds, 20);
  EXPECT_EQ(sum_of(report.phases), 20);
  EXPECT_EQ(report.phases.front().name, "forward");
}

TEST(PhaseClock, CountsAPhaseOnceThatGoesOnAfterAnInterruption) {
  PhaseClock clock(Phase::start_up, 0);
  clock.enter_at(id_of(Phase::optimizer), 0);
  clock.enter_at(id_of(Phase::reduction), 4);
  clock.resume_at(id_of(Phase::optimizer), 10);
  clock.enter_at(id_of(Phase::rest), 15);
  const auto report = phases_at(clock, 15);
  expect_phase(report.phases, "optimizer", 9, 1, 9);
  expect_phase(report.phases, "reduction", 6, 1, 6);
}

TEST(PhaseClock, GoesBackToTheOuterPhaseAtTheEndOfAScope) {
  PhaseClock clock;
  PhaseClock::set_of_thread(&clock);
  enter_phase(Phase::forward);
  {
    const PhaseScope outer(Phase::logging);
    { const PhaseScope inner(Phase::checkpoint); }
    EXPECT_EQ(clock.current(), id_of(Phase::logging));
  }
  EXPECT_EQ(clock.current(), id_of(Phase::forward));
  EXPECT_EQ(phase_named(clock.report(PhaseTable::all).phases, "forward")->count, 1);
  PhaseClock::set_of_thread(nullptr);
}

TEST(PhaseClock, IsLeftAloneByMarksOfAThreadThatHasNone) {
  {
    PhaseClock gone;
    PhaseClock::set_of_thread(&gone);
  }
  EXPECT_EQ(PhaseClock::of_thread(), nullptr);
  enter_phase(Phase::forward);
  const PhaseScope scope(Phase::logging);
}

TEST(PhaseClock, CountsAValidationAsOnePhaseWithPartsOfItsOwn) {
  PhaseClock clock(Phase::between_epochs, 0);
  clock.begin_validation_at(10);
  clock.enter_at(id_of(Phase::waiting_for_data), 11);
  clock.enter_at(id_of(Phase::forward), 15);
  const auto within = phases_at(clock, 20);
  expect_phase(within.phases, "validation", 10, 1, 10);
  clock.end_validation_at(30);
  clock.enter_at(id_of(Phase::forward), 31);
  const auto report = phases_at(clock, 40);
  expect_phase(report.phases, "between epochs", 11, 1, 11);
  expect_phase(report.phases, "validation", 20, 1, 20);
  expect_phase(report.phases, "forward", 9, 1, 9);
  EXPECT_EQ(sum_of(report.phases), 40);
  expect_phase(report.parts_of_validation, "waiting for data", 4, 1, 4);
  expect_phase(report.parts_of_validation, "forward", 15, 1, 15);
  EXPECT_EQ(sum_of(report.parts_of_validation), 20);
}

TEST(PhaseClock, GivesTimeToAPhaseThatIsKnownOnlyAfterwards) {
  PhaseClock clock(Phase::rest, 0);
  clock.give_to_at(Phase::checkpoint, 7);
  clock.enter_at(id_of(Phase::forward), 9);
  const auto report = phases_at(clock, 9);
  expect_phase(report.phases, "checkpoint", 7, 1, 7);
  expect_phase(report.phases, "rest", 2, 1, 2);
}

TEST(PhaseClock, CallsHooksByTheirOwners) {
  PhaseClock clock(Phase::rest, 0);
  clock.enter_at(id_of(data_owner, Hook::prepare_data), 0);
  clock.set_owners({"", "Digits", "Timer", "Timer"});
  clock.enter_at(id_of(module_owner, Hook::on_train_batch_end), 1);
  clock.enter_at(id_of(first_callback_owner, Hook::on_fit_end), 2);
  clock.enter_at(id_of(first_callback_owner + 1, CallbackHook::on_save_checkpoint), 3);
  const auto report = phases_at(clock, 4);
  for (const char* name :
       {"Digits.prepare_data", "on_train_batch_end", "Timer.on_fit_end", "Timer (2).on_save_checkpoint"}) {
    expect_phase(report.phases, name, 1, 1, 1);
  }
}

TEST(PhaseClock, JoinsHooksThatTakeLittleUnlessAllAreWanted) {
  PhaseClock clock(Phase::rest, 0);
  clock.enter_at(id_of(module_owner, Hook::on_train_start), 0);
  clock.enter_at(id_of(module_owner, Hook::on_train_end), 1);
  clock.enter_at(id_of(module_owner, Hook::on_fit_end), 3);
  clock.enter_at(id_of(Phase::forward), 1003);
  const auto joined = phases_at(clock, 4000, PhaseTable::large);
  expect_phase(joined.phases, "other hooks", 3, 2, 2);
  EXPECT_FALSE(phase_named(joined.phases, "on_train_start"));
  EXPECT_TRUE(phase_named(joined.phases, "on_fit_end"));
  EXPECT_EQ(sum_of(joined.phases), 4000);
  EXPECT_TRUE(phase_named(phases_at(clock, 4000).phases, "on_train_start"));
}

TEST(PhaseClock, LosesNoTimeToAPhaseThatItDoesNotKnow) {
  PhaseClock clock(Phase::start_up, 0);
  clock.enter_at(1'000'000, 5);
  expect_phase(phases_at(clock, 8).phases, "rest", 3, 1, 3);
}

TEST(PhaseClock, TakesTicksThatGoBackForNoTime) {
  PhaseClock clock(Phase::start_up, 100);
  clock.enter_at(id_of(Phase::forward), 90);
  const auto report = phases_at(clock, 95);
  expect_phase(report.phases, "start-up", 0, 1, 0);
  expect_phase(report.phases, "forward", 5, 1, 5);
}

}  // namespace
}  // namespace troupe
