#include "troupe/runtime/data/tokens/text_bytes.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/gz_file.hpp"

#include <algorithm>
#include <string>
#include <system_error>

namespace troupe {

namespace {

namespace fs = std::filesystem;

/// The files that `path` stands for.
std::vector<fs::path> files_of(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return {path};
  std::vector<fs::path> files;
  fs::directory_iterator entries(path, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    std::error_code ignored;
    const bool is_hidden = entries->path().filename().string().starts_with('.');
    if (!is_hidden && entries->symlink_status(ignored).type() == fs::file_type::regular) {
      files.push_back(entries->path());
    }
  }
  if (error) throw UsageError("cannot read the folder " + path.string() + ": " + error.message());
  if (files.empty()) throw UsageError("the folder " + path.string() + " holds no file of its own to read text from");
  std::ranges::sort(files);
  return files;
}

void append_file(std::vector<uint8_t>& bytes, const fs::path& path, int64_t most_bytes) {
  constexpr std::size_t chunk = std::size_t{1} << 18;
  GzFile file(path);
  for (std::size_t got = chunk; got == chunk;) {
    const std::size_t before = bytes.size();
    bytes.resize(before + chunk);
    got = file.read(bytes.data() + before, chunk);
    bytes.resize(before + got);
    if (static_cast<int64_t>(bytes.size()) <= most_bytes) continue;
    throw UsageError(path.string() + ": with it the text has more than " + std::to_string(most_bytes) + " bytes");
  }
}

}  // namespace

torch::Tensor read_bytes(const std::vector<fs::path>& paths, int64_t most_bytes) {
  if (paths.empty()) throw UsageError("no file was named to read text from");
  auto bytes = std::make_unique<std::vector<uint8_t>>();
  for (const auto& path : paths) {
    for (const auto& file : files_of(path)) append_file(*bytes, file, most_bytes);
  }
  if (bytes->empty()) {
    throw UsageError(paths.front().string() + (paths.size() > 1 ? " and the other files hold" : " holds") + " no text");
  }
  auto* owner = bytes.release();
  return torch::from_blob(
      owner->data(), {static_cast<int64_t>(owner->size())}, [owner](void*) { delete owner; }, torch::kUInt8);
}

}  // namespace troupe
