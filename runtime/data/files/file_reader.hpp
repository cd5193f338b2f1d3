// Reads files of data at any position, and goes on when the file system fails for a moment.
#pragma once

#include "troupe/runtime/data/files/retry.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>

namespace troupe {

/// An opened regular file. A read that fails for a reason that may pass is tried again as the policy says, with the
/// file opened anew, since a handle of a network file system that was away is of no use any more. Any thread may call.
class FileReader {
 public:
  /// What reading takes: the file's size in bytes, and a function that reads some bytes at an offset, fewer only at the
  /// end, and throws std::system_error.
  struct Source {
    int64_t size = 0;
    std::function<std::size_t(int64_t offset, std::span<std::byte> into)> read;
  };
  /// Opens a source; throws std::system_error. A test gives one of its own.
  using Open = std::function<Source(const std::filesystem::path& path)>;

  /// Throws UsageError for a file that cannot be opened, naming it, and for a policy that cannot be.
  explicit FileReader(std::filesystem::path path, RetryPolicy policy = {}, Open open = nullptr);

  /// Bytes when it was opened first.
  int64_t size() const { return size_; }
  /// Reads exactly `count` bytes from `offset` on. Throws UsageError naming the file and the offset: for a read that
  /// fails, and for a file that ends before.
  void read_at(int64_t offset, void* to, std::size_t count) const;
  /// The whole file. Throws UsageError as read_at does, and for a file of more than `most_bytes`.
  std::string read_all(int64_t most_bytes = int64_t{1} << 33) const;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::shared_ptr<const Source> source() const;

  std::filesystem::path path_;
  RetryPolicy policy_;
  Open open_;
  int64_t size_ = 0;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const Source> source_;  // null after a read that failed
};

}  // namespace troupe
