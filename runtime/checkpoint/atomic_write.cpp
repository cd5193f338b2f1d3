#include "troupe/runtime/checkpoint/atomic_write.hpp"

#include "troupe/base/host_name.hpp"
#include "troupe/runtime/checkpoint/file_lock.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace troupe {

namespace {

constexpr std::string_view temporary_prefix = ".troupe-", temporary_ending = ".tmp";
constexpr int64_t seconds_of_a_day = 24 * 60 * 60;

bool is_temporary(std::string_view name) {
  return name.starts_with(temporary_prefix) && name.ends_with(temporary_ending);
}

bool is_of_this_machine(std::string_view name) {
  return !machine_id().empty() && name.ends_with("-" + machine_id() + std::string(temporary_ending));
}

int64_t modified(int descriptor) {
  struct stat status {};
  return ::fstat(descriptor, &status) == 0 ? static_cast<int64_t>(status.st_mtime) : INT64_MAX;
}

// What the file system in `folder` would write down for a file of this moment; nothing if none can be made. The
// system's clock is another one on a network's file system, and may be wrong.
std::optional<int64_t> file_time_now(const std::filesystem::path& folder) try {
  std::filesystem::path path;
  const int descriptor = create_temporary(folder, [&](auto name) { return create_locked(path = name, 0, 0600); });
  const auto now = modified(descriptor);
  ::unlink(path.c_str());
  ::close(descriptor);
  return now == INT64_MAX ? std::nullopt : std::optional(now);
} catch (const FileError&) {
  return std::nullopt;
}

// Nobody can take up an abandoned file, so what holds for it once holds until it is deleted.
bool delete_if_abandoned(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) return false;
  struct stat status {};
  bool is_abandoned = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  const auto writer = is_abandoned ? writer_of(descriptor) : Writer::holds_it;
  is_abandoned = writer != Writer::holds_it;
  if (is_abandoned && !(writer == Writer::is_gone && is_of_this_machine(path.filename().native()))) {
    const auto now = file_time_now(path.parent_path());
    is_abandoned = now && *now - modified(descriptor) > seconds_of_a_day;
  }
  is_abandoned = is_abandoned && ::unlink(path.c_str()) == 0;
  ::close(descriptor);
  return is_abandoned;
}

}  // namespace

std::filesystem::path temporary_path(const std::filesystem::path& folder) {
  static std::atomic<uint64_t> counter{0};
  return folder / (std::string(temporary_prefix) + host_name() + "-" + std::to_string(::getpid()) + "-" +
                   std::to_string(counter++) + "-" + machine_id() + std::string(temporary_ending));
}

void write_atomically(const std::filesystem::path& path, const std::function<void(OutputFile&)>& write,
                      FileSystem& files) {
  const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  files.create_folders(folder);
  auto file = create_temporary(folder, [&](const auto& name) { return files.create(name); });
  const auto temporary = file->path();
  try {
    write(*file);
    file->publish();
    file->sync();
    file->close();
    files.rename(temporary, path);
  } catch (...) {
    file.reset();
    try {
      files.remove(temporary);
    } catch (const std::exception&) {
      // The first failure is the one to report.
    }
    throw;
  }
  files.sync_folder(folder);
}

void write_text_atomically(const std::filesystem::path& path, std::string_view text, FileSystem& files) {
  write_atomically(
      path, [&](OutputFile& file) { file.write(std::as_bytes(std::span(text))); }, files);
}

std::size_t remove_abandoned_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found;  // the search for a time makes a file of its own
  std::error_code error;                     // what cannot be read or deleted stays
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (is_temporary(entry->path().filename().native())) found.push_back(entry->path());
  }
  return static_cast<std::size_t>(std::ranges::count_if(found, delete_if_abandoned));
}

}  // namespace troupe
