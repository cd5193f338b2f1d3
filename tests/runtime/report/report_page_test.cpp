#include "troupe/runtime/report/report_page.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/checkpoint/strict_json.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace troupe {
namespace {

using testing::HasSubstr;
using testing::Not;

// The JSON that stands in a page, as a browser finds it: up to the first end of a script.
std::string data_in(const std::string& page) {
  const std::string begin = "<script type=\"application/json\" id=\"data\">";
  const auto from = page.find(begin) + begin.size();
  return page.substr(from, page.find("</script", from) - from);
}

nlohmann::json only_run(const RunCard& card, const MetricCurves& curves) {
  const auto data = parse_strict_json(data_in(report_page(std::vector<RunView>{{card, curves}})));
  return data.at("runs").at(0);
}

MetricCurves curves_of(const std::string& name, const std::vector<double>& values) {
  MetricCurves curves;
  for (std::size_t i = 0; i < values.size(); ++i) curves.add({static_cast<int64_t>(10 * i), 0, {{name, values[i]}}});
  return curves;
}

TEST(ReportPage, IsOneFileThatLoadsNothing) {
  const auto page = report_page(std::vector<RunView>{{RunCard(), MetricCurves()}});
  EXPECT_TRUE(page.starts_with("<!doctype html>"));
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
  for (const auto* loads :
       {"http://", "https://", "src=", "@import", "url(", "fetch(", "XMLHttpRequest", "innerHTML"}) {
    EXPECT_THAT(page, Not(HasSubstr(loads)));
  }
}

TEST(ReportPage, PacksACurveAsDifferencesAndDigits) {
  MetricCurves curves;
  curves.add({5, 0, {{"loss", 0.1F}}}, 100.26);
  curves.add({15, 0, {{"loss", 1.0 / 3}}}, 101);
  curves.add({25, 2, {{"loss", -2e-30}}}, 102);
  const auto run = only_run(RunCard(), curves);
  EXPECT_EQ(run.at("curves").at(0).dump(),
            "{\"count\":3,\"epoch\":\"0,0,2000\",\"name\":\"loss\",\"step\":\"5,10,10\",\"time\":\"1003,7,10\","
            "\"value\":\"0.1,0.333333333,-2e-30\"}");
}

TEST(ReportPage, KeepsNumbersThatJsonDoesNotHave) {
  const double infinity = std::numeric_limits<double>::infinity();
  auto card = RunCard();
  card.metrics = {{"loss", std::nan("")}};
  const auto run = only_run(card, curves_of("loss", {std::nan(""), infinity, -infinity, 1.7e308, 5e-324}));
  EXPECT_EQ(run.at("curves").at(0).at("value"), "n,i,-i,1.7e+308,4.94065646e-324");
  EXPECT_EQ(run.at("card").at("metrics").at("loss"), "NaN");
}

TEST(ReportPage, HoldsEveryNameAsText) {
  const std::string hostile = "</script><img src=x onerror=alert(1)><!--<script>\xE2\x80\xA8\xE2\x80\xA9&\"'\\u003c";
  auto card = RunCard();
  card.name = card.message = hostile;
  card.options = {{hostile, hostile}};
  card.warnings = {hostile};
  const auto page = report_page(std::vector<RunView>{{card, curves_of(hostile, {1})}});
  const auto text = data_in(page);
  for (const auto* mark : {"<", "\xE2\x80\xA8", "\xE2\x80\xA9"}) EXPECT_THAT(text, Not(HasSubstr(mark)));
  const auto run = parse_strict_json(text).at("runs").at(0);
  EXPECT_EQ(run.at("card").at("name"), hostile);
  EXPECT_EQ(run.at("card").at("options").at(hostile), hostile);
  EXPECT_EQ(run.at("curves").at(0).at("name"), hostile);
}

TEST(ReportPage, SpellsOptionsAsTheCommandLineTakesThem) {
  auto card = RunCard();
  card.options = {{"trainer", {{"seed", 6283658607547580619}, {"limit_train_batches", 1.0}, {"devices", 1}}},
                  {"model", {{"betas", {0.5, 1.0}}, {"odd", nlohmann::json::array({"a,b", "c"})}}}};
  card.options["trainer"]["loggers"] = nlohmann::json::array({"csv", "jsonl"});
  const auto all = only_run(card, curves_of("a", {1})).at("card").at("options");
  EXPECT_EQ(all.at("model").at("betas"), "[0.5,1.0]");
  const auto& options = all.at("trainer");
  EXPECT_EQ(options.at("seed"), "6283658607547580619");
  EXPECT_EQ(options.at("limit_train_batches"), "1.0");
  EXPECT_EQ(options.at("devices"), "1");
  EXPECT_EQ(options.at("loggers"), "csv,jsonl");
  EXPECT_EQ(all.at("model").at("odd"), R"(["a,b","c"])") << "a comma within a word would tell other words";
}

TEST(ReportPage, ReplacesBytesThatAreNotUtf8) {
  auto card = RunCard();
  card.options = {{"path", "\xFF/x"}};
  card.stage = "\xC0";
  const auto run = only_run(card, curves_of("a\xFE", {1}));
  EXPECT_EQ(run.at("card").at("options").at("path"), "\xEF\xBF\xBD/x");
  EXPECT_EQ(run.at("curves").at(0).at("name"), "a\xEF\xBF\xBD");
}

TEST(ReportPage, TakesRunsWithoutPointsAndWithMany) {
  EXPECT_EQ(parse_strict_json(data_in(report_page({}))).at("runs").size(), 0u);
  EXPECT_EQ(only_run(RunCard(), MetricCurves()).at("curves").size(), 0u);
  MetricCurves curves;
  for (int i = 0; i < 300; ++i) curves.add({1, -1, {{"metric " + std::to_string(i), 1}}});
  const auto run = only_run(RunCard(), curves);
  EXPECT_EQ(run.at("curves").size(), 300u);
  EXPECT_FALSE(run.at("curves").at(0).contains("epoch"));
}

TEST(ReportPage, StaysBelowTwoMegabytesForALongRun) {
  MetricCurves curves;
  for (int64_t step = 0; step < 100000; ++step) {
    ScalarsRecord record{step, step / 1000, {}};
    for (int i = 0; i < 20; ++i) {
      record.values.emplace_back("metric_" + std::to_string(i), std::sin(0.7 * static_cast<double>(step * (i + 1))));
    }
    curves.add(record, 1.7e9 + 0.01 * static_cast<double>(step));
  }
  const auto page = report_page(std::vector<RunView>{{RunCard(), curves}});
  EXPECT_LT(page.size(), 2'000'000u);
  EXPECT_EQ(parse_strict_json(data_in(page)).at("runs").at(0).at("curves").at(0).at("count"), 100000);
}

TEST(ReportPage, BeginsWithTheFirstValueAndEndsWithTheLatest) {
  MetricCurves curves;
  curves.curves.emplace("loss", MetricCurve(4));
  for (int64_t step = 0; step < 64; ++step) {
    curves.add({step, 0, {{"loss", step == 0 ? 0.25 : step == 63 ? 0.5 : step % 2}}});
  }
  const auto curve = only_run(RunCard(), curves).at("curves").at(0);
  const std::string values = curve.at("value"), means = curve.at("mean");
  EXPECT_EQ(std::ranges::count(values, ','), std::ranges::count(means, ','));
  EXPECT_TRUE(values.starts_with("0.25,") && values.ends_with(",0.5")) << values;
}

TEST(ReportPage, IsReplacedAsAWhole) {
  TempDir dir;
  const auto path = dir / "report.html";
  put(path, "old");
  write_report_page(std::vector<RunView>{{RunCard(), MetricCurves()}}, path);
  EXPECT_TRUE(content_of(path).ends_with("</html>\n"));
}

}  // namespace
}  // namespace troupe
