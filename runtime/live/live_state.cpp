#include "troupe/runtime/live/live_state.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace troupe::live {

namespace {

// Means of equal stretches; of points that are not finite only where a stretch has no other.
std::vector<double> shown_values(const MetricCurve& curve) {
  const auto means = curve.means();
  const std::size_t count = std::min(means.size(), most_shown_values);
  std::vector<double> values;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t begin = i * means.size() / count, end = (i + 1) * means.size() / count;
    double sum = 0;
    int64_t finite = 0;
    for (std::size_t k = begin; k < end; ++k) {
      if (!std::isfinite(means[k])) continue;
      sum += means[k];
      ++finite;
    }
    values.push_back(finite > 0 ? sum / static_cast<double>(finite) : std::numeric_limits<double>::quiet_NaN());
  }
  return values;
}

}  // namespace

State state_of(const RunCard& card, const MetricCurves& curves) {
  State state;
  state.run = card.name + "/" + card.version;
  state.stage = card.stage;
  state.message = card.message;
  state.host = card.environment.host;
  state.status = card.status;
  state.started = card.started;
  state.updated = card.updated;
  state.pid = card.environment.pid;
  state.devices = card.environment.devices;
  state.world_size = card.environment.world_size;
  state.progress = card.progress;
  state.total_batches = card.total_batches;
  state.seconds_left = card.seconds_left;
  state.metrics = card.metrics;
  for (const auto& [name, curve] : curves.curves) state.curves.emplace_back(name, shown_values(curve));
  const auto phases = std::ranges::find(card.phases, card.stage, &PhaseReport::stage);
  if (phases != card.phases.end()) state.phases = *phases;
  state.warnings = static_cast<int64_t>(card.warnings.size()) + card.more_warnings;
  if (!card.warnings.empty()) state.latest_warning = card.warnings.back();
  state.checkpoints = static_cast<int64_t>(card.checkpoints.size());
  state.best_checkpoint = card.best_checkpoint.string();
  return state;
}

}  // namespace troupe::live
