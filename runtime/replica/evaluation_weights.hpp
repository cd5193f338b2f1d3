// Optimizers whose weights to evaluate are not those that they train (optim::EvaluationWeights), in a run.
#pragma once

#include "troupe/runtime/replica/gradient_sync.hpp"
#include "troupe/runtime/replica/replica_core.hpp"

namespace troupe {

/// Puts the weights to evaluate into the module, on all ranks. False if they are there, or no optimizer has any.
/// Collective if ranks divide optimizers.
bool show_evaluation_weights(ReplicaCore& core, const GradientSync& sync);
/// Puts back those that train. False if they are there. Collective if ranks divide optimizers.
bool show_training_weights(ReplicaCore& core, const GradientSync& sync);
/// Whether an optimizer has weights to evaluate.
bool has_evaluation_weights(const ReplicaCore& core);

}  // namespace troupe
