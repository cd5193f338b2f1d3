// What callback actors can listen to. An actor takes the events that its behavior names and never sees the others.
#pragma once

#include "troupe/modules/progress.hpp"
#include "troupe/modules/stage.hpp"

#include <caf/allowed_unsafe_message_type.hpp>

#include <filesystem>
#include <string>
#include <variant>

namespace troupe {

/// The first event of every stage.
struct RunStarted {
  Stage stage = Stage::fit;
  std::filesystem::path run_dir;  ///< empty where the run writes nothing
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

namespace cast {

/// To an usher: an event for its callback actor.
struct Publish {
  Event event;
};

}  // namespace cast

}  // namespace troupe

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::Publish)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::RunStarted)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::TrainBatchEnded)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::ValidationEnded)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::TrainEpochEnded)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::CheckpointSaved)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::RunEnded)
