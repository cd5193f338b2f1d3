#include "troupe/runtime/checkpoint/any_weights.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/sharded_safetensors.hpp"
#include "troupe/runtime/weights/pth_file.hpp"

#include <string_view>
#include <unordered_map>
#include <utility>

namespace troupe {

namespace {

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

}  // namespace

AnyWeights read_any_weights(const std::filesystem::path& path, const std::string& key) {
  if (is_pth(path)) return {.tensors = pth_weights(path, key)};
  if (!key.empty()) {
    throw UsageError(
        path.string() + ": key = \"" + shown(key) +
        "\" belongs to files of torch.save; this one has one set of weights (prefix takes a part of them)");
  }
  const ShardedSafetensors file(path);
  return CheckpointFile::is_checkpoint(file) ? weights_of_checkpoint(file.path()) : weights_of_others(file);
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
