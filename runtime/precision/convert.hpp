// Floating-point tensors in the format of a run.
#pragma once

#include "troupe/modules/batch.hpp"

#include <torch/nn/module.h>

namespace troupe {

/// Converts the floating-point parameters and buffers of `module` to `type`; whole numbers stay what they are, which
/// torch::nn::Module::to does not promise.
void set_floating_type(torch::nn::Module& module, torch::ScalarType type);

/// The batch with its floating-point tensors in `type`.
Batch with_floating_type(Batch batch, torch::ScalarType type);

}  // namespace troupe
