// What a stage's script and a replica tell each other: of the data, and of a snapshot.
#pragma once

#include "troupe/modules/progress.hpp"
#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/logging/log_store.hpp"

#include <torch/types.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// What is known of the data once the loaders are there.
struct DataFacts {
  std::optional<int64_t> train_batches;  ///< an epoch, with limits; nothing for a stream without one
  bool has_training = false;
  std::vector<std::optional<int64_t>> eval_batches;  ///< of each evaluation loader, with limits
  bool has_evaluation = false;
  bool has_optimizer = false;
  std::vector<std::string> warnings;
};

/// What a snapshot is to hold besides the replica's own state.
struct SnapshotRequest {
  bool weights_only = false;                ///< leave out what only a resumed run needs
  nlohmann::json monitor_states = nullptr;  ///< what the monitors, which live elsewhere, want stored, by state_key
  nlohmann::json loop = nullptr;            ///< where the stage's script stands
  bool validation_was_cut = false;  ///< the run goes on with that validation: random states are those of its beginning
  bool on_all_ranks = false;        ///< every process gets the whole of it, not rank zero's alone
};

// Validation beside the training (trainer.async_validation), which a copy of the module does.

/// The module as it is at a step of the training: what such a copy needs to evaluate it. Nobody writes to the tensors.
struct ModelAtStep {
  Progress progress;
  /// The weights to evaluate as `model.<name>`, maybe with all that a checkpoint of this step has.
  std::shared_ptr<const Checkpoint> state;
  /// What a checkpoint for this validation holds, if that is not `state`: an epoch has ended with it.
  std::shared_ptr<const Checkpoint> saved;
  /// Weights that checkpoints do not have (Module::save_only_trainable), by the module's names.
  std::vector<std::pair<std::string, torch::Tensor>> left_out;
  std::vector<std::pair<std::string, torch::Tensor>> random_states;  ///< of the training's thread
  nlohmann::json latest;                                             ///< metrics so far: MetricBoard::latest
  int64_t batches = 0;                                               ///< of validations so far: CurveAxis
};

/// What came of it.
struct ValidationResult {
  Progress progress;               ///< of the training, when the weights were what was evaluated
  std::vector<LoggedValue> steps;  ///< the latest values that were logged with on_step
  std::vector<LoggedValue> epoch;  ///< those of the whole validation
  int64_t batches = 0;             ///< of validations so far, this one included
  bool had_batches = true;
  double seconds = 0;  ///< that it took
};

}  // namespace troupe
