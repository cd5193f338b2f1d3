// Files as memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace troupe {

class InputFile;

/// In which order the bytes are going to be read, for the system's read-ahead (madvise).
enum class AccessPattern { normal, sequential, random };

struct MapOptions {
  AccessPattern access = AccessPattern::normal;
  /// Memory that may be written to: what was written is this map's own and the file stays as it is (numpy's mmap_mode
  /// "c"). Without it a write ends the process.
  bool copy_on_write = false;
};

/// The bytes of a regular file, mapped into memory (https://man7.org/linux/man-pages/man2/mmap.2.html): the system
/// reads a page when it is first used and may drop it again, processes share it, and nothing is copied. Any thread may
/// read. Its size is that of the file when it was opened, which readers check what the file says against.
///
/// The file must not become shorter while it is mapped: the system then ends a process that uses a page beyond the new
/// end (SIGBUS). Replacing it by another file of its name (rename) is safe, the map keeps the old one.
class MappedFile {
 public:
  /// Throws UsageError naming the file, for what cannot be opened, for folders and for what is no regular file.
  explicit MappedFile(std::filesystem::path path, const MapOptions& options = {});
  /// The file that is open, whatever has its name by now, with the size that it had then. Throws as the above.
  explicit MappedFile(const InputFile& file, const MapOptions& options = {});
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(address_), size_}; }
  std::size_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }
  /// Asks the system to read these bytes in the background.
  void will_need(std::size_t offset, std::size_t length) const;

 private:
  void map(int descriptor, const MapOptions& options);

  std::filesystem::path path_;
  void* address_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace troupe
