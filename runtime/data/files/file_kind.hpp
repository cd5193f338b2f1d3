// What to say of a file that is not the one that a reader needs, or is not there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace troupe {

class InputFile;

/// What a file's first bytes show.
enum class FileKind : uint8_t {
  unknown,
  safetensors,
  zip,  ///< torch.save's, among others
  pickle,
  npy,
  gzip,
  bzip2,
  xz,
  zstd,
  tar,
  gguf,
  hdf5,
  html,
  json,
  git_lfs,  ///< a pointer of Git LFS (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)
};

/// So many bytes of a file tell its kind.
inline constexpr std::size_t file_kind_bytes = 512;

FileKind file_kind(std::string_view beginning);
FileKind file_kind(const InputFile& file);
/// Unknown if it cannot be read.
FileKind file_kind(const std::filesystem::path& path);

/// What such a file is, and what to do with it, behind "it is" or "but": "a zip archive, such as torch.save writes".
/// Empty for FileKind::unknown.
std::string describe(FileKind kind);

/// Of a path that is not there, behind what the system says: "; did you mean 'model.pt'?" if there is a file or a
/// folder of nearly the same name; empty if there is none, or if the path is there.
std::string nearest_file_hint(const std::filesystem::path& path);

}  // namespace troupe
