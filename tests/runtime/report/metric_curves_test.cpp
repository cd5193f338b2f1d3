#include "troupe/runtime/report/metric_curves.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/sinks/csv_sink.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace troupe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<double> values_of(const MetricCurve& curve) {
  std::vector<double> values;
  for (const auto& point : curve.points()) values.push_back(point.value);
  return values;
}

bool has_value(const MetricCurve& curve, double value) {
  return std::ranges::count(values_of(curve), value) > 0;
}

TEST(MetricCurve, KeepsEveryPointUntilThereAreTooMany) {
  MetricCurve curve(8);
  for (int i = 0; i < 8; ++i) curve.add({i, 0, 10.0 - i});
  EXPECT_THAT(values_of(curve), ElementsAre(10, 9, 8, 7, 6, 5, 4, 3));
  EXPECT_EQ(curve.count(), 8);
}

TEST(MetricCurve, KeepsTheSmallestAndTheLargestOfEachGroup) {
  MetricCurve curve(8);
  for (const double value : {5, 1, 9, 4, 2, 2, 3, 7, 6}) curve.add({curve.count(), 0, value});
  EXPECT_THAT(values_of(curve), ElementsAre(1, 9, 2, 7, 6));
  EXPECT_EQ(curve.last().step, 8);
}

TEST(MetricCurve, KnowsTheMeanOfEachGroup) {
  MetricCurve curve(8);
  EXPECT_TRUE(curve.means().empty());
  for (const double value : {5., 1., 9., 4., 2., 2., 3., std::nan(""), 6.}) curve.add({curve.count(), 0, value});
  ASSERT_EQ(curve.points().size(), 6u);  // 1 and 9; 2, 3 and NaN; 6
  EXPECT_THAT(curve.means(), ElementsAre(4.75, 4.75, 7. / 3, 7. / 3, 7. / 3, 6));
  for (int i = 0; i < 5000; ++i) curve.add({curve.count(), 0, i % 100 == 0 ? 100. : 0.});
  for (const double mean : curve.means()) EXPECT_LT(mean, 3);
}

TEST(MetricCurve, LosesNoSpikeHoweverLongTheRun) {
  MetricCurve curve(100);
  for (int64_t i = 0; i < 50000; ++i) {
    curve.add({i, 0, i == 777 ? -50.0 : i == 33333 ? 99.0 : i == 41000 ? std::nan("") : std::sin(0.001 * double(i))});
    ASSERT_LE(curve.points().size(), 100u);
  }
  EXPECT_EQ(curve.count(), 50000);
  EXPECT_TRUE(has_value(curve, -50) && has_value(curve, 99));
  EXPECT_EQ(std::ranges::count_if(values_of(curve), [](double value) { return std::isnan(value); }), 1);
  EXPECT_TRUE(std::ranges::is_sorted(curve.points(), {}, &MetricCurve::Point::step));
  EXPECT_GE(curve.points().size(), 30u);
}

TEST(MetricCurve, StaysSmallWhateverItsValuesAre) {
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<std::vector<double>> cycles = {{1},
                                                   {std::nan("")},
                                                   {1, std::nan("")},
                                                   {1, 2, infinity, -infinity},
                                                   {1, 2, 3, 4, infinity, infinity, infinity, infinity}};
  for (const std::size_t most : {4, 5, 7, 64}) {
    for (const auto& cycle : cycles) {
      MetricCurve curve(most);
      for (int64_t i = 0; i < 3000; ++i) {
        curve.add({i, 0, cycle[static_cast<std::size_t>(i) % cycle.size()]});
        ASSERT_LE(curve.points().size(), most);
      }
      EXPECT_FALSE(curve.points().empty());
    }
  }
}

TEST(ReadMetricCurves, ReadsWhatTheCsvSinkWrites) {
  TempDir dir;
  CsvSink sink(dir.path());
  sink.write(ScalarsRecord{.step = 9, .epoch = 0, .values = {{"a,\"b\"\nc", 0.5}}});
  sink.write(ScalarsRecord{.step = 19, .epoch = 1, .values = {{"loss", std::nan("")}, {"epoch", 1.5}}});
  sink.flush();
  const auto curves = read_metric_curves(dir.path());
  ASSERT_EQ(curves.curves.size(), 2u);
  const auto& first = curves.curves.at("a,\"b\"\nc").last();
  EXPECT_EQ(first.step, 9);
  EXPECT_EQ(first.epoch, 0);
  EXPECT_EQ(first.value, 0.5);
  EXPECT_EQ(curves.curves.at("loss").last().epoch, 1.5);  // a metric called epoch takes the place of the record's
  EXPECT_TRUE(std::isnan(curves.curves.at("loss").last().value));
  EXPECT_EQ(curves.damaged_rows, 0);
}

