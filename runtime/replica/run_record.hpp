// The state of a run as a checkpoint, and back.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/checkpoint/snapshot_memory.hpp"
#include "troupe/runtime/data/epoch_origin.hpp"
#include "troupe/runtime/replica/evaluation.hpp"
#include "troupe/runtime/replica/gradient_sync.hpp"
#include "troupe/runtime/replica/metric_board.hpp"
#include "troupe/runtime/replica/replica_core.hpp"
#include "troupe/runtime/replica/schedules.hpp"
#include "troupe/runtime/replica/train_stepper.hpp"

#include <torch/types.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// Before the training, and not after an epoch of it: throws UsageError for a model that no checkpoint can hold, if
/// there are to be any.
void refuse_unstorable(const ReplicaCore& core);

/// Asks each part of a replica for what a resumed run needs, and gives it back. Keys and tensors are listed in
/// docs/checkpoint-format.md. Used by the worker's thread.
class RunRecord {
 public:
  /// Whose state it is.
  struct Parts {
    ReplicaCore& core;
    MetricBoard& board;
    Schedules& schedules;
    GradientSync& sync;
    TrainStepper& stepper;
    Evaluation& evaluation;
    EpochOrigin& epoch_origin;
  };

  explicit RunRecord(const Parts& parts) : parts_(parts), core_(parts.core) {}
  RunRecord(const RunRecord&) = delete;
  RunRecord& operator=(const RunRecord&) = delete;

  /// See Replica. Collective.
  Checkpoint snapshot(const SnapshotRequest& request);
  /// See RunContext. Not collective: the others may be anywhere.
  void save(const std::filesystem::path& path);

  // --- In this order, from ReplicaSetup::checkpoint. They throw UsageError for what is damaged or does not fit. ---

  /// Before anything else. Throws UsageError for a checkpoint of weights only.
  void restore_progress();
  /// When the module is on its device.
  void restore_model();
  /// When the optimizers are there. Collective.
  void restore_rest();

 private:
  Checkpoint own_state(const SnapshotRequest& request);
  Checkpoint given_to_all(Checkpoint own);
  std::vector<std::pair<std::string, torch::Tensor>> named_parameters() const;
  void append_callbacks(Checkpoint& checkpoint, const nlohmann::json& monitor_states) const;
  void append_training_state(Checkpoint& checkpoint, const SnapshotRequest& request);
  void restore_callbacks();
  void restore_optimizers();
  void restore_counters();
  // run_record_ranks.cpp
  void append_own_optimizers(Checkpoint& state);
  std::optional<Checkpoint> own_optimizers(const Checkpoint& checkpoint) const;
  Checkpoint rank_state(bool validation_was_cut);
  void append_rank_states(Checkpoint& checkpoint, bool validation_was_cut);
  void restore_rank_state();
  void restore_own_rank(const Checkpoint& own);
  std::vector<Checkpoint> states_of_all() const;
  void restore_of_all_ranks();

  const Parts parts_;
  ReplicaCore& core_;
  SnapshotMemory snapshot_memory_;
  double saved_at_ = 0;  // of the latest checkpoint, at first of the one that the run goes on from
};

}  // namespace troupe
