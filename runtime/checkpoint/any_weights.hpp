// Weights out of whatever file holds them.
#pragma once

#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <filesystem>

namespace troupe {

/// The weights of a model by the names that the model has for them ("layer.weight"), and nothing else of the file: out
/// of a checkpoint (verified), a safetensors file, an index, or a folder that has one of them (find_safetensors). Names
/// that share a tensor share memory. Tensors of safetensors files that are no checkpoints lie in the mapped files
/// (TensorMemory::mapped). Executes nothing of the files. Any thread may call.
///
/// Throws CheckpointError for what cannot be read, and for a tensor of a type that LibTorch does not have.
NamedTensors read_any_weights(const std::filesystem::path& path);

}  // namespace troupe
