#include "troupe/runtime/sinks/csv_sink.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/base/failure.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <sstream>

namespace troupe {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

std::string csv_message(const fs::path& folder) {
  try {
    CsvSink sink(folder);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(CsvSink, WritesEpochAndStepThenTheMetrics) {
  TempDir dir;
  CsvSink sink(dir / "run/version_0");
  sink.write(ScalarsRecord{.step = 9, .epoch = 0, .values = {{"train_loss", 0.1}, {"lr", 1e-5}}});
  sink.write(ScalarsRecord{.step = 19, .epoch = 1, .values = {{"train_loss", 0.25}, {"lr", 3}}});
  sink.flush();
  EXPECT_EQ(sink.path(), dir / "run/version_0/metrics.csv");
  EXPECT_EQ(content_of(sink.path()), "epoch,step,train_loss,lr\n0,9,0.1,1e-05\n1,19,0.25,3\n");
}

TEST(CsvSink, AddsAColumnForALaterMetricAndKeepsTheRowsBefore) {
  TempDir dir;
  CsvSink sink(dir.path());
  sink.write(ScalarsRecord{.step = 1, .epoch = 0, .values = {{"a", 1}}});
  sink.write(ScalarsRecord{.step = 2, .epoch = 0, .values = {{"b", 2}, {"c", 3}}});
  sink.write(ScalarsRecord{.step = 3, .epoch = -1, .values = {{"a", 4}}});
  sink.flush();
  EXPECT_EQ(content_of(sink.path()), "epoch,step,a,b,c\n0,1,1,,\n0,2,,2,3\n,3,4,,\n");
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), {}), 1);  // no temporary file
}

TEST(CsvSink, KeepsAllRowsWhenAColumnCannotBeAdded) {
  TempDir dir;
  const auto folder = dir / "run";
  CsvSink sink(folder);
  sink.write(ScalarsRecord{.step = 1, .values = {{"a", 1}}});
  fs::rename(folder, dir / "elsewhere");  // where no temporary file can be made
  EXPECT_ANY_THROW(sink.write(ScalarsRecord{.step = 2, .values = {{"b", 2}}}));
  sink.write(ScalarsRecord{.step = 3, .values = {{"a", 3}}});
  fs::rename(dir / "elsewhere", folder);
  sink.write(ScalarsRecord{.step = 4, .values = {{"b", 4}}});
  sink.flush();
  EXPECT_EQ(content_of(sink.path()), "epoch,step,a,b\n,1,1,\n,3,3,\n,4,,4\n");
}

TEST(CsvSink, WritesNumbersThatReadBackAsTheSameDouble) {
  TempDir dir;
  const double values[] = {1.0 / 3, 5e-324, std::numeric_limits<double>::max(), -0.0};
  CsvSink sink(dir.path());
  for (double value : values) sink.write(ScalarsRecord{.step = 0, .values = {{"x", value}}});
  sink.flush();
  std::istringstream lines(content_of(sink.path()));
  std::string line;
  std::getline(lines, line);
  for (double value : values) {
    std::getline(lines, line);
    double read = std::strtod(line.substr(line.rfind(',') + 1).c_str(), nullptr);
    EXPECT_EQ(std::signbit(read), std::signbit(value));
    EXPECT_EQ(read, value) << line;
  }
}

TEST(CsvSink, WritesNanAndInfinityAsText) {
  TempDir dir;
  double inf = std::numeric_limits<double>::infinity();
  CsvSink sink(dir.path());
  sink.write(ScalarsRecord{.step = 0, .epoch = 0, .values = {{"a", -std::nan("")}, {"b", inf}, {"c", -inf}}});
  sink.flush();
  EXPECT_EQ(content_of(sink.path()), "epoch,step,a,b,c\n0,0,nan,inf,-inf\n");
}

TEST(CsvSink, QuotesNamesAndReadsThemBackWhenItContinues) {
  TempDir dir;
  ScalarsRecord record{.step = 0, .epoch = 0, .values = {{"a,b", 1}, {"say \"x\"", 2}, {"two\nlines", 3}}};
  for (int run = 0; run < 2; ++run) CsvSink(dir.path()).write(record);
  EXPECT_EQ(content_of(dir / "metrics.csv"),
            "epoch,step,\"a,b\",\"say \"\"x\"\"\",\"two\nlines\"\n0,0,1,2,3\n0,0,1,2,3\n");
}

