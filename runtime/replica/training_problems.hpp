// Diagnostics of trainings that cannot work, or silently do less than they seem to.
#pragma once

#include "troupe/runtime/replica/gradient_sync.hpp"
#include "troupe/runtime/replica/replica_core.hpp"
#include "troupe/runtime/replica/train_step.hpp"

#include <torch/types.h>

#include <cstddef>
#include <vector>

namespace troupe {

/// Throws UsageError for a loss that no parameter leads to.
void refuse_untrainable(const Module& module, const char* what, const torch::Tensor& loss);
/// Throws UsageError for an optimizer that has a parameter twice.
void refuse_repeated_parameters(const ReplicaCore& core);
/// An optimizer must not train what a checkpoint lacks, ranks do not average and a device does not get: throws
/// UsageError for such a parameter. `checked` is how many the optimizer had at the last look; more are looked at again.
void refuse_foreign_parameters(const ReplicaCore& core, const GradientSync& sync, std::size_t optimizer,
                               std::size_t& checked);
/// Throws UsageError for options that do nothing with manual optimization.
void refuse_options_of_automatic_optimization(const TrainerOptions& options);
/// Says which layers are in eval mode when fit begins.
void note_layers_in_eval_mode(const ReplicaCore& core);
/// Before the first batch, when the callbacks are known: warns of what only several ranks exchange if there is one.
/// Throws UsageError for a callback that does not go with local_sgd and diloco.
void check_communication(const ReplicaCore& core);
/// When the gradients of an optimizer's first step are there, if TrainerOptions::detect_unused_parameters asks for it:
/// says which parameters got none, and which no optimizer has.
void note_unused_parameters(const ReplicaCore& core, std::size_t optimizer, std::vector<OptimizerTrack>& tracks);

}  // namespace troupe
