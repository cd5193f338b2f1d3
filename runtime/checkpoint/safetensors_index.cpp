#include "troupe/runtime/checkpoint/safetensors_index.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/file_system.hpp"
#include "troupe/runtime/checkpoint/strict_json.hpp"
#include "troupe/runtime/data/files/file_kind.hpp"

#include <algorithm>
#include <system_error>
#include <vector>

namespace troupe {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view safetensors_ending = ".safetensors";

std::string text_of_index(const fs::path& path) try {
  const InputFile file(path);
  if (file.size() > max_safetensors_index) {
    throw CheckpointError(path, "it has " + std::to_string(file.size()) + " bytes, more than the 100 MB of an index");
  }
  return file.read_all();
} catch (const FileError& error) {
  throw CheckpointError(path, error.code().message() + nearest_file_hint(path));
}

/// Of any system: an index may have been written on another one.
bool leaves_its_folder(const std::string& shard) {
  if (shard.find('\\') != shard.npos || shard.find(':') != shard.npos || shard.find('\0') != shard.npos) return true;
  const fs::path path(shard);
  return path.is_absolute() || std::ranges::any_of(path, [](const auto& part) { return part == ".."; });
}

void check_shard_name(const fs::path& index, const std::string& tensor, const std::string& shard,
                      std::string_view ending) {
  const auto refuse = [&](const std::string& why) {
    throw CheckpointError(index, "its weight_map has '" + shown(tensor) + "' in '" + shown(shard) + "', which " + why);
  };
  if (leaves_its_folder(shard)) refuse("may leave the folder; shards are named relative to the index, without '..'");
  if (!shard.ends_with(ending) || fs::path(shard).stem().empty()) refuse("is no *" + std::string(ending) + " file");
}

bool lies_below(const fs::path& file, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), file.begin(), file.end()).first == folder.end();
}

/// The cache of the Hub has each file once, as <repository>/blobs/<hash>, and links to them below
/// <repository>/snapshots/<revision>/ (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
fs::path blobs_of(fs::path folder) {
  for (; folder.has_relative_path(); folder = folder.parent_path()) {
    if (folder.filename() == "snapshots") return folder.parent_path() / "blobs";
  }
  return {};
}

/// Names in `folder` with that ending, in order.
std::vector<fs::path> files_ending_in(const fs::path& folder, std::string_view ending) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const auto name = entry->path().filename().string();
    if (name.ends_with(ending) && !name.starts_with('.')) found.push_back(entry->path());
  }
  if (error) throw CheckpointError(folder, error.message());
  std::ranges::sort(found);
  return found;
}

}  // namespace

SafetensorsIndex read_safetensors_index(const fs::path& path, std::string_view shard_ending) {
  nlohmann::json json;
  const auto text = text_of_index(path);
  try {
    json = parse_strict_json(text);
  } catch (const UsageError& error) {
    const auto kind = file_kind(std::string_view(text).substr(0, file_kind_bytes));
    const bool is_other = kind != FileKind::unknown && kind != FileKind::json;
    throw CheckpointError(path, is_other ? "this is not an index of shards but " + describe(kind) : error.what());
  }
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (!json.is_object() || map == json.end() || !map->is_object()) {
    throw CheckpointError(path, "it is no index of shards: it has no object 'weight_map'");
  }
  SafetensorsIndex index;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string()) {
      throw CheckpointError(path, "its weight_map has for '" + shown(tensor) + "' no text but " + shown(shard.dump()));
    }
    check_shard_name(path, tensor, shard.get_ref<const std::string&>(), shard_ending);
    index.weight_map.emplace_hint(index.weight_map.end(), tensor, shard.get<std::string>());
  }
  const auto metadata = json.find("metadata");
  if (metadata != json.end() && metadata->is_object()) index.metadata = std::move(*metadata);
  return index;
}

void check_listed(const fs::path& index, const SafetensorsIndex& content,
                  const std::function<bool(const std::string& tensor)>& has) {
  std::vector<std::string> missing;
  const std::string* shard = nullptr;
  for (const auto& [tensor, where] : content.weight_map) {
    if (has(tensor)) continue;
    missing.push_back("'" + shown(tensor) + "'");
    if (!shard) shard = &where;
  }
  if (missing.empty()) return;
  throw CheckpointError(index, "it says that '" + shown(*shard) + "' has the tensor " + missing[0] +
                                   ", which is not there" +
                                   (missing.size() == 1 ? "" : "; missing in all: " + brief_list(missing)));
}

fs::path find_shard(const fs::path& index, const std::string& shard) {
  const auto parent = index.parent_path();
  std::error_code error;
  const auto folder = fs::canonical(parent.empty() ? fs::path(".") : parent, error);
  if (error) throw CheckpointError(index, error.message());
  auto file = fs::canonical(folder / shard, error);
  if (error) throw CheckpointError(index, "its shard '" + shown(shard) + "' is missing: " + error.message());
  const auto blobs = blobs_of(folder);
  if (!lies_below(file, folder) && (blobs.empty() || !lies_below(file, blobs))) {
    throw CheckpointError(index, "its shard '" + shown(shard) + "' is a link out of the folder, to " +
                                     shown(file.string()) + "; copy the file into the folder");
  }
  return file;
}

bool has_safetensors(const fs::path& folder) {
  return !files_ending_in(folder, safetensors_ending).empty() ||
         !files_ending_in(folder, safetensors_index_ending).empty();
}

SafetensorsSource find_safetensors(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return {path, path.extension() == ".json"};
  const auto file = path / "model.safetensors", index = path / "model.safetensors.index.json";
  if (fs::exists(file, error)) return {file, false};
  if (fs::exists(index, error)) return {index, true};
  const auto files = files_ending_in(path, safetensors_ending),
             indexes = files_ending_in(path, safetensors_index_ending);
  if (indexes.size() == 1) return {indexes[0], true};
  if (indexes.empty() && files.size() == 1) return {files[0], false};
  const auto& several = indexes.empty() ? files : indexes;
  if (several.empty()) {
    const bool has_bin =
        fs::exists(path / "pytorch_model.bin", error) || fs::exists(path / "pytorch_model.bin.index.json", error);
    throw CheckpointError(path, std::string("the folder has no *.safetensors file and no *.safetensors.index.json") +
                                    (has_bin ? "; load_weights reads its pytorch_model.bin, and troupe checkpoint "
                                               "convert makes safetensors of it"
                                             : ""));
  }
  std::vector<std::string> names;
  for (const auto& each : several) names.push_back(shown(each.filename().string()));
  throw CheckpointError(path, std::string("the folder has several ") +
                                  (indexes.empty() ? "files and no index" : "indexes") +
                                  "; name one of them: " + brief_list(names));
}

}  // namespace troupe
