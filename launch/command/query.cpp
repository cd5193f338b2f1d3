#include "troupe/base/failure.hpp"
#include "troupe/base/number_json.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/command/command.hpp"
#include "troupe/launch/command/metric_names.hpp"
#include "troupe/launch/command/run_list.hpp"
#include "troupe/runtime/report/metric_curves.hpp"
#include "troupe/runtime/sinks/csv_line.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <limits>
#include <memory>

namespace troupe::command {
namespace {

struct QueryOptions {
  bool last = false;
  bool min = false;
  bool max = false;
  bool json = false;
  bool csv = false;
};
TROUPE_OPTIONS(QueryOptions, (last, "only the last point of each metric"),
               (min, "only the point with the smallest value of each"),
               (max, "only the point with the greatest value of each"),
               (json, "print one JSON array of objects: metric, step, epoch, value"),
               (csv, "print a table with commas: metric,step,epoch,value"))

using Point = MetricCurve::Point;

struct QueriedMetric {
  std::string name;
  std::vector<Point> points;
};

/// The first one that is `before` all others, those that are not a number left aside.
template <class Before>
std::vector<Point> extreme(const std::vector<Point>& points, Before before) {
  const Point* found = nullptr;
  for (const auto& point : points) {
    if (!std::isnan(point.value) && (!found || before(point.value, found->value))) found = &point;
  }
  return found ? std::vector<Point>{*found} : std::vector<Point>{};
}

std::vector<Point> chosen_points(const MetricCurve& curve, const QueryOptions& options) {
  if (options.last) return {curve.last()};
  if (options.min) return extreme(curve.points(), std::less<>());
  if (options.max) return extreme(curve.points(), std::greater<>());
  return curve.points();
}

std::string epoch_text(const Point& point) {
  if (point.epoch < 0) return "";
  const auto text = double_to_text(point.epoch);
  return text.ends_with(".0") ? text.substr(0, text.size() - 2) : text;
}

std::string json_of(const std::vector<QueriedMetric>& metrics) {
  std::string out = "[";
  for (const auto& metric : metrics) {
    for (const auto& point : metric.points) {
      nlohmann::ordered_json object = {{"metric", valid_utf8(metric.name)}, {"step", point.step}, {"epoch", nullptr}};
      if (point.epoch >= 0) object["epoch"] = point.epoch;
      object["value"] = number_to_json(point.value);
      out += (out.size() > 1 ? ",\n " : "") + object.dump();
    }
  }
  return out + "]\n";
}

std::string csv_of(const std::vector<QueriedMetric>& metrics) {
  std::string out = "metric,step,epoch,value\n";
  for (const auto& metric : metrics) {
    for (const auto& point : metric.points) {
      out += quoted_csv_cell(metric.name) + "," + std::to_string(point.step) + "," + epoch_text(point) + "," +
             double_to_text(point.value) + "\n";
    }
  }
  return out;
}

std::string table_of(const std::vector<QueriedMetric>& metrics, const Screen& screen) {
  std::vector<std::vector<Cell>> rows;
  for (const auto& metric : metrics) {
    for (const auto& point : metric.points) {
      rows.push_back({{single_line(metric.name)},
                      {std::to_string(point.step)},
                      {epoch_text(point)},
                      {double_to_text(point.value)}});
    }
  }
  return table({{"metric", false, 8}, {"step", true}, {"epoch", true}, {"value", true}}, rows, screen);
}

/// The names, for who does not know them.
int list_metrics(const std::vector<std::string>& names, const QueryOptions& options, const Screen& screen) {
  if (options.json) {
    screen.print(nlohmann::json(names).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    return succeeded;
  }
  std::string out;
  for (const auto& name : names) out += single_line(name) + "\n";
  screen.print(out);
  return succeeded;
}

int query(const std::vector<std::string>& arguments, const QueryOptions& options, const Screen& screen) {
  if (options.last + options.min + options.max > 1) throw UsageError("--last, --min and --max exclude each other");
  if (options.json && options.csv) throw UsageError("--json and --csv exclude each other");
  const auto folder = find_run(arguments[0]);
  const auto curves = read_metric_curves(folder, std::numeric_limits<std::size_t>::max());
  if (curves.damaged_rows > 0) {
    std::cerr << "troupe: left out " << curves.damaged_rows << " damaged line" << (curves.damaged_rows == 1 ? "" : "s")
              << " of the metrics in " + shown(folder.string()) + "\n";
  }
  std::vector<std::string> names;
  for (const auto& [name, curve] : curves.curves) names.push_back(name);
  if (arguments.size() == 1) return list_metrics(names, options, screen);
  std::vector<QueriedMetric> metrics;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    check_metric(arguments[i], names, " in " + shown(folder.string()));
    metrics.push_back({arguments[i], chosen_points(curves.curves.find(arguments[i])->second, options)});
  }
  screen.print(options.json ? json_of(metrics) : options.csv ? csv_of(metrics) : table_of(metrics, screen));
  return succeeded;
}

}  // namespace

Command query_command() {
  const auto options = std::make_shared<QueryOptions>();
  return {.name = "query",
          .summary = "print the points of a metric",
          .arguments = {"RUN [METRIC...]", 1, std::numeric_limits<std::size_t>::max(), Completion::metrics},
          .text =
              "Prints every point of the metrics as they were logged, from metrics.jsonl or metrics.csv of the run:\n"
              "step, epoch and value. Without METRIC it prints the names of the metrics, a line each.",
          .examples = {{"last", "which metrics the newest run has"},
                       {"digits val_loss --min", "the best val_loss of the newest run called digits"},
                       {"digits/version_3 train_loss val_loss --csv > curves.csv", "two curves for a spreadsheet"},
                       {"last train_loss --json | jq '.[-1].value'", "for other programs"}},
          .options = option_refs(*options),
          .values = {},
          .letters = {},
          .run = [options](const auto& arguments, const Screen& screen) { return query(arguments, *options, screen); }};
}

}  // namespace troupe::command