TEST(ReadMetricCurves, ReadsJsonLinesWithTheirTimes) {
  TempDir dir;
  put(dir / "metrics.csv", "epoch,step,other\n0,1,2\n");
  put(dir / "metrics.jsonl",
      "{\"step\":49,\"epoch\":0,\"time\":1764447600.5,\"values\":{\"loss\":0.25,\"norm\":\"NaN\"}}\n"
      "{\"step\":99,\"stage\":\"fit\",\"values\":{\"norm\":\"-Infinity\",\"loss\":1e-3}}\n");
  const auto curves = read_metric_curves(dir.path());
  ASSERT_EQ(curves.curves.size(), 2u);
  const auto& loss = curves.curves.at("loss").points();
  ASSERT_EQ(loss.size(), 2u);
  EXPECT_EQ(loss[0].time, 1764447600.5);
  EXPECT_EQ(loss[1].step, 99);
  EXPECT_EQ(loss[1].value, 1e-3);
  EXPECT_EQ(loss[1].epoch, -1);
  EXPECT_EQ(loss[1].time, -1);
  EXPECT_EQ(curves.curves.at("norm").last().value, -std::numeric_limits<double>::infinity());
}

// There is a short way for plain lines.
TEST(ReadMetricCurves, ReadsALineAlikeHoweverItIsWritten) {
  TempDir dir;
  for (const auto* line :
       {R"({"step":7,"epoch":2,"time":3.5,"values":{"a":-1.5,"b":2e3}})",
        R"( { "values" : { "a" : -1.5 , "b" : 2E+3 } , "time" : 3.5 , "epoch" : 2 , "step" : 7.0 } )",
        R"({"step":7,"epoch":2,"time":3.5,"values":{"\u0061":-1.5,"b":2000}})",
        R"({"more":"x","step":7,"epoch":2,"time":3.5,"values":{"a":-1.5,"b":2000}})"}) {
    put(dir / "metrics.jsonl", std::string(line) + "\n");
    const auto curves = read_metric_curves(dir.path());
    ASSERT_EQ(curves.curves.size(), 2u) << line;
    const auto& a = curves.curves.at("a").last();
    EXPECT_EQ(a.step, 7) << line;
    EXPECT_EQ(a.epoch, 2) << line;
    EXPECT_EQ(a.time, 3.5) << line;
    EXPECT_EQ(a.value, -1.5) << line;
    EXPECT_EQ(curves.curves.at("b").last().value, 2000) << line;
  }
}

TEST(ReadMetricCurves, LeavesOutRowsThatAreTornOrMakeNoSense) {
  TempDir dir;
  put(dir / "metrics.csv", "epoch,step,loss\n0,1,0.5\n0,2,what\n0,,1\n0,3\n0,4,0.25\n\n0,5,0.2");
  auto curves = read_metric_curves(dir.path());
  EXPECT_THAT(values_of(curves.curves.at("loss")), ElementsAre(0.5, 0.25));
  EXPECT_EQ(curves.damaged_rows, 4);
  put(dir / "metrics.jsonl",
      "{\"step\":1,\"values\":{\"loss\":7}}\n{\"step\":2,\"values\":[]}\n[]\n{\"step\":\"NaN\",\"values\":{}}\n"
      "{\"values\":{\"loss\":1}}\n{\"step\":3,\"values\":{\"lo");
  curves = read_metric_curves(dir.path());
  EXPECT_THAT(values_of(curves.curves.at("loss")), ElementsAre(7));
  EXPECT_EQ(curves.damaged_rows, 5);
}

TEST(ReadMetricCurves, FindsNothingInAFolderWithoutMetrics) {
  TempDir dir;
  EXPECT_TRUE(read_metric_curves(dir.path()).curves.empty());
  put(dir / "metrics.csv", "");
  EXPECT_TRUE(read_metric_curves(dir.path()).curves.empty());
  put(dir / "metrics.csv", "epo");  // killed while it wrote the first line
  EXPECT_TRUE(read_metric_curves(dir.path()).curves.empty());
}

TEST(ReadMetricCurves, RefusesWhatIsNoTableOfMetrics) {
  TempDir dir;
  const auto read = [&] { (void)read_metric_curves(dir.path()); };
  put(dir / "metrics.csv", "id,label\n1,2\n");
  EXPECT_EQ(refusal(read), (dir / "metrics.csv").string() +
                               " is no table of metrics: its first line is 'id,label', without a column 'step'");
  put(dir / "metrics.csv", "epoch,step" + std::string(20000, ',') + "\n");
  EXPECT_THAT(refusal(read), HasSubstr("more than 10,000 metrics"));
  put(dir / "metrics.jsonl", "\x89PNG\n\x1A\n");
  EXPECT_THAT(refusal(read), HasSubstr("metrics.jsonl is no table of metrics: its first line is '"));
  put(dir / "metrics.jsonl", std::string((16 << 20) + (1 << 19), ' '));
  EXPECT_THAT(refusal(read), HasSubstr("line 1 is longer than 16 MiB"));
}

}  // namespace
}  // namespace troupe