TEST(CsvSink, ContinuesAFileWithOtherMetrics) {
  TempDir dir;
  CsvSink(dir.path()).write(ScalarsRecord{.step = 1, .epoch = 0, .values = {{"a", 1}}});
  CsvSink(dir.path()).write(ScalarsRecord{.step = 2, .epoch = 1, .values = {{"b", 2}}});
  EXPECT_EQ(content_of(dir / "metrics.csv"), "epoch,step,a,b\n0,1,1,\n1,2,,2\n");
}

TEST(CsvSink, RemovesARowThatWasCutShort) {
  TempDir dir;
  put(dir / "metrics.csv", "epoch,step,a,b\n0,1,1,2\n0,2,0.");
  CsvSink(dir.path()).write(ScalarsRecord{.step = 3, .epoch = 0, .values = {{"a", 5}}});
  EXPECT_EQ(content_of(dir / "metrics.csv"), "epoch,step,a,b\n0,1,1,2\n0,3,5,\n");
}

TEST(CsvSink, KeepsALastRowThatOnlyLacksItsLineEnd) {
  TempDir dir;
  put(dir / "metrics.csv", "epoch,step,a\n0,1,1");
  CsvSink(dir.path()).write(ScalarsRecord{.step = 2, .epoch = 0, .values = {{"a", 5}}});
  EXPECT_EQ(content_of(dir / "metrics.csv"), "epoch,step,a\n0,1,1\n0,2,5\n");
}

TEST(CsvSink, LeavesAFileAloneThatIsNoTableOfMetrics) {
  TempDir dir;
  put(dir / "metrics.csv", "name,age\nada,36\n");
  EXPECT_THAT(csv_message(dir.path()), AllOf(HasSubstr("metrics.csv"), HasSubstr("'name,age'")));
  put(dir / "metrics.csv", "epoch,step,\"a\n0,1,1\n");
  EXPECT_THAT(csv_message(dir.path()), HasSubstr("never closed"));
  EXPECT_EQ(content_of(dir / "metrics.csv"), "epoch,step,\"a\n0,1,1\n");
}

TEST(CsvSink, SaysWhichFolderCannotBeWrittenAndWhy) {
  TempDir dir;
  put(dir / "file", "");
  EXPECT_THAT(csv_message(dir / "file"), AllOf(HasSubstr((dir / "file").string()), HasSubstr("Not a directory")));
  EXPECT_THAT(csv_message(dir / "file/sub"), AllOf(HasSubstr("file/sub"), HasSubstr("Not a directory")));
  fs::create_directories(dir / "run/metrics.csv");
  EXPECT_THAT(csv_message(dir / "run"), AllOf(HasSubstr("run/metrics.csv"), HasSubstr("Is a directory")));
}

TEST(CsvSink, ReportsAFullDisk) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "this system has no /dev/full";
  TempDir dir;
  fs::create_symlink("/dev/full", dir / "metrics.csv");
  EXPECT_THROW(CsvSink sink(dir.path()), std::runtime_error);
}

TEST(CsvSink, IgnoresRecordsWithoutScalars) {
  TempDir dir;
  CsvSink sink(dir.path());
  sink.write(TextRecord{.step = 0, .tag = "note", .text = "hello"});
  sink.write(HparamsRecord{{{"lr", 0.1}}});
  sink.write(ScalarsRecord{.step = 0, .epoch = 0, .values = {}});
  sink.flush();
  EXPECT_EQ(content_of(sink.path()), "epoch,step\n");
}

TEST(CsvSink, ShowsRowsToReadersOnlyAfterAFlush) {
  TempDir dir;
  CsvSink sink(dir.path());
  sink.write(ScalarsRecord{.step = 0, .epoch = 0, .values = {{"a", 1}}});
  EXPECT_EQ(content_of(sink.path()), "epoch,step,a\n");
  sink.flush();
  EXPECT_EQ(content_of(sink.path()), "epoch,step,a\n0,0,1\n");
}

}  // namespace
}  // namespace troupe
