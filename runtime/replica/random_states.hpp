// The random numbers of a rank, as a checkpoint has them.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint.hpp"

#include <torch/types.h>

#include <string>
#include <utility>
#include <vector>

namespace troupe {

using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

/// The states of the calling thread's generator and, for a GPU, of the device's.
NamedTensors random_states(torch::Device device);
/// Takes them from a checkpoint that has them.
void restore_random_states(const Checkpoint& state, torch::Device device);

}  // namespace troupe
