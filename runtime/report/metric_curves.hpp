// The metrics of a run as curves, thinned out so that a page can hold them.
#pragma once

#include "troupe/modules/record.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// One metric over the steps. Of a curve of more than `most_points` neighbours are joined, and of each group the
/// smallest and the largest value stay (so does one that is not finite): no spike is lost. Memory does not grow with
/// the run.
class MetricCurve {
 public:
  struct Point {
    int64_t step = 0;
    double epoch = -1;  ///< -1 if it has no meaning
    double value = 0;
  };

  explicit MetricCurve(std::size_t most_points = 2000);
  void add(const Point& point);
  /// In the order in which they came.
  const std::vector<Point>& points() const { return points_; }
  int64_t count() const { return count_; }  ///< how many came
  const Point& last() const { return last_; }

 private:
  std::size_t most_points_;
  std::vector<Point> points_;
  int64_t count_ = 0;
  int64_t joined_ = 1;  // points that a group stands for
  Point last_;
};

/// Of all metrics of a run, by name.
struct MetricCurves {
  std::map<std::string, MetricCurve, std::less<>> curves;
  /// Rows that were cut short (a run that was killed, a full disk) or made no sense, and were left out.
  int64_t damaged_rows = 0;

  void add(const ScalarsRecord& record);
};

/// Of metrics.jsonl or metrics.csv in a run's folder, whichever is there; none if neither is. A torn last line is left
/// out. Throws UsageError for a file that is no table of metrics.
MetricCurves read_metric_curves(const std::filesystem::path& folder);

}  // namespace troupe
