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
    double time = -1;  ///< seconds since 1970; -1 if it is not known
  };

  /// Of 4 points or more.
  explicit MetricCurve(std::size_t most_points = 2000);
  /// Takes constant time on average.
  void add(const Point& point);
  /// In the order in which they came.
  const std::vector<Point>& points() const { return points_; }
  int64_t count() const { return count_; }  ///< how many came
  /// By point of points(): the mean of the finite values of its group, which an average has to be taken over; NaN if
  /// there are none.
  std::vector<double> means() const;
  /// The first and the latest of all, which may have gone from points().
  const Point& first() const { return first_; }
  const Point& last() const { return last_; }

 private:
  struct Group {
    uint8_t kept = 0;    // how many of points_ are its own, 1 to 3
    int64_t finite = 0;  // points that it stands for
    double mean = 0;     // of these
    void add(double other, int64_t others);
  };

  void join_groups();

  std::size_t most_points_;
  std::vector<Point> points_;
  std::vector<Group> groups_;
  int64_t count_ = 0;
  int64_t joined_ = 1;   // points that a group stands for
  int64_t in_last_ = 0;  // points that the last group has had so far
  Point first_, last_;
};

/// Of all metrics of a run, by name.
struct MetricCurves {
  std::map<std::string, MetricCurve, std::less<>> curves;
  /// Rows that were cut short (a run that was killed, a full disk) or made no sense, and were left out.
  int64_t damaged_rows = 0;

  /// `time` in seconds since 1970; -1 if it is not known.
  void add(const ScalarsRecord& record, double time = -1);
};

/// Of metrics.jsonl (a JSON object a line: step, epoch, time, values) or metrics.csv (as CsvSink and Lightning's
/// CSVLogger write it) in a run's folder; of the first if both are there, which has the times, and none if neither is.
/// A torn last line is left out. Reads a line at a time. Throws UsageError with the path for a file that cannot be
/// read, that is no table of metrics, or that has a line above 16 MiB or more than 10,000 metrics.
MetricCurves read_metric_curves(const std::filesystem::path& folder);

}  // namespace troupe
