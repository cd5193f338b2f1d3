#include "troupe/runtime/data/files/file_reader.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/checkpoint/file_system.hpp"
#include "troupe/runtime/data/files/file_kind.hpp"

#include <utility>

namespace troupe {

namespace {

FileReader::Source open_input_file(const std::filesystem::path& path) {
  auto file = std::make_shared<const InputFile>(path);
  return {.size = static_cast<int64_t>(file->size()), .read = [file](int64_t offset, std::span<std::byte> into) {
            return file->read(static_cast<uint64_t>(offset), into);
          }};
}

}  // namespace

FileReader::FileReader(std::filesystem::path path, RetryPolicy policy, Open open)
    : path_(std::move(path)), policy_(std::move(policy)), open_(open ? std::move(open) : open_input_file) {
  check(policy_);
  try {
    size_ = with_retries(policy_, [&] { return source()->size; });
  } catch (const std::system_error& error) {
    throw UsageError(error.what() + nearest_file_hint(path_));
  }
}

std::shared_ptr<const FileReader::Source> FileReader::source() const {
  const std::lock_guard lock(mutex_);
  if (!source_) source_ = std::make_shared<const Source>(open_(path_));
  return source_;
}

void FileReader::read_at(int64_t offset, void* to, std::size_t count) const {
  const std::span into(static_cast<std::byte*>(to), count);
  std::size_t got = 0;
  try {
    got = with_retries(policy_, [&] {
      const auto from = source();
      try {
        return from->read(offset, into);
      } catch (const std::system_error&) {
        const std::lock_guard lock(mutex_);
        if (source_ == from) source_ = nullptr;  // unless another thread has opened it anew
        throw;
      }
    });
  } catch (const std::system_error& error) {
    throw UsageError(std::string(error.what()) + ", at byte " + std::to_string(offset));
  }
  if (got == count) return;
  throw UsageError("'" + path_.string() + "' ends at byte " + std::to_string(offset + static_cast<int64_t>(got)) +
                   ", but " + std::to_string(count) + " bytes are needed from byte " + std::to_string(offset) +
                   " on: it is incomplete, or was changed while it was read");
}

std::string FileReader::read_all(int64_t most_bytes) const {
  if (size_ > most_bytes) {
    throw UsageError("'" + path_.string() + "' has " + std::to_string(size_) + " bytes, more than the " +
                     std::to_string(most_bytes) + " that are read at most");
  }
  std::string bytes(static_cast<std::size_t>(size_), '\0');
  read_at(0, bytes.data(), bytes.size());
  return bytes;
}

}  // namespace troupe
