#include "troupe/runtime/data/text_dataset.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/data/gz_file.hpp"

#include <algorithm>
#include <string>
#include <system_error>
#include <utility>

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

std::string size_text(const torch::Tensor& tokens) {
  return "[" + joined(tokens.sizes()) + "] of " + c10::toString(tokens.scalar_type());
}

Batch batch_of(const torch::Tensor& windows) {
  const int64_t length = windows.size(-1) - 1;
  return Batch{{"input", windows.narrow(-1, 0, length).contiguous()},
               {"target", windows.narrow(-1, 1, length).contiguous()}};
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

NextTokenDataset::NextTokenDataset(torch::Tensor tokens, int64_t length, int64_t stride) {
  if (!tokens.defined()) throw UsageError("NextTokenDataset: the tokens are undefined");
  if (tokens.dim() != 1 || !c10::isIntegralType(tokens.scalar_type(), /*includeBool=*/false)) {
    throw UsageError("NextTokenDataset: the tokens are " + size_text(tokens) +
                     "; a sequence [N] of whole numbers was expected");
  }
  if (length < 1) throw UsageError("NextTokenDataset: length = " + std::to_string(length) + "; use at least 1");
  if (stride < 0) throw UsageError("NextTokenDataset: stride = " + std::to_string(stride) + "; use at least 1");
  if (tokens.size(0) <= length) {
    throw UsageError("NextTokenDataset: " + std::to_string(tokens.size(0)) + " tokens are too few for windows of " +
                     std::to_string(length) + " and the one that follows; use a length below " +
                     std::to_string(tokens.size(0)));
  }
  windows_ = tokens.unfold(0, length + 1, stride == 0 ? length : stride);
}

Batch NextTokenDataset::get(int64_t index) {
  return batch_of(windows_.select(0, index).to(torch::kInt64));
}

std::optional<Batch> NextTokenDataset::get_batch(at::IntArrayRef indices) {
  const auto count = static_cast<int64_t>(indices.size());
  // A view of the indices, which outlive this call, and no copy.
  const auto rows = torch::from_blob(const_cast<int64_t*>(indices.data()), {count}, torch::kInt64);
  return batch_of(windows_.index_select(0, rows.to(windows_.device())).to(torch::kInt64));
}

}  // namespace troupe
