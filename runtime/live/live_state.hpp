// What viewers are shown of a run, out of its card and curves.
#pragma once

#include "troupe/runtime/live/live_message.hpp"
#include "troupe/runtime/report/metric_curves.hpp"
#include "troupe/runtime/report/run_card.hpp"

namespace troupe::live {

/// Values of a curve that are shown at most, each the mean of a stretch of it.
inline constexpr std::size_t most_shown_values = 60;

State state_of(const RunCard& card, const MetricCurves& curves);

}  // namespace troupe::live
