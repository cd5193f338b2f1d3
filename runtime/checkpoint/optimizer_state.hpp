// An optimizer's state in a checkpoint, by the names of the parameters.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint.hpp"

#include <torch/optim/optimizer.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// Adds what optimizer number `index` needs to go on, bit for bit: tensors `optimizer.<index>.<param name>.<state>`
/// (counters too, as tensors of one number) and `metadata["optimizers"][index]`:
///
///   {"class": "Adam", "groups": [{"params": ["fc.weight"], "lr": 0.001, "betas": [0.9, 0.999], ...}]}
///
/// Known are those of troupe::optim ("FusedAdam", "ForeachRmsprop" and so on, the names of their classes) and
/// LibTorch's SGD, Adam, AdamW, RMSprop, Adagrad and LBFGS, with PyTorch's names for states and hyper-parameters. Of
/// any other class, and of a class derived from these, the entry has the learning rates and `"state": "not saved"`: the
/// run goes on and its weights are kept, but it cannot be resumed from this checkpoint. A tensor that is in `optimizer`
/// and not in `named_parameters` is called `unregistered.<group>.<position>`.
///
/// The tensors are the live ones, not copies. Called by the thread that steps the optimizer.
void append_optimizer_state(Checkpoint& checkpoint, std::size_t index, torch::optim::Optimizer& optimizer,
                            const std::vector<std::pair<std::string, torch::Tensor>>& named_parameters);

/// Puts the state and the hyper-parameters (the checkpoint's, not those that `optimizer` was made with) back; the
/// tensors are copied to the device, the type and the strides of their parameters. Called by the thread that steps the
/// optimizer.
///
/// Throws UsageError, with `optimizer` unchanged, when the checkpoint does not hold this optimizer's state, holds that
/// of another class, has other groups, names or shapes (all that differ are listed), or values out of their range.
void load_optimizer_state(const Checkpoint& checkpoint, std::size_t index, torch::optim::Optimizer& optimizer,
                          const std::vector<std::pair<std::string, torch::Tensor>>& named_parameters);

}  // namespace troupe
