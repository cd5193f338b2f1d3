// A line of metrics.jsonl.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// `value` as a step: the nearest whole number in range, 0 for NaN.
int64_t metric_step(double value);

/// {"step": 49, "epoch": 0, "time": 1764447600.5, "values": {"train_loss": 0.25, "grad_norm": "NaN"}}; epoch and time
/// may be missing or null. One object reads many lines, so that its memory is kept.
class MetricRow {
 public:
  /// False, and the row is of no use, for what is no such line.
  bool parse(std::string_view line);

  int64_t step = 0;
  double epoch = -1;
  double time = -1;  ///< seconds since 1970
  std::size_t size() const { return size_; }
  const std::string& name(std::size_t i) const { return names_[i]; }
  double value(std::size_t i) const { return values_[i]; }

 private:
  friend class MetricRowReader;
  friend class PlainMetricRow;

  void clear();
  /// A value for whose name there is none yet.
  void begin_value(std::string_view name);
  /// Of the latest name.
  void end_value(double value) { values_[size_++] = value; }

  std::size_t size_ = 0;
  std::vector<std::string> names_;  // may be longer than size_
  std::vector<double> values_;
};

}  // namespace troupe
