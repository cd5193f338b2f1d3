#include "troupe/runtime/report/metric_curves.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

namespace troupe {

namespace {

/// What stays of a group's points: the smallest, the largest (of equal ones the first and the last) and the first that
/// is not finite, in their order, at the front. How many these are: 1 to 3.
std::size_t thin_group(std::span<MetricCurve::Point> group) {
  const MetricCurve::Point *low = nullptr, *high = nullptr, *odd = nullptr;
  for (const auto& point : group) {
    if (!std::isfinite(point.value)) {
      if (!odd) odd = &point;
      continue;
    }
    if (!low || point.value < low->value) low = &point;
    if (!high || point.value >= high->value) high = &point;
  }
  std::size_t kept = 0;
  for (auto& point : group) {
    if (&point == low || &point == high || &point == odd) group[kept++] = point;
  }
  return kept;
}

}  // namespace

MetricCurve::MetricCurve(std::size_t most_points) : most_points_(std::max<std::size_t>(most_points, 4)) {}

void MetricCurve::add(const Point& point) {
  last_ = point;
  ++count_;
  // A group that begins must have room for all that may stay of it. Joining makes fewer groups, though not always fewer
  // points at once.
  while (in_last_ == joined_ && points_.size() + (joined_ == 1 ? 1 : 3) > most_points_) join_groups();
  if (in_last_ == joined_ || kept_.empty()) {
    kept_.push_back(0);
    in_last_ = 0;
  }
  points_.push_back(point);
  ++in_last_;
  const std::size_t before = kept_.back();
  const auto kept = thin_group(std::span(points_).last(before + 1));
  points_.resize(points_.size() - (before + 1) + kept);
  kept_.back() = static_cast<uint8_t>(kept);
}

void MetricCurve::join_groups() {
  // Two points make a group of two: only from four on it becomes fewer.
  const std::size_t together = joined_ == 1 ? 4 : 2;
  std::size_t from = 0, to = 0, groups = 0;
  const std::size_t all = kept_.size();
  in_last_ = joined_ * static_cast<int64_t>((all - 1) % together) + in_last_;
  for (std::size_t group = 0; group < all; group += together) {
    std::size_t size = 0;
    for (std::size_t i = group; i < std::min(group + together, all); ++i) size += kept_[i];
    const auto kept = thin_group(std::span(points_).subspan(from, size));
    std::copy_n(points_.begin() + static_cast<std::ptrdiff_t>(from), kept,
                points_.begin() + static_cast<std::ptrdiff_t>(to));
    from += size;
    to += kept;
    kept_[groups++] = static_cast<uint8_t>(kept);
  }
  points_.resize(to);
  kept_.resize(groups);
  joined_ *= static_cast<int64_t>(together);
}

void MetricCurves::add(const ScalarsRecord& record, double time) {
  for (const auto& [name, value] : record.values) {
    curves[name].add({record.step, static_cast<double>(record.epoch), value, time});
  }
}

}  // namespace troupe
