// Weights out of a file of whatever format.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <functional>
#include <map>
#include <string>

namespace troupe {

struct AnyWeights {
  NamedTensors tensors;
  /// Tensors that cannot be read, by name, and why.
  std::map<std::string, std::string, std::less<>> unreadable = {};
  /// A checkpoint's; other files have none.
  nlohmann::json metadata = nlohmann::json::object();
};

/// The weights of a model, by the names that they have in their module; the format is found by the content:
///  - a file of torch.save, with `key` as in pth_weights; its tensors are mapped;
///  - a checkpoint: its model's tensors, each verified, in memory of their own; the optimizer's are not read;
///  - any other safetensors file, an index of several or a folder with either (find_safetensors), as Python's
///    `safetensors.torch.save_file(model.state_dict(), path)` and the models of the Hugging Face Hub are. Its tensors
///    are mapped (TensorMemory::mapped), those of types that LibTorch does not have are only named.
///
/// Throws CheckpointError or UsageError (read_pth) for what cannot be read, and UsageError for a `key` of a file that
/// has none.
AnyWeights read_any_weights(const std::filesystem::path& path, const std::string& key = {});

/// The same as a checkpoint that has nothing but weights and metadata, as load_model_state takes it.
Checkpoint read_weights(const std::filesystem::path& path);

}  // namespace troupe
