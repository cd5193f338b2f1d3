#include "troupe/runtime/data/files/file_kind.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/file_system.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

namespace troupe {

namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

constexpr std::array<std::pair<std::string_view, FileKind>, 12> kSignatures = {{
    {"PK\3\4"sv, FileKind::zip},
    {"PK\5\6"sv, FileKind::zip},
    {"\x93NUMPY"sv, FileKind::npy},
    {"\x1f\x8b"sv, FileKind::gzip},
    {"BZh"sv, FileKind::bzip2},
    {"\xfd"
     "7zXZ\0"sv,
     FileKind::xz},
    {"\x28\xb5\x2f\xfd"sv, FileKind::zstd},
    {"GGUF"sv, FileKind::gguf},
    {"\x89HDF\r\n\x1a\n"sv, FileKind::hdf5},
    {"version https://git-lfs.github.com/"sv, FileKind::git_lfs},
    {"version https://hawser.github.com/"sv, FileKind::git_lfs},
    {"\xef\xbb\xbf<"sv, FileKind::html},  // the mark of UTF-8
}};

/// A length of at most 100 MB, little endian, and the header's first byte.
bool begins_as_safetensors(std::string_view bytes) {
  return bytes.size() > 8 && bytes[8] == '{' && bytes.substr(4, 4) == "\0\0\0\0"sv &&
         static_cast<unsigned char>(bytes[3]) <= 5;
}

/// The opcode PROTO with a version that there is.
bool begins_as_pickle(std::string_view bytes) {
  return bytes.size() > 2 && bytes[0] == '\x80' && bytes[1] >= 1 && bytes[1] <= 5;
}

bool is_html(std::string_view text) {
  const auto start = small_letters(std::string(text.substr(0, 16)));
  return start.starts_with("<!doctype html") || start.starts_with("<html") || start.starts_with("<!--") ||
         start.starts_with("<?xml") || start.starts_with("<head");
}

/// Names that somebody may have meant are near, or differ in their ending alone.
bool is_near(const std::string& name, const std::string& other) {
  const auto stem = fs::path(name).stem().string();
  return stem == fs::path(other).stem().string() ||
         edit_distance(name, other) <= std::max<std::size_t>(1, stem.size() / 3);
}

std::vector<std::string> names_in(const fs::path& folder) {
  constexpr std::size_t most = 10'000;
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (const fs::directory_iterator end; !error && entry != end && names.size() < most; entry.increment(error)) {
    auto name = entry->path().filename().string();
    if (!name.starts_with('.')) names.push_back(std::move(name));
  }
  std::ranges::sort(names);  // the same answer each time
  return names;
}

}  // namespace

FileKind file_kind(std::string_view beginning) {
  if (begins_as_safetensors(beginning)) return FileKind::safetensors;
  for (const auto& [signature, kind] : kSignatures) {
    if (beginning.starts_with(signature)) return kind;
  }
  if (begins_as_pickle(beginning)) return FileKind::pickle;
  if (beginning.size() >= 262 && beginning.substr(257, 5) == "ustar") return FileKind::tar;
  const auto text = beginning.substr(std::min(beginning.find_first_not_of(" \t\r\n"), beginning.size()));
  if (is_html(text)) return FileKind::html;
  if (text.starts_with('{') || text.starts_with('[')) return FileKind::json;
  return FileKind::unknown;
}

FileKind file_kind(const InputFile& file) {
  std::array<char, file_kind_bytes> beginning;
  const auto got = file.read(0, std::as_writable_bytes(std::span(beginning)));
  return file_kind(std::string_view(beginning.data(), got));
}

FileKind file_kind(const fs::path& path) try { return file_kind(InputFile(path)); } catch (const FileError&) {
  return FileKind::unknown;
}

std::string describe(FileKind kind) {
  switch (kind) {
    case FileKind::unknown: return "";
    case FileKind::safetensors: return "a safetensors file";
    case FileKind::zip: return "a zip archive, such as torch.save writes";
    case FileKind::pickle: return "a pickle, such as torch.save of PyTorch before 1.6 writes";
    case FileKind::npy: return "an array of numpy's, which read_npy reads";
    case FileKind::gzip: return "packed by gzip; unpack it first (gunzip)";
    case FileKind::bzip2: return "packed by bzip2; unpack it first (bunzip2)";
    case FileKind::xz: return "packed by xz; unpack it first (unxz)";
    case FileKind::zstd: return "packed by zstd; unpack it first (unzstd)";
    case FileKind::tar: return "a tar archive; unpack it first (tar -xf)";
    case FileKind::gguf: return "a GGUF file, which is not read; take the model's safetensors";
    case FileKind::hdf5: return "an HDF5 file, which is not read; save the weights as safetensors";
    case FileKind::html: return "a page of HTML, as a failed download leaves; download the file again";
    case FileKind::json:
      return "JSON text; an index of shards has to be called *.json, and a failed download is to be repeated";
    case FileKind::git_lfs: return "a pointer of Git LFS in place of the file; git lfs pull fetches it";
  }
  return "";
}

std::string nearest_file_hint(const fs::path& path) {
  std::error_code error;
  if (path.empty() || fs::exists(path, error) || error) return "";
  // The first part of the path that is not there: a folder may be.
  fs::path missing = path.has_filename() ? path : path.parent_path(), folder;
  while (true) {
    folder = missing.parent_path();
    if (folder.empty() || folder == missing || fs::is_directory(folder, error)) break;
    missing = folder;
  }
  const auto name = missing.filename().string();
  auto names = names_in(folder.empty() ? fs::path(".") : folder);
  std::erase_if(names, [&](const auto& other) { return !is_near(name, other); });
  if (names.empty()) return "";
  return "; did you mean '" + shown((folder / nearest(name, names)).string()) + "'?";
}

}  // namespace troupe
