// Reads a file that may be gzipped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

struct gzFile_s;

namespace troupe {

/// Reads a plain or gzipped file from front to back; which of the two it is, the file itself says. Memory grows with
/// what was read, never with what a header claims. Belongs to one thread.
class GzFile {
 public:
  /// Throws UsageError when the file cannot be opened.
  explicit GzFile(std::filesystem::path path);
  ~GzFile();
  GzFile(const GzFile&) = delete;
  GzFile& operator=(const GzFile&) = delete;

  /// Reads up to `count` bytes and returns how many; fewer only at the end. Throws UsageError for damaged data.
  std::size_t read(void* to, std::size_t count);
  /// Exactly `count` bytes; throws UsageError naming the offset, `what` was expected there and how much was found.
  std::vector<uint8_t> read_exactly(std::size_t count, const std::string& what);
  /// The next line without its end ("\n", "\r\n" or "\r"); false at the end of the file. Throws UsageError for one
  /// longer than `longest` characters.
  bool read_line(std::string& line, std::size_t longest);
  /// Bytes read so far, uncompressed.
  int64_t offset() const { return offset_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  bool fill();
  void skip_one();

  std::filesystem::path path_;
  gzFile_s* file_;
  int64_t offset_ = 0;
  std::vector<char> buffer_;  // of read_line and what comes after it
  std::size_t next_ = 0;
  std::size_t filled_ = 0;
};

}  // namespace troupe
