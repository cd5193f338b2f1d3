// Validations beside the training (trainer.async_validation) in checkpoints.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/loops/facts.hpp"

#include <cstdint>

namespace troupe {

/// Adds a validation that has not come to its end, behind those that are there: its tensors below `validation.<i>.`,
/// the same ones as the model's; the rest in `validations` of the metadata.
void append_validation(Checkpoint& checkpoint, const ModelAtStep& model);
/// Number `index` of these, with the checkpoint's tensors. Throws CheckpointError for what is missing or damaged.
ModelAtStep validation_in(const Checkpoint& checkpoint, int64_t index);

}  // namespace troupe
