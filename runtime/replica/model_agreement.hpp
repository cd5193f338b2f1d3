// All ranks have one model.
#pragma once

#include "troupe/runtime/replica/replica_core.hpp"

#include <torch/nn/module.h>
#include <torch/types.h>

#include <cstdint>

namespace troupe {

/// Compares the modules of all ranks and gives them rank zero's numbers. Throws UsageError that names the differences.
/// Collective.
void agree_on_weights(const torch::nn::Module& module, Peers& peers);
/// Has each rank but zero draw random numbers of its own from now on: dropout must not leave out the same units
/// everywhere.
void draw_own_numbers(uint64_t seed, const Peers& peers, torch::Device device);

/// Compares the models of all ranks, gives them rank zero's numbers, and has each rank draw random numbers of its own
/// from then on. Throws UsageError that names the differences. Collective; does nothing in a run of one worker.
void agree_on_model(ReplicaCore& core);

/// Makes the buffers those of rank zero, unless TrainerOptions::broadcast_buffers is off. Collective.
void broadcast_buffers(ReplicaCore& core);

}  // namespace troupe
