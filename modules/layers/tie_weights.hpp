// Two layers that share a parameter.
#pragma once

#include <torch/nn/module.h>

namespace troupe {

/// Makes `parameter`, a member of `layer` ("decoder->weight"), the same tensor as `other`: one gradient, one place in
/// Module::parameters(), and both names in checkpoints. LibTorch's layers register a parameter apart from the member
/// that their forward uses; this replaces both. Ties survive a move to a device, so that a constructor may make them;
/// Lightning's place is on_post_move_to_device.
///
///     tie_weights(*decoder_, decoder_->weight, embedding_->weight);
///
/// Throws UsageError if `layer` has no such parameter, and for other sizes.
void tie_weights(torch::nn::Module& layer, torch::Tensor& parameter, const torch::Tensor& other);

}  // namespace troupe
