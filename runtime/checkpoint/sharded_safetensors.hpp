// A model's tensors in one safetensors file or in several with an index, as Hugging Face's libraries keep them:
//
//     const ShardedSafetensors weights("gpt2/");       // or model.safetensors, or model.safetensors.index.json
//     auto embedding = weights.read("wte.weight");     // its pages are read when they are used
//     auto block = weights.read_matching("h.0.*");
//
//     write_sharded_safetensors(named_model_tensors(*model), "out", {.max_shard_bytes = 2'000'000'000});
#pragma once

#include "troupe/runtime/checkpoint/file_system.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace troupe {

struct ShardedEntry : SafetensorsEntry {
  std::size_t shard = 0;  ///< position in shards()
};

/// Opened for reading: all headers were checked whole, as SafetensorsFile does, and no tensor was read. Executes
/// nothing of the files. Any thread may call. Everything throws CheckpointError.
///
/// What the index says is checked against what the shards hold: each of its tensors has to be in the shard that it
/// names. Tensors that it does not name are there all the same, as in transformers and huggingface_hub; `unindexed`
/// lists them.
class ShardedSafetensors {
 public:
  /// A file, an index or a folder (find_safetensors).
  explicit ShardedSafetensors(const std::filesystem::path& source, TensorMemory memory = TensorMemory::mapped);

  /// What can be read, shard by shard in the order of the headers.
  const std::vector<ShardedEntry>& entries() const { return entries_; }
  /// Names that were left out when the model was saved, since their memory is that of another tensor, and that tensor
  /// (`save_model` of the safetensors package and save_torch_model of huggingface_hub note them in the metadata).
  const std::map<std::string, std::string, std::less<>>& tied() const { return tied_; }
  /// The entry of that name, or of the tensor that it is tied to; nullptr if there is none.
  const ShardedEntry* find(std::string_view name) const;

  /// Throws with the nearest name for one that is not there, and for a type that LibTorch does not have.
  torch::Tensor read(std::string_view name) const;
  torch::Tensor read(const ShardedEntry& entry) const { return files_[entry.shard]->read(entry); }
  NamedTensors read(std::span<const std::string> names) const;
  /// Those whose whole name matches, `*` for any text and `?` for a character ("layers.*.weight"), tied ones too.
  /// Throws if none does.
  NamedTensors read_matching(std::string_view pattern) const;
  /// All, tied ones behind the others: these share memory.
  NamedTensors read_all() const { return read_matching("*"); }

  /// The texts in the headers, the first of a key, and in the metadata of the index, which come first.
  const SafetensorsMetadata& metadata() const { return metadata_; }
  /// Bytes of all tensors.
  uint64_t total_size() const;
  /// The file or the index that was opened.
  const std::filesystem::path& path() const { return path_; }
  bool has_index() const { return has_index_; }
  /// The files, links followed if there is an index.
  std::vector<std::filesystem::path> shards() const;
  const std::vector<std::string>& unindexed() const { return unindexed_; }

 private:
  void open_index(TensorMemory memory);
  void add_shard(const std::string& name, const std::map<std::string, std::string, std::less<>>* weight_map);
  void find_tied();

  std::filesystem::path path_;
  bool has_index_ = false;
  std::vector<std::unique_ptr<const SafetensorsFile>> files_;
  std::vector<ShardedEntry> entries_;
  std::unordered_map<std::string, std::size_t> by_name_;
  SafetensorsMetadata metadata_;
  std::map<std::string, std::string, std::less<>> tied_;
  std::vector<std::string> unindexed_;
};

struct ShardOptions {
  /// A shard gets no more bytes of tensors; one that is larger has a shard to itself. huggingface_hub's default.
  uint64_t max_shard_bytes = 5'000'000'000;
  /// `name`.safetensors if one file is enough, else `name`-00001-of-00003.safetensors and
  /// `name`.safetensors.index.json.
  std::string name = "model";
  /// Texts for the one file's header, beside `format: pt`, or for the index.
  SafetensorsMetadata metadata = {};
  /// F64, F32, F16 and BF16 are stored in this type; everything else stays as it is.
  std::optional<torch::ScalarType> dtype = std::nullopt;
  /// Takes the place of the model of that name in the folder; false: throws if there is one.
  bool overwrite = false;
};

struct WrittenShards {
  std::vector<std::filesystem::path> files;  ///< the shards, then the index if there is one
  uint64_t total_size = 0;                   ///< bytes of the tensors
  std::map<std::string, std::string> tied;   ///< names left out, and the tensor that each is the same as
};

/// Writes a model as huggingface_hub's save_torch_state_dict does, with the same division into shards: transformers,
/// accelerate and huggingface_hub load it. Of names for one tensor (the same memory, shape and strides) the first in
/// the alphabet is stored, and the others are noted in the metadata; unlike there, tensors that share memory in another
/// way are each stored whole.
///
/// Each file is written atomically and the index last. With `overwrite` the former index or file goes first: whoever
/// looks meanwhile finds no model, and never one of old and new parts. Any thread may call; the tensors must not change
/// meanwhile. Throws UsageError for what cannot be stored, before anything is written, and FileError.
WrittenShards write_sharded_safetensors(std::span<const std::pair<std::string, torch::Tensor>> tensors,
                                        const std::filesystem::path& folder, const ShardOptions& options = {},
                                        FileSystem& files = real_file_system());

}  // namespace troupe
