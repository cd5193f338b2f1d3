#include "troupe/runtime/checkpoint/file_system.hpp"

#include "troupe/runtime/checkpoint/file_lock.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <fstream>
#include <optional>
#include <string_view>
#include <utility>

namespace troupe {

FileError::FileError(const std::string& action, std::filesystem::path path, int error)
    : std::system_error(error, std::generic_category(), "cannot " + action + " '" + path.string() + "'"),
      path_(std::move(path)) {}

void OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto written = write_some(bytes);
    if (written == 0 || written > bytes.size()) throw FileError("write", path_, EIO);
    bytes = bytes.subspan(written);
  }
}

namespace {

/// The permissions of new files. The system call that reads the umask also sets it, for all threads; /proc does not.
/// Where that is missing, files stay with their owner.
mode_t new_file_mode() {
  std::ifstream status("/proc/self/status");
  constexpr std::string_view key = "Umask:\t";
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with(key)) continue;
    unsigned umask = 0;
    const char* begin = line.data() + key.size();
    if (std::from_chars(begin, line.data() + line.size(), umask, 8).ec == std::errc()) return 0666 & ~umask;
  }
  return 0600;
}

class RealOutputFile : public OutputFile {
 public:
  RealOutputFile(std::filesystem::path path, int descriptor) : OutputFile(std::move(path)), descriptor_(descriptor) {}
  ~RealOutputFile() override {
    for (const int open : {descriptor_, lock_}) {
      if (open >= 0) ::close(open);
    }
  }
  void sync() override {
    if (::fsync(descriptor_) != 0) throw FileError("write", path(), errno);
  }
  void publish() override {
    // A file system without permissions refuses; then the file has what that file system gives all files.
    if (::fchmod(descriptor_, new_file_mode()) != 0 && errno != EPERM && errno != ENOTSUP) {
      throw FileError("set the permissions of", path(), errno);
    }
  }
  void close() override {
    // The lock stays as long as a duplicate does.
    lock_ = ::fcntl(descriptor_, F_DUPFD_CLOEXEC, 0);
    if (lock_ < 0) throw FileError("write", path(), errno);
    if (::close(std::exchange(descriptor_, -1)) != 0) throw FileError("write", path(), errno);
  }

 protected:
  std::size_t write_some(std::span<const std::byte> bytes) override {
    while (true) {
      const auto written = ::write(descriptor_, bytes.data(), bytes.size());
      if (written >= 0) return static_cast<std::size_t>(written);
      if (errno != EINTR) throw FileError("write", path(), errno);
    }
  }

 private:
  int descriptor_;
  int lock_ = -1;
};

class RealFileSystem : public FileSystem {
 public:
  std::unique_ptr<OutputFile> create(const std::filesystem::path& path) override {
    return std::make_unique<RealOutputFile>(path, create_locked(path, 0, 0600));
  }
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) throw FileError("write", to, errno);
  }
  void remove(const std::filesystem::path& path) override {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw FileError("remove", path, errno);
  }
  void create_folders(const std::filesystem::path& folder) override {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) throw FileError("create the folder", folder, error.value());
  }
  void sync_folder(const std::filesystem::path& folder) override {
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) throw FileError("open the folder", folder, errno);
    const int error = ::fsync(descriptor) == 0 ? 0 : errno;
    ::close(descriptor);
    // Some network file systems do not sync folders, and say so with EINVAL: there is nothing to wait for.
    if (error != 0 && error != EINVAL) throw FileError("write the folder", folder, error);
  }
};

}  // namespace

FileSystem& real_file_system() {
  static RealFileSystem file_system;
  return file_system;
}

InputFile::InputFile(std::filesystem::path path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor_ < 0) throw FileError("read", path_, errno);
  struct stat status {};
  int error = ::fstat(descriptor_, &status) == 0 ? 0 : errno;
  if (error == 0 && S_ISDIR(status.st_mode)) error = EISDIR;
  if (error == 0 && !S_ISREG(status.st_mode)) error = EINVAL;
  if (error != 0) {
    ::close(descriptor_);
    throw FileError("read", path_, error);
  }
  size_ = static_cast<uint64_t>(status.st_size);
}

InputFile::~InputFile() {
  ::close(descriptor_);
}

std::size_t InputFile::read(uint64_t offset, std::span<std::byte> into) const {
  std::size_t done = 0;
  while (done < into.size()) {
    const auto got = ::pread(descriptor_, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw FileError("read", path_, errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

std::string InputFile::read_all() const {
  std::string content(size_, '\0');
  content.resize(read(0, std::as_writable_bytes(std::span(content))));
  return content;
}

}  // namespace troupe
