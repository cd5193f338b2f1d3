// The index of a model in several safetensors files, `model.safetensors.index.json`, as transformers, accelerate and
// huggingface_hub write it: {"metadata": {"total_size": 8}, "weight_map": {"layer.weight":
// "model-00001-of-00002.safetensors"}} (https://huggingface.co/docs/transformers/big_models).
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace troupe {

/// What follows a model's name in the name of its index.
inline constexpr std::string_view safetensors_index_ending = ".safetensors.index.json";
/// The longest index that is read: that of a model of a million tensors.
inline constexpr uint64_t max_safetensors_index = 100'000'000;

struct SafetensorsIndex {
  std::map<std::string, std::string, std::less<>> weight_map;  ///< tensor to shard, as the index spells it
  nlohmann::json metadata = nlohmann::json::object();          ///< whatever it holds, if it is an object
};

/// Reads strictly: JSON without a key twice, a `weight_map` of texts, shards that are *.safetensors, or have another
/// `shard_ending`, below the index's folder: no absolute paths, no "..". Further keys are passed over. Throws
/// CheckpointError.
SafetensorsIndex read_safetensors_index(const std::filesystem::path& path,
                                        std::string_view shard_ending = ".safetensors");

/// Throws CheckpointError, naming them, unless `has` says of each of the index's tensors that its shard has it.
void check_listed(const std::filesystem::path& index, const SafetensorsIndex& content,
                  const std::function<bool(const std::string& tensor)>& has);

/// The file that `shard` of the index at `index` is, links followed. Throws CheckpointError for one that is missing or
/// lies outside of the index's folder; in the cache of the Hugging Face Hub it may be among the blobs of its
/// repository.
std::filesystem::path find_shard(const std::filesystem::path& index, const std::string& shard);

struct SafetensorsSource {
  std::filesystem::path path;  ///< a file
  bool is_index = false;
};

/// Whether a folder has a safetensors file or an index of some.
bool has_safetensors(const std::filesystem::path& folder);

/// What a user means by `path`: a safetensors file; an index (*.json); or a folder with model.safetensors, or with
/// model.safetensors.index.json, or with one file of another name that is either. As in transformers the file comes
/// before the index. Opens nothing. Throws CheckpointError for a folder without such a file or with several.
SafetensorsSource find_safetensors(const std::filesystem::path& path);

}  // namespace troupe
