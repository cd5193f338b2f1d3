// Losses and gradients that are not finite, or far from what they were, before an optimizer makes a step of them.
#pragma once

#include "troupe/runtime/replica/replica_core.hpp"
#include "troupe/runtime/replica/train_step.hpp"

#include <torch/types.h>
#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace troupe {

/// Whether the options have losses judged, which reads each one.
bool watches_losses(const TrainerOptions& options);
/// Compares a loss with those before it. One that is not finite or a spike stops the run (throws std::runtime_error),
/// marks the window's step as one to leave out, or is said, as TrainerOptions::nonfinite has it.
void judge_loss(const ReplicaCore& core, OptimizerTrack& track, const torch::Tensor& loss, int64_t batch_idx);
/// Whether the step has to be left out; the same on all ranks, and collective if steps are left out at all. Throws
/// std::runtime_error if the run is to stop. The scaler of float16 has a say of its own about gradients, which are not
/// looked at then.
bool has_bad_numbers(const ReplicaCore& core, OptimizerTrack& track, std::size_t optimizer, bool looks_at_gradients);

/// The latest losses of each track, for a checkpoint.
nlohmann::json recent_losses(const std::vector<OptimizerTrack>& tracks);
/// Throws UsageError for what is no such state.
void restore_recent_losses(std::vector<OptimizerTrack>& tracks, const nlohmann::json& saved);

}  // namespace troupe
