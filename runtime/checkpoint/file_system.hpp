// What checkpoints need of a file system, behind an interface, so that a test can let every single call fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <system_error>

namespace troupe {

/// A call to the file system failed. what() reads "cannot write '/runs/a.safetensors': No space left on device".
class FileError : public std::system_error {
 public:
  /// `action` is a verb, `error` a value of errno.
  FileError(const std::string& action, std::filesystem::path path, int error);
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// A file being written. Used by one thread at a time; every function throws FileError. The destructor closes the file
/// and says nothing of errors: call sync() and close() before. Its writer has a lock on it (file_lock.hpp) until the
/// destructor, after close() too.
class OutputFile {
 public:
  virtual ~OutputFile() = default;
  /// Writes all of `bytes`, in as many calls of write_some as it takes.
  void write(std::span<const std::byte> bytes);
  /// Waits until the disk has what was written.
  virtual void sync() = 0;
  /// Gives the file the permissions that the user's new files have (0666 less the umask); until then it is 0600.
  virtual void publish() = 0;
  virtual void close() = 0;
  const std::filesystem::path& path() const { return path_; }

 protected:
  explicit OutputFile(std::filesystem::path path) : path_(std::move(path)) {}
  /// Writes some bytes from the front and returns how many: at least one.
  virtual std::size_t write_some(std::span<const std::byte> bytes) = 0;

 private:
  std::filesystem::path path_;
};

/// The calls that change something on a disk. Any thread may call; every function throws FileError.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  /// A new file, readable by its owner alone. Fails with EEXIST where anything has that name, a link included.
  virtual std::unique_ptr<OutputFile> create(const std::filesystem::path& path) = 0;
  /// Gives `from` the name `to` in one step, in place of what had that name.
  virtual void rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  /// Removes a file; one that is not there is no error.
  virtual void remove(const std::filesystem::path& path) = 0;
  virtual void create_folders(const std::filesystem::path& folder) = 0;
  /// Waits until the disk has the names in `folder`.
  virtual void sync_folder(const std::filesystem::path& folder) = 0;
};

/// The operating system's.
FileSystem& real_file_system();

/// A regular file opened for reading at any position. What is not a regular file is refused without waiting for it, so
/// a named pipe cannot block the caller. Any thread may call. Throws FileError.
class InputFile {
 public:
  explicit InputFile(std::filesystem::path path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  /// Bytes when it was opened.
  uint64_t size() const { return size_; }
  /// Fills `into` from `offset` on; returns how many bytes there were, fewer only at the end of the file.
  std::size_t read(uint64_t offset, std::span<std::byte> into) const;
  /// All of size() bytes, fewer if the file has become shorter. Callers refuse sizes first that their files never have.
  std::string read_all() const;
  const std::filesystem::path& path() const { return path_; }
  /// For calls of the system; it stays this object's.
  int descriptor() const { return descriptor_; }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

}  // namespace troupe
