// One rank fails, all end: an exception, a kill and a hang on one of three ranks, each under a real mpirun.
#include "tests/support/program.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace troupe {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr int timed_out = 124;  // what timeout(1) says

// The disabled case `fault` of ddp_ranks_test on three ranks.
Finished ranks_with(const std::string& fault) {
  return run_program("timeout -k 5 60 " + std::string(TROUPE_SOURCE_DIR) + "/tests/mpirun.sh 3 " +
                     example("../tests/ddp_ranks_test") +
                     " --gtest_also_run_disabled_tests --gtest_filter=Faults.DISABLED_" + fault + " 2>&1");
}

void expect_no_rank_left(const std::string& fault) {
  // In brackets, so that the search does not find itself.
  const auto left = run_program("pgrep -f '[d]dp_ranks_test.*DISABLED_" + fault + "'");
  EXPECT_EQ(left.output, "");
}

TEST(Faults, AnExceptionEndsAllRanksWithItsCauseP6) {
  const auto run = ranks_with("Exception");
  EXPECT_NE(run.status, 0);
  EXPECT_NE(run.status, timed_out) << run.output;
  EXPECT_THAT(run.output, HasSubstr("out of luck (in training_step, stage fit, epoch 1, batch 2, rank 1 on "));
  expect_no_rank_left("Exception");
}

TEST(Faults, ANumberThrownByAMonitorOfOneRankEndsAllWithItsNameP6) {
  const auto run = ranks_with("Number");
  EXPECT_NE(run.status, 0);
  EXPECT_NE(run.status, timed_out) << run.output;
  EXPECT_THAT(run.output, HasSubstr("an exception of type int, which is not a std::exception (in ThrowsANumber::decide,"
                                    " stage fit, epoch 1, rank 1 on "));
  expect_no_rank_left("Number");
}

TEST(Faults, AtTheVeryEndOfOneRankAreThrownByAllWhichTrainAgainP6) {
  const auto run = ranks_with("AtTheVeryEnd");
  EXPECT_NE(run.status, timed_out) << run.output;
  std::size_t passed = 0;
  for (auto at = run.output.find("  PASSED  ]"); at != std::string::npos; at = run.output.find("  PASSED  ]", at + 1)) {
    ++passed;
  }
  EXPECT_EQ(passed, 3u) << run.output;
  EXPECT_THAT(run.output, Not(HasSubstr("  FAILED  ]")));
  expect_no_rank_left("AtTheVeryEnd");
}

TEST(Faults, WhatTheLoopOfAFabricThrowsOnOneRankIsToldToAll) {
  const auto run = ranks_with("Fabric");
  EXPECT_NE(run.status, timed_out) << run.output;
  EXPECT_THAT(run.output, HasSubstr("  PASSED  ]"));
  EXPECT_THAT(run.output, Not(HasSubstr("  FAILED  ]")));
  expect_no_rank_left("Fabric");
}

TEST(Faults, AKilledRankEndsAll) {
  const auto run = ranks_with("Killed");
  EXPECT_NE(run.status, 0);
  EXPECT_THAT(run.output, HasSubstr("signal 9 (Killed)"));
  EXPECT_NE(run.status, timed_out) << run.output;
  expect_no_rank_left("Killed");
}

TEST(Faults, ARankThatHangsEndsAllAfterTheTimeout) {
  const auto run = ranks_with("Stopped");
  EXPECT_NE(run.status, 0);
  EXPECT_NE(run.status, timed_out) << run.output;
  EXPECT_THAT(run.output, HasSubstr("3 s"));
  expect_no_rank_left("Stopped");
}

TEST(Faults, MetricsThatOneRankAloneLogsAreNamed) {
  const auto run = ranks_with("Metrics");
  EXPECT_NE(run.status, 0);
  EXPECT_NE(run.status, timed_out) << run.output;
  EXPECT_THAT(run.output, HasSubstr("\"only_here\" by rank 0 and not by rank 1, 2"));
}

}  // namespace
}  // namespace troupe
