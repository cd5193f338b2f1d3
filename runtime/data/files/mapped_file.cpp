#include "troupe/runtime/data/files/mapped_file.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/checkpoint/file_system.hpp"
#include "troupe/runtime/data/files/file_kind.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace troupe {

namespace {

/// A descriptor that is closed at the end of its block: a map does not need it any more.
class DescriptorToMap {
 public:
  explicit DescriptorToMap(const std::filesystem::path& path)
      : number_(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
    if (number_ >= 0) return;
    const std::string reason = std::strerror(errno);
    throw UsageError("cannot open " + path.string() + ": " + reason + nearest_file_hint(path));
  }
  ~DescriptorToMap() { ::close(number_); }
  DescriptorToMap(const DescriptorToMap&) = delete;
  DescriptorToMap& operator=(const DescriptorToMap&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

}  // namespace

MappedFile::MappedFile(std::filesystem::path path, const MapOptions& options) : path_(std::move(path)) {
  const DescriptorToMap file(path_);
  struct stat status {};
  if (::fstat(file.number(), &status) != 0) {
    throw UsageError("cannot open " + path_.string() + ": " + std::strerror(errno));
  }
  if (S_ISDIR(status.st_mode)) throw UsageError(path_.string() + " is a folder; a file was expected");
  if (!S_ISREG(status.st_mode)) {
    throw UsageError(path_.string() + " is no regular file; what is mapped into memory has to be one");
  }
  size_ = static_cast<std::size_t>(status.st_size);
  map(file.number(), options);
}

MappedFile::MappedFile(const InputFile& file, const MapOptions& options)
    : path_(file.path()), size_(static_cast<std::size_t>(file.size())) {
  map(file.descriptor(), options);
}

void MappedFile::map(int descriptor, const MapOptions& options) {
  if (size_ == 0) return;  // the system maps no empty ones
  // No reserve: memory is needed for pages that are written to, not for the whole of a large file.
  void* const address = options.copy_on_write
                            ? ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, descriptor, 0)
                            : ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor, 0);
  if (address == MAP_FAILED) {
    throw UsageError("cannot map " + path_.string() + " into memory: " + std::strerror(errno));
  }
  address_ = address;
  // Advice: a system that cannot take it reads all the same.
  if (options.access == AccessPattern::sequential) ::madvise(address_, size_, MADV_SEQUENTIAL);
  if (options.access == AccessPattern::random) ::madvise(address_, size_, MADV_RANDOM);
}

MappedFile::~MappedFile() {
  if (address_) ::munmap(address_, size_);
}

void MappedFile::will_need(std::size_t offset, std::size_t length) const {
  if (offset >= size_) return;
  static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t begin = offset / page * page;
  ::madvise(static_cast<std::byte*>(address_) + begin, std::min(offset + length, size_) - begin, MADV_WILLNEED);
}

}  // namespace troupe
