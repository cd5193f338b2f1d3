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
  if (count_++ == 0) first_ = point;
  last_ = point;
  // The group that takes the point must have room for all that may stay of it. Joining makes fewer groups, though not
  // always fewer points at once.
  const auto size_to_come = [this] {
    const std::size_t others = points_.size() - (in_last_ < joined_ && !groups_.empty() ? groups_.back().kept : 0);
    return others + (joined_ == 1 ? 1 : 3);
  };
  while (size_to_come() > most_points_) join_groups();
  if (in_last_ == joined_ || groups_.empty()) {
    groups_.emplace_back();
    in_last_ = 0;
  }
  points_.push_back(point);
  ++in_last_;
  auto& group = groups_.back();
  if (std::isfinite(point.value)) group.add(point.value, 1);
  const std::size_t before = group.kept;
  const auto kept = thin_group(std::span(points_).last(before + 1));
  points_.resize(points_.size() - (before + 1) + kept);
  group.kept = static_cast<uint8_t>(kept);
}

void MetricCurve::Group::add(double other, int64_t others) {
  if (others == 0) return;
  finite += others;
  mean += (other - mean) * (static_cast<double>(others) / static_cast<double>(finite));
}

std::vector<double> MetricCurve::means() const {
  std::vector<double> means;
  for (const auto& group : groups_) means.insert(means.end(), group.kept, group.finite > 0 ? group.mean : std::nan(""));
  return means;
}

void MetricCurve::join_groups() {
  // Two points make a group of two: only from four on it becomes fewer.
  const std::size_t together = joined_ == 1 ? 4 : 2;
  std::size_t from = 0, to = 0, joined = 0;
  const std::size_t all = groups_.size();
  in_last_ += joined_ * static_cast<int64_t>((all - 1) % together);
  for (std::size_t first = 0; first < all; first += together) {
    Group group;
    std::size_t size = 0;
    for (std::size_t i = first; i < std::min(first + together, all); ++i) {
      size += groups_[i].kept;
      group.add(groups_[i].mean, groups_[i].finite);
    }
    const auto kept = thin_group(std::span(points_).subspan(from, size));
    std::copy_n(points_.begin() + static_cast<std::ptrdiff_t>(from), kept,
                points_.begin() + static_cast<std::ptrdiff_t>(to));
    from += size;
    to += kept;
    group.kept = static_cast<uint8_t>(kept);
    groups_[joined++] = group;
  }
  points_.resize(to);
  groups_.resize(joined);
  joined_ *= static_cast<int64_t>(together);
}

void MetricCurves::add(const ScalarsRecord& record, double time) {
  for (const auto& [name, value] : record.values) {
    curves[name].add({record.step, static_cast<double>(record.epoch), value, time});
  }
}

}  // namespace troupe
