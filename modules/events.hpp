// What callback actors can listen to (modules/callback_actor.hpp).
#pragma once

#include "troupe/modules/progress.hpp"
#include "troupe/modules/stage.hpp"

#include <filesystem>
#include <string>
#include <variant>

namespace troupe {

/// The first event of every stage.
struct RunStarted {
  Stage stage = Stage::fit;
  std::filesystem::path run_dir;  ///< empty if the run writes nothing
};
/// After every training batch. `metrics` are the latest callback metrics, the step's own among them.
struct TrainBatchEnded {
  Progress progress;
  MetricMap metrics;
};
/// After a validation during training, not after the sanity check.
struct ValidationEnded {
  Progress progress;
  MetricMap metrics;
};
/// After the hooks of the epoch's end; `progress.epoch` is the epoch that ended.
struct TrainEpochEnded {
  Progress progress;
  MetricMap metrics;
};
/// The file is complete and safe on the disk.
struct CheckpointSaved {
  std::filesystem::path path;
};
/// The last event of every stage. `reason` says why it ended, when that was not its natural end; `failed` that it ended
/// with an error.
struct RunEnded {
  Progress progress;
  MetricMap metrics;
  std::string reason;
  bool failed = false;
};

using Event = std::variant<RunStarted, TrainBatchEnded, ValidationEnded, TrainEpochEnded, CheckpointSaved, RunEnded>;

}  // namespace troupe
