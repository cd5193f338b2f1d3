#include "troupe/runtime/report/phase_report.hpp"

#include "troupe/runtime/report/phase_spread.hpp"

#include <gmock/gmock.h>

#include <sstream>
#include <string>

namespace troupe {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

PhaseReport report_of_a_fit() {
  PhaseReport report;
  report.stage = "fit";
  report.seconds = 100;
  report.batches = 1000;
  report.phases = {{"forward", 50, 1000, 0.5},
                   {"validation", 40, 2, 25},
                   {"Timer.on_train_end", 9.95, 1, 9.95},
                   {"logging", 0.03, 20, 0.002},
                   {"rest", 0.02, 1000, 0.001}};
  report.parts_of_validation = {{"waiting for data", 39, 20, 3}, {"forward", 1, 20, 0.1}};
  report.meanwhile = {{"logger", 0.5, 40, 0.1}};
  report.ranks = {{"forward", 50, 60, 3}};
  report.advice = "40 % validation: most of it waiting for data";
  return report;
}

TEST(PhaseReport, IsATableOfItsLargePhasesInLinesThatFitATerminal) {
  const std::string text = to_text(report_of_a_fit());
  for (const char* part :
       {"phases of fit, 100 s", "forward", "50.0 %", "1000", "50.0 ms", "500 ms", "  waiting for data", "smaller ones",
        "1020", "  logger", "rank 3", "most of it waiting for data"}) {
    EXPECT_THAT(text, HasSubstr(part)) << text;
  }
  EXPECT_THAT(text, Not(HasSubstr("logging")));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100U) << line;
}

TEST(PhaseReport, IsATableOfAllPhasesForWhoAsks) {
  const std::string text = to_text(report_of_a_fit(), PhaseTable::all);
  EXPECT_THAT(text, HasSubstr("logging"));
  EXPECT_THAT(text, Not(HasSubstr("smaller ones")));
}

TEST(PhaseReport, KeepsItsLinesShortForANameThatIsLong) {
  PhaseReport report{"fit", 1, 1, {{std::string(300, 'x'), 1, 1, 1}}, {}, {}, ""};
  std::istringstream lines(to_text(report));
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100U) << line;
}

TEST(PhaseReport, IsEmptyAndStillATableBeforeAnythingRan) {
  EXPECT_THAT(to_text(PhaseReport{}), HasSubstr("phases of"));
}

TEST(PhaseReport, ComesBackFromJson) {
  const auto report = report_of_a_fit();
  EXPECT_EQ(to_json(phase_report_from_json(to_json(report), "the report")), to_json(report));
}

TEST(PhaseSpread, NamesTheSlowestRankOfAPhaseAndTheMedian) {
  const auto spread =
      spread_over({{{"forward", 3, 1, 3}}, {{"forward", 9, 1, 9}, {"logging", 1, 1, 1}}, {{"forward", 4, 1, 4}}});
  ASSERT_EQ(spread.size(), 2U);
  EXPECT_EQ(spread[0].name, "forward");
  EXPECT_EQ(spread[0].median, 4);
  EXPECT_EQ(spread[0].slowest, 9);
  EXPECT_EQ(spread[0].slowest_rank, 1);
  EXPECT_EQ(spread[1].median, 0);
}

TEST(PhaseSpread, TakesTheMeanOfTheMiddleOnesOfAnEvenNumberOfRanks) {
  EXPECT_EQ(spread_over({{{"forward", 2, 1, 2}}, {{"forward", 5, 1, 5}}}).front().median, 3.5);
}

}  // namespace
}  // namespace troupe
