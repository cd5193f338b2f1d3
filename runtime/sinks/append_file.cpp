#include "troupe/runtime/sinks/append_file.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/file_lock.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace troupe {
namespace {

constexpr std::size_t kBufferBytes = 64 * 1024;

std::string reason(int error) {
  return std::generic_category().message(error);
}

int open_flags(AppendFile::Existing existing) {
  int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
  if (existing == AppendFile::Existing::replace) flags |= O_TRUNC;
  if (existing == AppendFile::Existing::refuse) flags |= O_EXCL;
  return flags;
}

}  // namespace

void create_output_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw UsageError("cannot create the folder '" + folder.string() + "': " + error.message());
  if (!std::filesystem::is_directory(folder, error)) {
    throw UsageError("cannot write to '" + folder.string() + "': " + reason(ENOTDIR));
  }
}

AppendFile::AppendFile(std::filesystem::path path, Existing existing) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), open_flags(existing), 0666);
  if (descriptor_ < 0) throw UsageError("cannot write '" + path_.string() + "': " + reason(errno));
}

AppendFile AppendFile::temporary(const std::filesystem::path& folder) {
  return create_temporary(folder,
                          [](const auto& path) { return AppendFile(path, create_locked(path, O_APPEND, 0666)); });
}

AppendFile::AppendFile(AppendFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      buffer_(std::exchange(other.buffer_, {})) {}

AppendFile& AppendFile::operator=(AppendFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(buffer_, other.buffer_);
  return *this;
}

AppendFile::~AppendFile() {
  if (descriptor_ < 0) return;
  try {
    flush();
  } catch (const std::exception&) {
    // A destructor has nobody to tell; flush() reported the same failure to those who asked.
  }
  ::close(descriptor_);
}

void AppendFile::append(std::string_view record) {
  buffer_ += record;
  if (buffer_.size() >= kBufferBytes) flush();
}

void AppendFile::flush() {
  std::size_t written = 0;
  while (written < buffer_.size()) {
    ssize_t count = ::write(descriptor_, buffer_.data() + written, buffer_.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      int error = errno;
      buffer_.erase(0, written);
      throw std::runtime_error("cannot write '" + path_.string() + "': " + reason(error));
    }
    written += static_cast<std::size_t>(count);
  }
  buffer_.clear();
}

void AppendFile::sync() {
  flush();
  if (::fsync(descriptor_) != 0) {
    throw std::runtime_error("cannot write '" + path_.string() + "' to the disk: " + reason(errno));
  }
}

void AppendFile::rename_to(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::rename(path_, path, error);
  if (error) {
    throw std::runtime_error("cannot rename '" + path_.string() + "' to '" + path.string() + "': " + error.message());
  }
  path_ = path;
}

}  // namespace troupe
