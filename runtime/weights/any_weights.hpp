// Weights out of a file of whatever format.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace troupe {

struct AnyWeights {
  NamedTensors tensors;
  /// Tensors that cannot be read, by name, and why.
  std::map<std::string, std::string, std::less<>> unreadable = {};
  /// A checkpoint's; other files have none.
  nlohmann::json metadata = nlohmann::json::object();
};

/// The file that has the weights, and how they lie in it.
struct FoundWeights {
  std::filesystem::path path;
  bool is_pth = false;    ///< of torch.save's, or an index of such
  bool is_index = false;  ///< of shards
};

/// What a user means by `path`: a file whose content says what it is, an index (*.json, of torch.save's files if it is
/// called *.bin.index.json), or a folder: as find_safetensors has it, else with pytorch_model.bin or
/// pytorch_model.bin.index.json, as transformers wrote models before safetensors. Throws CheckpointError for a path
/// that is not there, naming the nearest, and for a folder without such a file or with several.
FoundWeights find_weights(const std::filesystem::path& path);

/// The files that hold the weights: the path itself, or the shards of an index, links followed. Throws CheckpointError.
std::vector<std::filesystem::path> files_of(const FoundWeights& found);

/// The weights of a model, by the names that they have in their module, of what find_weights finds:
///  - a file of torch.save, or several with an index, with `key` as in pth_weights; their tensors are mapped;
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

/// Throws UsageError if a run cannot go on from the checkpoint, which holds weights alone; `what` begins the sentence:
/// "the checkpoint", or its path.
void check_has_run(const Checkpoint& checkpoint, const std::string& what);

/// The checkpoint at `path` for a run to go on from. Throws CheckpointError for what cannot be read, and UsageError for
/// weights alone (a checkpoint of weights only, a safetensors file of another program's, a file of torch.save) that
/// says what it is and how a run begins with it.
Checkpoint read_run_checkpoint(const std::filesystem::path& path);

}  // namespace troupe
