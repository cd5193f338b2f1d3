#include "bench/table.hpp"

#include "tests/support/temp_dir.hpp"
#include "troupe/base/failure.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <sstream>
#include <stdexcept>

namespace troupe::bench {
namespace {

using testing::HasSubstr;

int run_with(const std::vector<const char*>& arguments, const std::function<std::vector<Row>()>& measure) {
  std::vector<const char*> argv = {"/build/bench/overhead"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return run(static_cast<int>(argv.size()), argv.data(), "Title", measure);
}

std::vector<Row> two_rows() {
  return {at_most("a step", {100.5, 2}, {100, 1}, "us", 1.01), at_least("steps", {50, 0}, {10, 0}, "1/s", 10)};
}

TEST(BenchTable, MedianIsTheMiddleOrTheMeanOfTheTwoMiddleSamples) {
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 3, 2}), 2.5);
  EXPECT_EQ(median({7}), 7);
}

TEST(BenchTable, SpreadIsTheInterquartileRange) {
  EXPECT_EQ(spread({1, 2, 3, 4, 5}), 2);
  EXPECT_EQ(spread({1, 2, 3, 4}), 1.5);  // as numpy.percentile has it
  EXPECT_EQ(spread({7}), 0);
}

TEST(BenchTable, NoSamplesAreRefused) {
  EXPECT_THROW(median({}), UsageError);
  EXPECT_THROW(spread({}), UsageError);
}

TEST(BenchTable, ABarIsABoundOfOursOverPeer) {
  const auto rows = two_rows();
  EXPECT_DOUBLE_EQ(rows[0].ratio(), 1.005);
  EXPECT_TRUE(rows[0].met());
  EXPECT_DOUBLE_EQ(rows[1].ratio(), 5);
  EXPECT_FALSE(rows[1].met());
}

TEST(BenchTable, ANumberThatIsNoneMeetsNoBar) {
  EXPECT_FALSE(at_most("a step", {0, 0}, {0, 0}, "us", 1).met());
  EXPECT_FALSE(at_least("a step", {0, 0}, {0, 0}, "us", 1).met());
}

TEST(BenchTable, ColumnsAreAligned) {
  std::ostringstream out;
  print(out, "Title", two_rows());
  EXPECT_EQ(out.str(),
            "Title\n\n"
            "name          ours      peer  unit  ours/peer      bar  met\n"
            "a step  100.5 +- 2  100 +- 1  us        1.005  <= 1.01  yes\n"
            "steps      50 +- 0   10 +- 0  1/s           5    >= 10   NO\n");
}

TEST(BenchTable, JsonHasTheRowsOfTheTable) {
  const TempDir dir;
  const std::string file = dir / "rows.json";
  EXPECT_EQ(run_with({"--json", file.c_str()}, two_rows), 0);
  const auto rows = nlohmann::json::parse(std::ifstream(file));
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["name"], "a step");
  EXPECT_EQ(rows[0]["ours"], 100.5);
  EXPECT_EQ(rows[0]["peer"], 100.0);
  EXPECT_EQ(rows[0]["unit"], "us");
  EXPECT_EQ(rows[0]["ratio"], 1.005);
  EXPECT_EQ(rows[0]["bar"], 1.01);
  EXPECT_EQ(rows[0]["met"], true);
  EXPECT_EQ(rows[1]["met"], false);
}

TEST(BenchTable, BadArgumentsEndWithOneSentenceBeforeMeasuring) {
  const auto never = []() -> std::vector<Row> { throw std::logic_error("measured"); };
  for (const auto& [arguments, sentence] : std::vector<std::pair<std::vector<const char*>, std::string>>{
           {{"--josn", "x"}, "overhead: unknown argument '--josn'; there are --json FILE and --help\n"},
           {{"--json"}, "overhead: --json needs the name of a file\n"},
           {{"--json", "/nowhere/rows.json"}, "overhead: cannot write to '/nowhere/rows.json'"}}) {
    testing::internal::CaptureStderr();
    EXPECT_EQ(run_with(arguments, never), 2);
    EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr(sentence));
  }
}

TEST(BenchTable, WhatMeasuringThrowsIsPrinted) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(run_with({}, []() -> std::vector<Row> { throw std::runtime_error("no data"); }), 1);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "overhead: no data\n");
}

}  // namespace
}  // namespace troupe::bench
