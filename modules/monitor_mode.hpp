// Which values of a watched metric are better: EarlyStopping, ModelCheckpoint and reduce_on_plateau ask.
#pragma once

#include "troupe/modules/options/choices.hpp"

namespace troupe {

enum class MonitorMode {
  min,  ///< lower ones, as of a loss
  max,  ///< higher ones, as of an accuracy
};
TROUPE_CHOICES(MonitorMode, {min, "min"}, {max, "max"})

/// False if they are equal or one is NaN.
constexpr bool is_better(MonitorMode mode, double value, double than) {
  return mode == MonitorMode::min ? value < than : value > than;
}

}  // namespace troupe
