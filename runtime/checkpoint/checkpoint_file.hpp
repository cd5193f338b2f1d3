// Checkpoints on disk. docs/checkpoint-format.md describes the file.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/checkpoint/file_system.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe {

class ShardedSafetensors;

/// Files of checkpoints end so.
inline constexpr std::string_view checkpoint_extension = ".safetensors";

/// What a checkpoint that follows on one of `former` has for its `saved_at`: now, in seconds since 1970, or the next
/// number where a clock was put back, or ran ahead when the other was written.
double saved_at_after(double former);

/// Writes `checkpoint` to `path` and returns when the disk has it: a temporary file in the same folder (which is
/// created if it is missing), fsync, rename, fsync of the folder. At any moment, a power failure included, `path` is
/// what it was before or the whole new file. After an exception no temporary file is left. `saved_at` (seconds since
/// 1970) is added to the metadata unless it is there.
///
/// Any thread may call, several at a time on different paths; the tensors must not change meanwhile. Throws UsageError
/// for what cannot be stored, FileError with path and reason for what the file system refuses.
void write_checkpoint(const Checkpoint& checkpoint, const std::filesystem::path& path,
                      FileSystem& files = real_file_system());

/// A checkpoint opened for reading tensor by tensor. Its header and its metadata were verified. Executes nothing of the
/// file, and asks for no memory before the sizes in the header were checked. Any thread may call. Everything throws
/// CheckpointError that names the file, the tensor and what is wrong.
class CheckpointFile {
 public:
  explicit CheckpointFile(const std::filesystem::path& path);
  explicit CheckpointFile(std::shared_ptr<const SafetensorsFile> file);

  /// Whether a safetensors file says that it is a checkpoint of this library.
  static bool is_checkpoint(const SafetensorsFile& file);
  static bool is_checkpoint(const ShardedSafetensors& file);

  /// In the order of the header.
  const std::vector<SafetensorsEntry>& entries() const { return file_->entries(); }
  const nlohmann::json& metadata() const { return metadata_; }
  nlohmann::json take_metadata() { return std::move(metadata_); }
  int64_t format_version() const;

  /// The tensor, its checksum verified, in memory of its own.
  torch::Tensor read(const SafetensorsEntry& entry) const;

 private:
  void read_envelope(nlohmann::json envelope);

  std::shared_ptr<const SafetensorsFile> file_;
  nlohmann::json metadata_, checksums_;
};

/// Reads a checkpoint whole and verifies every checksum. Executes nothing of it, and asks for no memory before the
/// sizes in the header were checked. Throws CheckpointError that names the file, the tensor and what is wrong.
Checkpoint read_checkpoint(const std::filesystem::path& path);

/// The metadata alone, verified; reads the header and not the tensors. Throws like read_checkpoint.
nlohmann::json read_checkpoint_metadata(const std::filesystem::path& path);

}  // namespace troupe
