#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/safetensors_index.hpp"
#include "troupe/runtime/checkpoint/sharded_safetensors.hpp"
#include "troupe/runtime/checkpoint/stored_dtype.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>
#include <tuple>
#include <unordered_set>

namespace troupe {
namespace {

namespace fs = std::filesystem;
using TensorSpan = std::span<const std::pair<std::string, torch::Tensor>>;

/// Keys of the metadata that mean something else than a name.
constexpr std::array<std::string_view, 3> kTakenKeys = {"format", "total_size", "__metadata__"};

uint64_t bytes_to_store(const torch::Tensor& tensor, const ShardOptions& options) {
  return static_cast<uint64_t>(tensor.numel()) * c10::elementSize(dtype_to_store(tensor.scalar_type(), options.dtype));
}

void check_model(TensorSpan tensors, const ShardOptions& options) {
  if (options.max_shard_bytes == 0) throw UsageError("max_shard_bytes is 0; a shard needs room for a tensor");
  if (options.name.empty() || options.name.find('/') != options.name.npos || options.name.starts_with('.')) {
    throw UsageError("name is '" + shown(options.name) + "'; files are called by a name without a folder, as 'model'");
  }
  check_dtype_to_store(options.dtype);
  std::unordered_set<std::string_view> names = {"__metadata__"};
  for (const auto& [name, tensor] : tensors) {
    check_storable(name, tensor);
    if (!names.insert(name).second) throw UsageError("tensor '" + shown(name) + "' is to be stored twice");
    if (!is_utf8(name)) throw UsageError("the name of tensor '" + shown(name) + "' is not UTF-8");
  }
  for (const auto& [key, text] : options.metadata) {
    if (!is_utf8(key) || !is_utf8(text)) throw UsageError("the metadata '" + shown(key) + "' are not UTF-8");
  }
}

/// Of the names of one tensor all but the first in the alphabet, each with that.
std::map<std::string, std::string> tied_names(TensorSpan tensors) {
  using Memory = std::tuple<c10::Device, const void*, torch::ScalarType, std::vector<int64_t>, std::vector<int64_t>>;
  const auto less = [](const Memory& a, const Memory& b) {
    const auto key = [](const Memory& m) {
      return std::tuple(std::get<0>(m).type(), std::get<0>(m).index(), std::get<1>(m), std::get<2>(m), std::get<3>(m),
                        std::get<4>(m));
    };
    return key(a) < key(b);
  };
  std::map<Memory, std::set<std::string>, decltype(less)> same(less);
  for (const auto& [name, tensor] : tensors) {
    if (tensor.nbytes() == 0 || std::ranges::find(kTakenKeys, name) != kTakenKeys.end()) continue;
    same[{tensor.device(), tensor.const_data_ptr(), tensor.scalar_type(), tensor.sizes().vec(), tensor.strides().vec()}]
        .insert(name);
  }
  std::map<std::string, std::string> tied;
  for (const auto& [memory, names] : same) {
    for (auto name = std::next(names.begin()); name != names.end(); ++name) tied.emplace(*name, *names.begin());
  }
  return tied;
}

using Shard = std::vector<std::pair<std::string, torch::Tensor>>;

/// As split_state_dict_into_shards_factory of huggingface_hub 2.4: in the order given; a tensor that is too large comes
/// into a shard of its own, and the one that was begun goes on.
std::vector<Shard> divided(TensorSpan tensors, const std::map<std::string, std::string>& tied,
                           const ShardOptions& options) {
  std::vector<Shard> shards;
  Shard current;
  uint64_t size = 0;
  for (const auto& each : tensors) {
    if (tied.contains(each.first)) continue;
    const auto bytes = bytes_to_store(each.second, options);
    if (bytes > options.max_shard_bytes) {
      shards.push_back({each});
      continue;
    }
    if (size + bytes > options.max_shard_bytes) {
      shards.push_back(std::exchange(current, {}));
      size = 0;
    }
    current.push_back(each);
    size += bytes;
  }
  if (!current.empty() || shards.empty()) shards.push_back(std::move(current));
  return shards;
}

std::string shard_name(const std::string& name, std::size_t i, std::size_t count) {
  std::array<char, 48> suffix;
  std::snprintf(suffix.data(), suffix.size(), "-%05zu-of-%05zu", i + 1, count);
  return name + suffix.data() + ".safetensors";
}

/// Whether `file` is "<name>-00001-of-00003.safetensors".
bool is_shard_name(std::string_view file, std::string_view name) {
  constexpr std::string_view digits = "-#####-of-#####.safetensors";
  if (!file.starts_with(name) || file.size() != name.size() + digits.size()) return false;
  return std::ranges::equal(file.substr(name.size()), digits,
                            [](char c, char pattern) { return pattern == '#' ? c >= '0' && c <= '9' : c == pattern; });
}

/// Files of a model of that name in `folder`: those that make it one first.
std::vector<fs::path> files_of_model(const fs::path& folder, const std::string& name) {
  std::vector<fs::path> found, shards;
  std::error_code error;
  for (const auto& ending : {std::string(safetensors_index_ending), std::string(".safetensors")}) {
    if (fs::exists(fs::symlink_status(folder / (name + ending), error))) found.push_back(folder / (name + ending));
  }
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (is_shard_name(entry->path().filename().string(), name)) shards.push_back(entry->path());
  }
  std::ranges::sort(shards);
  found.insert(found.end(), shards.begin(), shards.end());
  return found;
}

void write_shard(const fs::path& path, const Shard& shard, const SafetensorsMetadata& metadata,
                 const ShardOptions& options, FileSystem& files) {
  Shard stored;
  for (const auto& [name, tensor] : shard) {
    stored.emplace_back(name, tensor.detach().to(dtype_to_store(tensor.scalar_type(), options.dtype)));
  }
  write_atomically(
      path, [&](OutputFile& file) { write_safetensors(file, stored, metadata); }, files);
}

void write_index(const fs::path& path, const std::vector<Shard>& shards, nlohmann::json metadata,
                 const std::string& name, FileSystem& files) {
  nlohmann::json map = nlohmann::json::object();
  for (std::size_t i = 0; i < shards.size(); ++i) {
    for (const auto& [tensor, value] : shards[i]) map[tensor] = shard_name(name, i, shards.size());
  }
  const nlohmann::json index = {{"metadata", std::move(metadata)}, {"weight_map", std::move(map)}};
  write_text_atomically(path, index.dump(2) + "\n", files);
}

}  // namespace

