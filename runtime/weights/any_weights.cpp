#include "troupe/runtime/weights/any_weights.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"
#include "troupe/runtime/checkpoint/safetensors_index.hpp"
#include "troupe/runtime/checkpoint/sharded_safetensors.hpp"
#include "troupe/runtime/data/files/file_kind.hpp"
#include "troupe/runtime/weights/pth_file.hpp"

#include <set>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace troupe {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view bin_ending = ".bin";
constexpr std::string_view bin_index_ending = ".bin.index.json";

AnyWeights weights_of_checkpoint(const std::filesystem::path& path) {
  CheckpointFile file(path);
  AnyWeights out;
  for (const auto& entry : file.entries()) {
    if (const auto name = name_in_model(entry.name)) out.tensors.emplace_back(*name, file.read(entry));
  }
  out.metadata = file.take_metadata();
  return out;
}

AnyWeights weights_of_others(const ShardedSafetensors& file) {
  AnyWeights out;
  out.tensors.reserve(file.entries().size());
  std::unordered_map<std::string_view, torch::Tensor> read;
  for (const auto& entry : file.entries()) {
    if (entry.dtype == torch::ScalarType::Undefined) {
      out.unreadable.emplace(entry.name, why_unreadable(entry));
    } else {
      out.tensors.emplace_back(entry.name, read[entry.name] = file.read(entry));
    }
  }
  for (const auto& [name, kept] : file.tied()) {
    if (const auto found = read.find(kept); found != read.end()) {
      out.tensors.emplace_back(name, found->second);
    } else {
      out.unreadable.emplace(name, why_unreadable(*file.find(kept)));
    }
  }
  return out;
}

/// As ShardedSafetensors takes them: what the index does not name is there all the same.
NamedTensors weights_of_pth_index(const fs::path& path, const std::string& key) {
  const auto index = read_safetensors_index(path, bin_ending);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : index.weight_map) shards.insert(shard);
  NamedTensors out;
  std::unordered_set<std::string> names;
  for (const auto& shard : shards) {
    for (auto& [name, tensor] : pth_weights(find_shard(path, shard), key)) {
      const auto listed = index.weight_map.find(name);
      if (listed != index.weight_map.end() && listed->second != shard) continue;
      if (!names.insert(name).second) {
        throw CheckpointError(
            path, "tensor '" + shown(name) + "' is in several shards, and the index does not say which is meant");
      }
      out.emplace_back(name, std::move(tensor));
    }
  }
  check_listed(path, index, [&](const std::string& tensor) { return names.contains(tensor); });
  return out;
}

[[noreturn]] void refuse_to_go_on(const std::string& subject) {
  throw UsageError(subject +
                   " holds weights without the state of a run, so fit cannot go on from it; load_weights or "
                   "load_from_checkpoint puts them into a module that a new run begins with, and validate, test and "
                   "predict take them as ckpt_path");
}

}  // namespace

FoundWeights find_weights(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) {
    const auto reason = error ? error.message() : std::make_error_code(std::errc::no_such_file_or_directory).message();
    throw CheckpointError(path, reason + nearest_file_hint(path));
  }
  if (!fs::is_directory(path, error)) {
    if (path.string().ends_with(bin_index_ending)) return {path, true, true};
    return {path, is_pth(path), path.extension() == ".json"};
  }
  const auto bin = path / "pytorch_model.bin", index = path / "pytorch_model.bin.index.json";
  if (!has_safetensors(path)) {
    if (fs::exists(bin, error)) return {bin, true, false};
    if (fs::exists(index, error)) return {index, true, true};
  }
  const auto found = find_safetensors(path);
  return {found.path, false, found.is_index};
}

std::vector<fs::path> files_of(const FoundWeights& found) {
  if (!found.is_index) return {found.path};
  const auto index = found.is_pth ? read_safetensors_index(found.path, bin_ending) : read_safetensors_index(found.path);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : index.weight_map) shards.insert(shard);
  std::vector<fs::path> out;
  for (const auto& shard : shards) out.push_back(find_shard(found.path, shard));
  return out;
}

AnyWeights read_any_weights(const fs::path& path, const std::string& key) {
  const auto found = find_weights(path);
  if (found.is_pth) {
    return {.tensors = found.is_index ? weights_of_pth_index(found.path, key) : pth_weights(found.path, key)};
  }
  const ShardedSafetensors file(found.path);
  if (!key.empty()) {
    throw UsageError(
        path.string() + ": key = \"" + shown(key) +
        "\" belongs to files of torch.save; this one has one set of weights (prefix takes a part of them)");
  }
  return CheckpointFile::is_checkpoint(file) ? weights_of_checkpoint(file.path()) : weights_of_others(file);
}

void check_has_run(const Checkpoint& checkpoint, const std::string& what) {
  if (!checkpoint.metadata.contains(metadata_key::progress)) refuse_to_go_on(what);
}

Checkpoint read_run_checkpoint(const fs::path& path) {
  const auto found = find_weights(path);
  const auto name = "'" + found.path.string() + "'";
  if (found.is_pth) refuse_to_go_on(name + " is a file of torch.save: it");
  if (found.is_index) refuse_to_go_on(name + " is an index of safetensors files: it");
  const auto file = std::make_shared<const SafetensorsFile>(found.path);
  if (!CheckpointFile::is_checkpoint(*file)) {
    refuse_to_go_on(name + " is a safetensors file, but no checkpoint of Troupe's: it");
  }
  auto checkpoint = read_checkpoint(found.path);
  check_has_run(checkpoint, name);
  return checkpoint;
}

Checkpoint read_weights(const std::filesystem::path& path) {
  auto weights = read_any_weights(path);
  Checkpoint out;
  out.tensors.reserve(weights.tensors.size());
  for (auto& [name, tensor] : weights.tensors) out.tensors.emplace_back(name_in_checkpoint(name), std::move(tensor));
  for (auto& [name, why] : weights.unreadable) out.unreadable.emplace(name_in_checkpoint(name), std::move(why));
  out.metadata = std::move(weights.metadata);
  return out;
}

}  // namespace troupe
