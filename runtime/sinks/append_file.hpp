// A file that sinks append whole records to.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

namespace troupe {

/// Creates `folder` and its parents where missing. Throws UsageError with the path and the system's reason.
void create_output_folder(const std::filesystem::path& folder);

/// Buffered appending that reports every failed write with the path and the reason.
///
/// A record is appended in one call and reaches the file in the same write as its neighbours, so that a process that is
/// killed leaves whole records behind. After a failed write (a full disk) the bytes that are not in the file yet stay
/// in the buffer: a later flush goes on where the failed one stopped. Not thread-safe.
class AppendFile {
 public:
  enum class Existing { keep, replace, refuse };

  /// Throws UsageError with the path and the system's reason when the file can not be opened.
  AppendFile(std::filesystem::path path, Existing existing);
  /// A new file in `folder` under a name that no other has; one that a killed process leaves is deleted by a later run
  /// (remove_abandoned_files). Throws FileError.
  static AppendFile temporary(const std::filesystem::path& folder);
  AppendFile(AppendFile&& other) noexcept;
  AppendFile& operator=(AppendFile&& other) noexcept;
  /// Writes what is buffered; a failure is lost here, so flush before.
  ~AppendFile();

  /// Throws std::runtime_error when the buffer is full and can not be written.
  void append(std::string_view record);
  /// Makes everything appended visible to readers. Throws std::runtime_error with path and reason.
  void flush();
  /// Like flush, and waits until the disk has it.
  void sync();
  /// Gives the file another name in the same file system, replacing what had that name.
  void rename_to(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  /// Bytes that wait in memory.
  std::size_t buffered() const { return buffer_.size(); }
  /// Records that end there, if each is a line; the first may be in the file in part.
  int64_t buffered_lines() const { return std::ranges::count(buffer_, '\n'); }

 private:
  AppendFile(std::filesystem::path path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::string buffer_;
};

}  // namespace troupe