WrittenShards write_sharded_safetensors(TensorSpan tensors, const fs::path& folder, const ShardOptions& options,
                                        FileSystem& files) {
  check_model(tensors, options);
  const auto former = files_of_model(folder, options.name);
  if (!former.empty() && !options.overwrite) {
    throw UsageError("'" + shown(former[0].string()) + "' is there already; overwrite (--force) replaces it");
  }
  WrittenShards written;
  written.tied = tied_names(tensors);
  const auto shards = divided(tensors, written.tied, options);
  for (const auto& shard : shards) {
    for (const auto& [name, tensor] : shard) written.total_size += bytes_to_store(tensor, options);
  }
  auto texts = options.metadata;
  for (const auto& [name, kept] : written.tied) texts.insert_or_assign(name, kept);
  const bool is_one = shards.size() == 1;
  // What makes the old shards a model goes first, so that no reader takes old and new ones for one. The one file is
  // replaced in a step.
  for (const auto& path : former) {
    const bool is_file = path.filename() == options.name + ".safetensors";
    const bool is_index = path.filename() == options.name + std::string(safetensors_index_ending);
    if (is_index || (is_file && !is_one)) files.remove(path);
  }
  for (std::size_t i = 0; i < shards.size(); ++i) {
    auto metadata = is_one ? texts : SafetensorsMetadata();
    metadata.insert_or_assign("format", "pt");
    const auto name = is_one ? options.name + ".safetensors" : shard_name(options.name, i, shards.size());
    written.files.push_back(folder / name);
    write_shard(folder / name, shards[i], metadata, options, files);
  }
  if (!is_one) {
    nlohmann::json metadata = texts;
    metadata["total_size"] = written.total_size;
    written.files.push_back(folder / (options.name + std::string(safetensors_index_ending)));
    write_index(written.files.back(), shards, std::move(metadata), options.name, files);
  }
  for (const auto& path : former) {
    if (std::ranges::find(written.files, path) == written.files.end()) files.remove(path);
  }
  return written;
}

}  // namespace troupe
