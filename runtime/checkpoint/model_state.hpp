// A model's weights in a checkpoint: `model.<name>` for every parameter and buffer.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint.hpp"

#include <torch/nn/module.h>

#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// The parameters and buffers by their names, each tensor as often as it is registered; those that are defined.
std::vector<std::pair<std::string, torch::Tensor>> named_model_tensors(const torch::nn::Module& module);

/// Those that checkpoints have: all, or what Module::save_only_trainable leaves.
std::vector<std::pair<std::string, torch::Tensor>> saved_model_tensors(const torch::nn::Module& module);

/// Gives parameters and buffers whose elements share memory, as `expand` makes them, memory for each element. Nobody
/// can write to them otherwise: no checkpoint, no average of weights, no other rank. The tensors stay the objects that
/// they are. Called by the thread that owns the module.
void separate_elements(const torch::nn::Module& module);

/// Throws UsageError with the name of a parameter or buffer that has no values (it is on the device meta), which no
/// device can be given.
void refuse_meta(const torch::nn::Module& module);

/// Throws UsageError with the name of a parameter or buffer that a checkpoint cannot hold: sparse, quantized, of a type
/// that the file format does not have.
void check_model_storable(const torch::nn::Module& module);

/// Adds saved_model_tensors under their registered names, which are those of PyTorch's `state_dict()`. The
/// tensors are the live ones, not copies: whoever writes the checkpoint while training goes on copies them first.
void append_model_state(Checkpoint& checkpoint, const torch::nn::Module& module);

/// Names that a checkpoint and a model do not share; as PyTorch's load_state_dict gives them back.
struct IncompatibleKeys {
  std::vector<std::string> missing_keys;     ///< the model has them, the checkpoint has not
  std::vector<std::string> unexpected_keys;  ///< the checkpoint has them, the model has not
};

/// "2 missing in it: a, b; 1 left over in it: c", as Differences has it; empty if there are none.
std::string describe(const IncompatibleKeys& keys);

/// Copies the values into the module's own tensors, which keep their device, their type and their address (an optimizer
/// goes on to hold them). Called by the thread that owns the module.
///
/// Throws UsageError ("the checkpoint belongs to another model: ...") with the numbers and the first ten of the names
/// that are missing, those that are left over, and the shapes and types that differ; the module is unchanged then.
/// What checkpoints do not have (saved_model_tensors) may be missing. Without `strict`, missing and left-over names are
/// passed over and returned, as in PyTorch; shapes must fit all the same. Tensors whose elements share memory get
/// memory for each (separate_elements).
IncompatibleKeys load_model_state(const Checkpoint& checkpoint, torch::nn::Module& module, bool strict);

}  // namespace troupe
