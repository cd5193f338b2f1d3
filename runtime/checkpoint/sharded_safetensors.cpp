#include "troupe/runtime/checkpoint/sharded_safetensors.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/safetensors_index.hpp"

#include <algorithm>
#include <numeric>
#include <set>

#include <fnmatch.h>

namespace troupe {

ShardedSafetensors::ShardedSafetensors(const std::filesystem::path& source, TensorMemory memory) {
  const auto found = find_safetensors(source);
  path_ = found.path;
  has_index_ = found.is_index;
  if (has_index_) {
    open_index(memory);
  } else {
    files_.push_back(std::make_unique<const SafetensorsFile>(path_, memory));
    add_shard("", nullptr);
  }
  find_tied();
}

void ShardedSafetensors::open_index(TensorMemory memory) {
  const auto index = read_safetensors_index(path_);
  for (const auto& [key, value] : index.metadata.items()) {
    if (value.is_string()) metadata_.emplace(key, value.get<std::string>());
  }
  std::set<std::string> names;
  for (const auto& [tensor, shard] : index.weight_map) names.insert(shard);
  for (const auto& name : names) {
    files_.push_back(std::make_unique<const SafetensorsFile>(find_shard(path_, name), memory));
    add_shard(name, &index.weight_map);
  }
  check_listed(path_, index, [&](const std::string& tensor) { return by_name_.contains(tensor); });
}

/// Adds the entries of the latest file, which the index calls `name`.
void ShardedSafetensors::add_shard(const std::string& name,
                                   const std::map<std::string, std::string, std::less<>>* weight_map) {
  const auto& file = *files_.back();
  for (const auto& entry : file.entries()) {
    const bool is_indexed = weight_map && weight_map->contains(entry.name);
    if (is_indexed && weight_map->at(entry.name) != name) continue;  // the one that the index means is in another shard
    if (weight_map && !is_indexed) unindexed_.push_back(entry.name);
    if (!by_name_.emplace(entry.name, entries_.size()).second) {
      throw CheckpointError(path_, "tensor '" + shown(entry.name) +
                                       "' is in several shards, and the index does not say " + "which is meant");
    }
    entries_.push_back({entry, files_.size() - 1});
  }
  for (const auto& [key, text] : file.metadata()) metadata_.emplace(key, text);
}

void ShardedSafetensors::find_tied() {
  for (const auto& [key, text] : metadata_) {
    if (key != "format" && !by_name_.contains(key) && by_name_.contains(text)) tied_.emplace(key, text);
  }
}

const ShardedEntry* ShardedSafetensors::find(std::string_view name) const {
  const auto tied = tied_.find(name);
  const auto found = by_name_.find(tied == tied_.end() ? std::string(name) : tied->second);
  return found == by_name_.end() ? nullptr : &entries_[found->second];
}

torch::Tensor ShardedSafetensors::read(std::string_view name) const {
  if (const auto* entry = find(name)) return read(*entry);
  std::vector<std::string> known;
  for (const auto& entry : entries_) known.push_back(entry.name);
  throw CheckpointError(path_, "it has no tensor '" + shown(name) + "'" +
                                   (known.empty() ? "" : "; did you mean '" + shown(nearest(name, known)) + "'?"));
}

NamedTensors ShardedSafetensors::read(std::span<const std::string> names) const {
  NamedTensors out;
  for (const auto& name : names) out.emplace_back(name, read(name));
  return out;
}

NamedTensors ShardedSafetensors::read_matching(std::string_view pattern) const {
  const std::string glob(pattern);
  const auto matches = [&](const std::string& name) {
    return glob == "*" || ::fnmatch(glob.c_str(), name.c_str(), 0) == 0;
  };
  NamedTensors out;
  std::unordered_map<std::string_view, std::size_t> read_as;  // tied names share what was read
  for (const auto& entry : entries_) {
    if (!matches(entry.name)) continue;
    read_as.emplace(entry.name, out.size());
    out.emplace_back(entry.name, read(entry));
  }
  for (const auto& [name, kept] : tied_) {
    if (!matches(name)) continue;
    const auto found = read_as.find(kept);
    out.emplace_back(name, found == read_as.end() ? read(kept) : out[found->second].second);
  }
  if (out.empty() && glob != "*") {
    throw CheckpointError(path_, "none of its " + std::to_string(entries_.size()) + " tensors matches '" + shown(glob) +
                                     "'" +
                                     (entries_.empty() ? "" : "; the first is '" + shown(entries_[0].name) + "'"));
  }
  return out;
}

uint64_t ShardedSafetensors::total_size() const {
  return std::accumulate(entries_.begin(), entries_.end(), uint64_t{0},
                         [](uint64_t sum, const auto& entry) { return sum + (entry.end - entry.begin); });
}

std::vector<std::filesystem::path> ShardedSafetensors::shards() const {
  std::vector<std::filesystem::path> out;
  for (const auto& file : files_) out.push_back(file->path());
  return out;
}

}  // namespace troupe
