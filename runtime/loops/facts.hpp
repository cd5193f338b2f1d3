// What a stage's script and a replica tell each other: of the data, and of a snapshot.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
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

}  // namespace troupe
