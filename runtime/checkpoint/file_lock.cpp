#include "troupe/runtime/checkpoint/file_lock.hpp"

#include "troupe/runtime/checkpoint/file_system.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

namespace troupe {

namespace {

// Between a file's creation and its lock somebody may have deleted it, or deleted it and made another one.
bool has_name(int descriptor, const std::filesystem::path& path) {
  struct stat open {
  }, named{};
  return ::fstat(descriptor, &open) == 0 && ::lstat(path.c_str(), &named) == 0 && open.st_dev == named.st_dev &&
         open.st_ino == named.st_ino;
}

std::string read_machine_id() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  std::erase(id, '-');
  return id.find_first_not_of("0123456789abcdef") == std::string::npos ? id : "";
}

}  // namespace

int create_locked(const std::filesystem::path& path, int flags, mode_t mode) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | flags, mode);
  if (descriptor < 0) throw FileError("create", path, errno);
  if (writer_of(descriptor) != Writer::holds_it && has_name(descriptor, path)) return descriptor;
  ::close(descriptor);
  throw FileError("create", path, EEXIST);
}

Writer writer_of(int descriptor) {
  int result = 0;
  do {
    result = ::flock(descriptor, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return Writer::is_gone;
  return errno == EWOULDBLOCK ? Writer::holds_it : Writer::cannot_be_told;
}

const std::string& machine_id() {
  static const std::string id = read_machine_id();
  return id;
}

}  // namespace troupe
