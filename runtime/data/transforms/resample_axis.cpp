#include "troupe/runtime/data/transforms/resample_axis.hpp"

#include "troupe/base/failure.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace troupe::transforms {

/// A stretch of a source that becomes `resized` outputs. Positions are relative to `origin`, a whole pixel, so that a
/// stretch of whole pixels has the same weights as an image of its own.
struct ResampleAxis::Stretch {
  Stretch(double begin, double size, int64_t resized)
      : origin(static_cast<int64_t>(std::floor(begin))),
        fraction(begin - std::floor(begin)),
        pixels(static_cast<int64_t>(std::ceil(fraction + size))),
        scale(size / static_cast<double>(resized)),
        support(scale >= 1 ? scale : 1) {}

  double center(int64_t output) const { return fraction + scale * (static_cast<double>(output) + 0.5); }
  PixelRange around(double at, int64_t lowest, int64_t highest) const {
    return {std::max(static_cast<int64_t>(at - support + 0.5), lowest),
            std::min(static_cast<int64_t>(at + support + 0.5), highest)};
  }

  int64_t origin;
  double fraction;
  int64_t pixels;
  double scale, support;
};

namespace {

int64_t most_taps(double support) {
  return static_cast<int64_t>(std::ceil(support)) * 2 + 1;
}

}  // namespace

PixelRange ResampleAxis::needed(double begin, double size, int64_t resized, int64_t first, int64_t end) {
  const Stretch stretch(begin, size, resized);
  const int64_t lowest = stretch.around(stretch.center(first), 0, stretch.pixels).begin;
  const int64_t highest = stretch.around(stretch.center(end - 1), 0, stretch.pixels).end;
  return {stretch.origin + lowest, stretch.origin + highest};
}

void ResampleAxis::prepare(double begin, double size, int64_t resized, int64_t first, int64_t end, int64_t limit) {
  const Stretch stretch(begin, size, resized);
  count = end - first;
  is_identity = stretch.fraction == 0 && size == static_cast<double>(resized);
  shift = stretch.origin + first;
  if (is_identity) {
    if (shift >= 0 && shift + count <= limit) return;
    throw UsageError("the box begins at pixel " + std::to_string(shift) + " and has " + std::to_string(count) +
                     " pixels, which a source of " + std::to_string(limit) + " does not have");
  }
  const double most = find_shares(stretch, resized, first, end, limit);
  for (precision = 0; precision < 22; ++precision) {
    if (static_cast<int>(0.5 + most * (1 << (precision + 1))) >= (1 << 15)) break;
  }
  const auto width = static_cast<std::size_t>(most_taps(stretch.support)), outputs = static_cast<std::size_t>(count);
  taps = (*std::max_element(used.begin(), used.end()) + 3) / 4 * 4;
  weights.assign(outputs * static_cast<std::size_t>(taps), 0);
  for (std::size_t row = 0; row < outputs; ++row) {
    int16_t* const to = &weights[row * static_cast<std::size_t>(taps)];
    for (int32_t i = 0; i < used[row]; ++i) {
      to[i] = static_cast<int16_t>(shares_[row * width + static_cast<std::size_t>(i)] * (1 << precision) + 0.5);
    }
  }
}

double ResampleAxis::find_shares(const Stretch& stretch, int64_t resized, int64_t first, int64_t end, int64_t limit) {
  // What lies in the stretch and in the source.
  const int64_t lowest = std::max<int64_t>(0, -stretch.origin);
  const int64_t highest = std::min(stretch.pixels, limit - stretch.origin);
  const double inverse = stretch.scale >= 1 ? 1 / stretch.scale : 1;
  const int64_t most_used = most_taps(stretch.support);
  const auto width = static_cast<std::size_t>(most_used);
  start.resize(static_cast<std::size_t>(count));
  used.resize(static_cast<std::size_t>(count));
  // One row more, for outputs that nobody wants: the largest weight of all outputs sets the precision.
  shares_.resize((start.size() + 1) * width);
  double most = 0;
  for (int64_t output = 0; output < resized; ++output) {
    const bool is_wanted = output >= first && output < end;
    const double center = stretch.center(output);
    const auto [from, to] =
        is_wanted ? stretch.around(center, lowest, highest) : stretch.around(center, 0, stretch.pixels);
    const int64_t taken = std::min(to - from, most_used);
    if (taken < 1) {
      throw UsageError("a result needs pixel " + std::to_string(stretch.origin + static_cast<int64_t>(center)) +
                       " of a source that has " + std::to_string(limit));
    }
    const auto row = is_wanted ? static_cast<std::size_t>(output - first) : start.size();
    double* const share = &shares_[row * width];
    double total = 0;
    for (int64_t i = 0; i < taken; ++i) {
      const double distance = std::abs((static_cast<double>(i + from) - center + 0.5) * inverse);
      share[i] = distance < 1 ? 1 - distance : 0;
      total += share[i];
    }
    for (int64_t i = 0; i < taken; ++i) {
      if (total != 0) share[i] /= total;
      most = std::max(most, share[i]);
    }
    if (!is_wanted) continue;
    start[row] = stretch.origin + from;
    used[row] = static_cast<int32_t>(taken);
  }
  return most;
}

}  // namespace troupe::transforms
